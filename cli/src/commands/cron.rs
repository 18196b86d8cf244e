//! `kvjob cron`: schedules that add jobs.

mod run;
mod told;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kvjob::clock::{Clock as _, SystemClock, Timestamp};
use kvjob::cron::{self, Missed, Schedule};
use kvjob::job::CronRecord;
use serde::Serialize;

use super::NOT_ALL;
use crate::args::Global;
use crate::args::cron::{self as args, Action, Add, Crontab};
use crate::error::{Error, Result};
use crate::output::{self, Out, cut, seconds};
use crate::store::{Missing, Opened};
pub(super) use told::{Added, trouble};

/// How many schedules are asked for at once.
const PAGE: usize = 100;
/// How many slots to come are told in JSON.
const NEXT: usize = 5;

/// A schedule as it is told in JSON.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    schedule: Option<&'a Schedule>,
    paused: bool,
    last: Option<Timestamp>,
    next: Vec<Timestamp>,
    added_at: Timestamp,
}

/// A schedule that is gone, in JSON.
#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

pub(super) async fn run(global: &Global, action: Action) -> Result<ExitCode> {
    let missing = match &action {
        Action::Add(_) | Action::Run(_) => Missing::Create,
        _ => Missing::Refuse,
    };
    let action = match action {
        Action::Check(file) => return check(global, &file),
        Action::Run(args) => return run::run(global, &args).await,
        action => action,
    };
    let schedule = match &action {
        Action::Add(args) => Some(schedule(args)?),
        _ => None,
    };
    let store = Opened::open(global, missing).await?;
    let mut out = Out::new();
    let done = act(global, &action, schedule, &store, &mut out).await;
    let closed = store.close().await;
    let code = done?;
    out.flush()?;
    closed?;
    Ok(code)
}

async fn act(
    global: &Global,
    action: &Action,
    schedule: Option<Schedule>,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    match (action, schedule) {
        (_, Some(schedule)) => add(global, &schedule, store, out).await,
        (Action::Remove(args), _) => remove(global, args, store, out).await,
        (Action::Pause(args), _) => pause(global, args, true, store, out).await,
        (Action::Resume(args), _) => pause(global, args, false, store, out).await,
        _ => list(global, store, out).await,
    }
}

/// The schedule that the arguments say.
fn schedule(args: &Add) -> Result<Schedule> {
    let task = args.task.as_ref().unwrap_or(&args.id);
    let schedule = match (&args.schedule, args.every, args.at, args.delay) {
        (Some(fields), ..) => Schedule::cron(task, fields)?,
        (_, Some(interval), ..) => Schedule::every(task, interval)?,
        (_, _, Some(time), _) => Schedule::at(task, time),
        (_, _, _, Some(delay)) => Schedule::after(task, delay)?,
        _ => {
            return Err(Error::new(
                "nothing says when: --schedule, --every, --at or --in",
            ));
        }
    };
    let schedule = in_zone(schedule, args.time_zone.as_deref())?;
    let within = args.fill.unwrap_or(Duration::MAX);
    let missed = match (args.missed, args.fill) {
        (Some(args::Missed::Skip), Some(_)) => {
            return Err(Error::new(
                "--fill says which missed slots are made up for, and --missed skip that none are",
            ));
        }
        (Some(args::Missed::Once), _) => Missed::Once(within),
        (Some(args::Missed::All), _) | (None, Some(_)) => Missed::All(within),
        (Some(args::Missed::Skip) | None, None) => Missed::Skip,
    };
    let schedule = schedule
        .id(&args.id)
        .missed(missed)
        .jitter(args.jitter)
        .priority(args.priority)
        .max_attempts(args.max_attempts)
        .payload_json(&args.payload)?;
    let schedule = match &args.queue {
        Some(queue) => schedule.queue(queue),
        None => schedule,
    };
    let schedule = match &args.key {
        Some(key) => schedule.key(key),
        None => schedule,
    };
    Ok(match args.key_mode {
        Some(mode) => schedule.key_mode(mode),
        None => schedule,
    })
}

fn in_zone(schedule: Schedule, zone: Option<&str>) -> Result<Schedule> {
    Ok(match zone {
        Some(zone) => schedule.time_zone(zone)?,
        None => schedule,
    })
}

