//! What a schedule says, and the jobs it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::duration;
use super::pattern::Pattern;
use super::slots::{Known, Slot};
use super::when::When;
use crate::clock::Timestamp;
use crate::job::{
    CronRecord, DEFAULT_MAX_ATTEMPTS, Error, KeyMode, MAX_CRON_ID, MAX_KEY, MAX_TASK, NewJob,
    Payload, Result, check_queue, check_text,
};

/// The shortest interval.
const SHORTEST: Duration = Duration::from_secs(1);
/// The member of a payload that says which slot it is of.
const SLOT: &str = "_cron";
const UTC: &str = "UTC";

/// What becomes of slots that were missed: those that had no job within a minute, for no scheduler
/// ran, or the store was out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They pass without a job.
    #[default]
    Skip,
    /// The latest gets its job, unless it is older than this.
    Once(#[serde(with = "duration::text")] Duration),
    /// All that are not older than this get their jobs, oldest first.
    All(#[serde(with = "duration::text")] Duration),
}

/// When which job is to be added, again and again or once.
///
/// Its *slots* are the moments for which it adds a job. In JSON it is what is kept in the store.
///
/// ```
/// use kvjob::cron::{Missed, Schedule};
/// use std::time::Duration;
///
/// let report = Schedule::cron("report", "30 4 * * mon-fri")?
///     .time_zone("Europe/Zurich")?
///     .missed(Missed::Once(Duration::from_secs(86_400)))
///     .payload(&serde_json::json!({ "to": "ada" }))?;
/// let tidy = Schedule::every("tidy", Duration::from_secs(600))?.jitter(Duration::from_secs(60));
/// # drop((report, tidy));
/// # Ok::<(), kvjob::job::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Definition", into = "Definition")]
#[must_use = "a schedule does nothing until a scheduler has it, or it is added to a store"]
pub struct Schedule {
    id: Option<String>,
    task: String,
    when: When,
    missed: Missed,
    jitter: Duration,
    /// The members of the payload.
    payload: BTreeMap<String, Box<RawValue>>,
    priority: i16,
    max_attempts: u32,
    key: Option<String>,
    key_mode: Option<KeyMode>,
    queue: Option<String>,
}

/// A schedule in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    id: String,
    task: String,
    when: Said,
    #[serde(default)]
    missed: Missed,
    #[serde(default, with = "duration::text")]
    jitter: Duration,
    #[serde(default)]
    payload: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    priority: i16,
    #[serde(default = "default_attempts")]
    max_attempts: u32,
    #[serde(default)]
    key: Option<String>,
    /// The name of a [`KeyMode`].
    #[serde(default)]
    key_mode: Option<String>,
    #[serde(default)]
    queue: Option<String>,
}