async fn add(
    global: &Global,
    schedule: &Schedule,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let before = store.jobs.cron(schedule.known_as()).await?;
    let (record, is_new) = cron::add(&*store.jobs, schedule).await?;
    tell(global, &record, Some(schedule), out)?;
    let changed = before.is_some_and(|before| before.revision != record.revision);
    if !global.json && !is_new {
        output::note(if changed {
            "this schedule was there, and says this from now on"
        } else {
            "this schedule was there already"
        });
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, store: &Opened, out: &mut Out) -> Result<ExitCode> {
    let (mut any, mut cursor) = (false, None);
    loop {
        let page = store.jobs.crons(PAGE, cursor).await?;
        for record in &page.items {
            if !any && !global.json {
                out.line(HEADER)?;
            }
            any = true;
            let kept = Schedule::kept(record).unwrap_or_else(|error| {
                output::note(&error.to_string());
                None
            });
            tell(global, record, kept.as_ref(), out)?;
        }
        out.flush()?;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if !any && !global.json {
        output::note("there are no schedules in the store");
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(
    global: &Global,
    args: &args::Ids,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let mut all = true;
    for id in &args.ids {
        if !store.jobs.remove_cron(id).await? {
            all = false;
            not_there(id);
        } else if global.json {
            out.json_line(&Id { id })?;
        }
    }
    Ok(code(all))
}

async fn pause(
    global: &Global,
    args: &args::Ids,
    paused: bool,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let mut all = true;
    for id in &args.ids {
        let changed = if paused {
            store.jobs.pause_cron(id).await?
        } else {
            store.jobs.resume_cron(id).await?
        };
        if let Some(record) = changed {
            let kept = Schedule::kept(&record)?;
            tell(global, &record, kept.as_ref(), out)?;
        } else {
            all = false;
            not_there(id);
        }
    }
    Ok(code(all))
}

fn not_there(id: &str) {
    output::note(&format!("there is no schedule {}", cut(id, 128)));
}

fn code(all: bool) -> ExitCode {
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL)
    }
}

/// The schedules of a file, in a zone.
pub(super) fn read(file: &Path, zone: Option<&str>) -> Result<Vec<Schedule>> {
    let name = file.display();
    let cannot = |error| Error::caused(format!("could not read the crontab {name}"), error);
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(cannot)?;
        text
    } else {
        std::fs::read_to_string(file).map_err(cannot)?
    };
    let wrong = |error| Error::caused(format!("{name} is wrong"), error);
    let schedules = cron::parse(&text).map_err(wrong)?.into_iter();
    schedules.map(|schedule| in_zone(schedule, zone)).collect()
}

fn check(global: &Global, args: &Crontab) -> Result<ExitCode> {
    let now = SystemClock.now();
    let mut out = Out::new();
    let schedules = read(&args.file, args.time_zone.as_deref())?;
    if !schedules.is_empty() && !global.json {
        out.line(HEADER)?;
    }
    for schedule in &schedules {
        show(
            global,
            schedule.known_as(),
            now,
            None,
            Some(schedule),
            &mut out,
        )?;
    }
    out.flush()?;
    if schedules.is_empty() && !global.json {
        output::note("there are no schedules in it");
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(
    global: &Global,
    record: &CronRecord,
    schedule: Option<&Schedule>,
    out: &mut Out,
) -> Result<()> {
    let added_at = record.added_at;
    show(global, &record.id, added_at, Some(record), schedule, out)
}

fn show(
    global: &Global,
    id: &str,
    added_at: Timestamp,
    record: Option<&CronRecord>,
    schedule: Option<&Schedule>,
    out: &mut Out,
) -> Result<()> {
    let paused = record.is_some_and(|record| record.paused);
    let last = record.and_then(|record| record.last_slot);
    let settled = record.map_or(added_at, |record| record.settled);
    let mut after = SystemClock.now().max(settled);
    let next: Vec<Timestamp> = std::iter::from_fn(|| {
        after = schedule?.next_after(after, added_at)?;
        Some(after)
    })
    .take(if paused { 0 } else { NEXT })
    .collect();
    if global.json {
        return out.json_line(&Listed {
            id,
            schedule,
            paused,
            last,
            next,
            added_at,
        });
    }
    let next = match (paused, schedule, next.first()) {
        (true, ..) => "paused".to_owned(),
        (_, _, Some(next)) => seconds(*next),
        (_, None, _) => "?".to_owned(),
        (_, Some(_), None) => "-".to_owned(),
    };
    let last = last.map_or("-".to_owned(), seconds);
    let (task, when) = schedule.map_or_else(
        || (String::new(), "of a program or a crontab".to_owned()),
        |schedule| (cut(schedule.task(), 40), cut(&schedule.when(), 80)),
    );
    out.line(&format!(
        "{:<24}  {next:<20}  {last:<20}  {task:<16}  {when}",
        cut(id, 60)
    ))
}

const HEADER: &str =
    "ID                        NEXT                  LAST                  TASK              WHEN";