/// A [`When`] in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    Cron { fields: String, time_zone: String },
    Every(#[serde(with = "duration::text")] Duration),
    At(Timestamp),
    After(#[serde(with = "duration::text")] Duration),
}

fn default_attempts() -> u32 {
    DEFAULT_MAX_ATTEMPTS
}

/// What a job's payload says of its slot.
#[derive(Serialize)]
struct OfSlot {
    ts: Timestamp,
    backfilled: bool,
}

impl Schedule {
    /// A job of this task at the times of five fields: minute, hour, day of the month, month, day of
    /// the week, with lists, ranges, steps and names; 7 is Sunday, too, and `L` the last day. If
    /// both days are restricted, either matches. In UTC, unless another
    /// [time zone](Self::time_zone) is said.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) (`bad-cron`) with the field that is wrong.
    pub fn cron(task: impl Into<String>, fields: &str) -> Result<Self> {
        let split: Vec<&str> = fields.split_whitespace().collect();
        let five = <[&str; 5]>::try_from(split).map_err(|split| {
            let message = format!(
                "{fields:?} has {} fields; it needs five: minute, hour, day of the month, month, day of the week",
                split.len()
            );
            Error::invalid("bad-cron", message)
        })?;
        let pattern = Pattern::of(five).map_err(|bad| Error::invalid("bad-cron", bad.message))?;
        Ok(Self::of_pattern(task.into(), pattern))
    }

    pub(super) fn of_pattern(task: String, pattern: Pattern) -> Self {
        Self::of_when(task, When::Cron(pattern, TimeZone::UTC))
    }

    /// A job of this task at the multiples of an interval since 1970-01-01T00:00:00Z, so that all
    /// processes agree on them: every ten minutes is at 00:00, 00:10 and so on.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) (`interval-too-short`) below a second.
    pub fn every(task: impl Into<String>, interval: Duration) -> Result<Self> {
        if interval < SHORTEST {
            let message = format!("an interval of {interval:?} is under the {SHORTEST:?} it needs");
            return Err(Error::invalid("interval-too-short", message));
        }
        Ok(Self::of_when(task.into(), When::Every(interval)))
    }

    /// One job of this task, at this time. None if that has passed when the schedule is first seen.
    pub fn at(task: impl Into<String>, time: Timestamp) -> Self {
        Self::of_when(task.into(), When::At(time))
    }

    /// One job of this task, this long after the schedule is first seen.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) (`interval-too-short`) below a second.
    pub fn after(task: impl Into<String>, delay: Duration) -> Result<Self> {
        if delay < SHORTEST {
            let message = format!("a delay of {delay:?} is under the {SHORTEST:?} it needs");
            return Err(Error::invalid("interval-too-short", message));
        }
        Ok(Self::of_when(task.into(), When::After(delay)))
    }

    fn of_when(task: String, when: When) -> Self {
        Self {
            id: None,
            task,
            when,
            missed: Missed::Skip,
            jitter: Duration::ZERO,
            payload: BTreeMap::new(),
            priority: 0,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            key: None,
            key_mode: None,
            queue: None,
        }
    }

    /// What it is known by, in all processes and for good: the task where not said.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The time zone of its fields, such as `Europe/Zurich`. How it goes through changes of the
    /// clock is said in the [module](super).
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): `unknown-time-zone`, or `no-fields` for a schedule that was not
    /// made by [`cron`](Self::cron).
    pub fn time_zone(mut self, name: &str) -> Result<Self> {
        let When::Cron(_, zone) = &mut self.when else {
            let message =
                format!("only a schedule with cron fields is in a time zone such as {name:?}");
            return Err(Error::invalid("no-fields", message));
        };
        *zone = find_zone(name)?;
        Ok(self)
    }

    /// What becomes of slots that were missed; they are skipped where not said.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Lets each job wait a while, up to this long, beyond its slot. How long depends on the
    /// schedule's id and the slot alone.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// The payload of its jobs: a JSON object, to which they add `_cron`, with the slot (`ts`) and
    /// whether it was `backfilled`. An empty one where not said.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): `payload-not-json`, `cron-payload` if it is no object or has a
    /// `_cron` of its own.
    pub fn payload<T: Serialize + ?Sized>(self, payload: &T) -> Result<Self> {
        let payload = Payload::of(payload)?;
        self.payload_json(payload.as_str())
    }

    /// As [`payload`](Self::payload), of JSON text.
    ///
    /// # Errors
    /// As [`payload`](Self::payload).
    pub fn payload_json(mut self, text: &str) -> Result<Self> {
        let payload = Payload::from_json(text)?;
        if !payload.as_str().trim_start().starts_with('{') {
            let message = "the payload of a schedule must be a JSON object, for its jobs add a \"_cron\" to it";
            return Err(Error::invalid("cron-payload", message));
        }
        self.payload = payload.parse()?;
        if self.payload.contains_key(SLOT) {
            let message = "the payload of a schedule must have no \"_cron\": its jobs say there which slot they are of";
            return Err(Error::invalid("cron-payload", message));
        }
        Ok(self)
    }

    /// The priority of its jobs: lower runs first; 0 where not said.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The most attempts of its jobs, at least 1; 25 where not said.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// The [job key](NewJob::key) of its jobs. A slot whose key another job has is settled all the
    /// same; what becomes of its job says the [mode](Self::key_mode). Where that is not said, the
    /// slot adds none while the last one still waits or runs, or has failed for good.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What a slot does if another job has the [key](Self::key); [`KeyMode::UnsafeDedupe`] where
    /// not said. With [`KeyMode::Replace`] a job that still waits becomes that of the new slot, and
    /// is due then; with [`KeyMode::PreserveRunAt`] it has the payload of the new slot, and is due
    /// when it was, unless it waits for a retry.
    pub fn key_mode(mut self, mode: KeyMode) -> Self {
        self.key_mode = Some(mode);
        self
    }

    /// The [serial queue](NewJob::queue) of its jobs: one of the queue runs at a time.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// What it is known by.
    pub fn known_as(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.task)
    }

    /// The task of its jobs.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// When it has its slots, in words: `30 4 * * 1-5 Europe/Zurich`, `every 10m`.
    pub fn when(&self) -> String {
        match &self.when {
            When::Cron(pattern, zone) => {
                format!("{} {}", pattern.as_str(), zone.iana_name().unwrap_or(UTC))
            }
            When::Every(interval) => format!("every {}", duration::format(*interval)),
            When::At(time) => format!("at {time}"),
            When::After(delay) => format!("after {}", duration::format(*delay)),
        }
    }

    /// The schedule that is kept in a store, or `None` if a program brings it along.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) (`cron-unreadable`) if it cannot be read: newer software may
    /// have written it.
    pub fn kept(record: &CronRecord) -> Result<Option<Self>> {
        let Some(definition) = &record.definition else {
            return Ok(None);
        };
        match serde_json::from_str(definition) {
            Ok(schedule) => Ok(Some(schedule)),
            Err(error) => {
                let message = format!(
                    "the schedule {:?} in the store cannot be read: {error}",
                    record.id
                );
                Err(Error::invalid("cron-unreadable", message))
            }
        }
    }

    /// The next slot after now, of what is kept of it: `None` if it has no more.
    pub fn next(&self, record: &CronRecord, now: Timestamp) -> Option<Timestamp> {
        self.known(record).next(now)
    }

    /// The first slot after a time, of a schedule that was first seen at `added_at`.
    pub fn next_after(&self, time: Timestamp, added_at: Timestamp) -> Option<Timestamp> {
        self.when.next(time, added_at)
    }

    pub(super) fn known(&self, record: &CronRecord) -> Known<'_> {
        Known {
            when: &self.when,
            missed: self.missed,
            added_at: record.added_at,
            settled: record.settled,
        }
    }

    /// Refuses what no job could be.
    pub(super) fn check(&self) -> Result<()> {
        check_text("task", &self.task, 1, MAX_TASK)?;
        check_text("the id of a schedule", self.known_as(), 1, MAX_CRON_ID)?;
        if let Some(key) = &self.key {
            check_text("job key", key, 1, MAX_KEY)?;
        } else if let Some(mode) = self.key_mode {
            let message = format!("the mode {mode} says nothing without a job key: give it one");
            return Err(Error::invalid("key-mode-without-key", message));
        }
        if let Some(queue) = &self.queue {
            check_queue(queue)?;
        }
        if self.max_attempts == 0 {
            let message = "max_attempts must be at least 1";
            return Err(Error::invalid("max-attempts-zero", message));
        }
        Ok(())
    }

    /// The job of a slot.
    pub(super) fn job(&self, slot: Slot) -> Result<NewJob> {
        let of_slot = serde_json::value::to_raw_value(&OfSlot {
            ts: slot.at,
            backfilled: slot.backfilled,
        });
        let of_slot = of_slot.map_err(|error| {
            Error::invalid("cron-payload", format!("the slot has no JSON: {error}"))
        })?;
        let mut payload: BTreeMap<&str, &RawValue> = self
            .payload
            .iter()
            .map(|(name, value)| (name.as_str(), &**value))
            .collect();
        payload.insert(SLOT, &of_slot);
        let job = NewJob::new(&self.task, &payload)?
            .run_at(slot.at.after(self.wait(slot.at)))
            .priority(self.priority)
            .max_attempts(self.max_attempts);
        let job = match &self.queue {
            Some(queue) => job.queue(queue),
            None => job,
        };
        Ok(match &self.key {
            Some(key) => job.key(key).key_mode(self.key_mode.unwrap_or_default()),
            None => job,
        })
    }

    /// How long the job of a slot waits.
    fn wait(&self, slot: Timestamp) -> Duration {
        let most = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        let mut hash = Sha256::new();
        hash.update(self.known_as());
        hash.update(slot.as_micros().to_be_bytes());
        let digits = hash.finalize();
        let number = digits
            .iter()
            .take(8)
            .fold(0u64, |n, b| (n << 8) | u64::from(*b));
        Duration::from_micros(match most.checked_add(1) {
            Some(choices) => number % choices,
            None => number,
        })
    }
}

fn find_zone(name: &str) -> Result<TimeZone> {
    if name == UTC {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|error| {
        let message = format!("{name:?} is no time zone such as Europe/Zurich: {error}");
        Error::invalid("unknown-time-zone", message)
    })
}

impl From<Schedule> for Definition {
    fn from(schedule: Schedule) -> Self {
        Self {
            id: schedule.known_as().to_owned(),
            when: match &schedule.when {
                When::Cron(pattern, zone) => Said::Cron {
                    fields: pattern.as_str().to_owned(),
                    time_zone: zone.iana_name().unwrap_or(UTC).to_owned(),
                },
                When::Every(interval) => Said::Every(*interval),
                When::At(time) => Said::At(*time),
                When::After(delay) => Said::After(*delay),
            },
            task: schedule.task,
            missed: schedule.missed,
            jitter: schedule.jitter,
            payload: schedule.payload,
            priority: schedule.priority,
            max_attempts: schedule.max_attempts,
            key: schedule.key,
            key_mode: schedule.key_mode.map(|mode| mode.as_str().to_owned()),
            queue: schedule.queue,
        }
    }
}

impl TryFrom<Definition> for Schedule {
    type Error = Error;

    fn try_from(said: Definition) -> Result<Self> {
        let schedule = match said.when {
            Said::Cron { fields, time_zone } => {
                Self::cron(said.task, &fields)?.time_zone(&time_zone)?
            }
            Said::Every(interval) => Self::every(said.task, interval)?,
            Said::At(time) => Self::at(said.task, time),
            Said::After(delay) => Self::after(said.task, delay)?,
        };
        let schedule = Self {
            id: Some(said.id),
            missed: said.missed,
            jitter: said.jitter,
            payload: said.payload,
            priority: said.priority,
            max_attempts: said.max_attempts,
            key: said.key,
            key_mode: said.key_mode.map(|mode| mode.parse()).transpose()?,
            queue: said.queue,
            ..schedule
        };
        schedule.check()?;
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn slot(text: &str, backfilled: bool) -> Slot {
        let at = text.parse().unwrap();
        Slot { at, backfilled }
    }

    #[test]
    fn a_job_says_which_slot_it_is_of_and_is_due_then() {
        let schedule = Schedule::cron("report", "0 4 * * *").unwrap();
        let schedule = schedule.payload_json(r#"{ "n": 1.50, "big": 123456789012345678901 }"#);
        let slot = slot("2026-03-01T04:00:00Z", true);
        let job = schedule
            .unwrap()
            .priority(-3)
            .max_attempts(4)
            .job(slot)
            .unwrap();
        assert_eq!(
            job.payload.as_str(),
            r#"{"_cron":{"ts":"2026-03-01T04:00:00Z","backfilled":true},"big":123456789012345678901,"n":1.50}"#
        );
        assert_eq!(job.run_at, Some(slot.at));
        assert_eq!(
            (job.priority, job.max_attempts, &*job.lane.task),
            (-3, 4, "report")
        );
    }

    #[test]
    fn a_payload_that_cannot_say_its_slot_is_refused_when_it_is_defined() {
        for bad in ["[1]", "null", "7", "\"x\"", r#"{"_cron":1}"#, "{"] {
            let schedule = Schedule::cron("t", "* * * * *").unwrap();
            assert!(schedule.payload_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn jitter_is_a_matter_of_schedule_and_slot_alone() {
        let schedule = |id: &str| Schedule::every("t", HOUR).unwrap().id(id).jitter(HOUR);
        let runs = |id: &str| -> Vec<Timestamp> {
            let slots = ["2026-03-01T04:00:00Z", "2026-03-01T05:00:00Z"];
            let job = |text| schedule(id).job(slot(text, false)).unwrap();
            slots.map(|text| job(text).run_at.unwrap()).to_vec()
        };
        assert_eq!(runs("a"), runs("a"));
        assert_ne!(runs("a"), runs("b"));
        let waits: Vec<Duration> = (0..100)
            .map(|n| schedule("a").wait(Timestamp::from_micros(n)))
            .collect();
        assert!(waits.iter().all(|wait| *wait <= HOUR));
        assert!(waits.iter().any(|wait| *wait < HOUR / 4));
        assert!(waits.iter().any(|wait| *wait > HOUR / 4 * 3));
        assert_eq!(
            schedule("a").jitter(Duration::ZERO).wait(Timestamp::MAX),
            Duration::ZERO
        );
    }

    #[test]
    fn what_is_kept_reads_back() {
        let cron = Schedule::cron("a", "*/5 1-3 L jan,feb MON").unwrap();
        let cron = cron
            .time_zone("America/New_York")
            .unwrap()
            .missed(Missed::All(HOUR));
        let all = [
            cron.id("nightly")
                .priority(3)
                .max_attempts(2)
                .key("k")
                .key_mode(KeyMode::PreserveRunAt)
                .queue("q")
                .jitter(HOUR),
            Schedule::every("b", HOUR)
                .unwrap()
                .missed(Missed::Once(HOUR)),
            Schedule::at("c", Timestamp::from_micros(5)),
            Schedule::after("d", HOUR)
                .unwrap()
                .payload_json(r#"{"x":[1, 2]}"#)
                .unwrap(),
        ];
        for schedule in all {
            let json = serde_json::to_string(&schedule).unwrap();
            let read: Schedule = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
            assert_eq!(read.when(), schedule.when());
        }
    }

    #[test]
    fn what_newer_software_says_is_not_passed_over() {
        let schedule = Schedule::every("b", HOUR).unwrap();
        let json = serde_json::to_string(&schedule).unwrap();
        let newer = json.replacen('{', r#"{"moon_phase":"full","#, 1);
        assert!(serde_json::from_str::<Schedule>(&newer).is_err());
    }

    #[test]
    fn what_no_schedule_can_be_is_refused_with_its_code() {
        let code = |result: Result<Schedule>| match result {
            Err(Error::Invalid { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(Schedule::cron("t", "* * * *")), "bad-cron");
        assert_eq!(code(Schedule::cron("t", "0 0 30 2 *")), "bad-cron");
        assert_eq!(
            code(Schedule::every("t", Duration::ZERO)),
            "interval-too-short"
        );
        assert_eq!(
            code(Schedule::after("t", Duration::ZERO)),
            "interval-too-short"
        );
        let cron = || Schedule::cron("t", "* * * * *").unwrap();
        assert_eq!(code(cron().time_zone("Europe/Berne")), "unknown-time-zone");
        assert_eq!(
            code(Schedule::every("t", HOUR).unwrap().time_zone("UTC")),
            "no-fields"
        );
        assert!(cron().max_attempts(0).check().is_err());
        assert!(cron().id("").check().is_err());
        assert!(cron().key("k".repeat(513)).check().is_err());
        assert_eq!(
            code(cron().key_mode(KeyMode::Replace).check().map(|()| cron())),
            "key-mode-without-key"
        );
        let long = cron().queue("q".repeat(129)).check();
        assert_eq!(code(long.map(|()| cron())), "queue-key-too-long");
        let json = serde_json::to_string(&cron().key("k").key_mode(KeyMode::Replace)).unwrap();
        let newer = json.replacen("\"replace\"", "\"merge\"", 1);
        assert!(serde_json::from_str::<Schedule>(&newer).is_err());
        assert!(Schedule::at("t\n", Timestamp::MIN).check().is_err());
    }
}
