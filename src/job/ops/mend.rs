//! Something that looked wrong is looked at again, and mended.
//!
//! The first look was beside everything that goes on; this one is within a plan, so that what is
//! said of a job was true of it at one moment, and what is mended has not changed since.

use async_trait::async_trait;

use super::super::check::{self, Damage, Finding, Fix, Problem, Rules};
use super::super::cron;
use super::super::format::{Format, Unfinished};
use super::super::header::{self, Header};
use super::super::keys::{KeySpace, Space};
use super::super::plan::{Context, View};
use super::super::{JobId, Result};
use super::Operation;
use crate::kv::{self, ErrorKind, Key, Object};

/// Confirms what is wrong with a job or an object, and mends it where that was asked for.
#[derive(Clone)]
pub(in crate::job) struct Mend {
    pub(in crate::job) subject: Subject,
    pub(in crate::job) repair: bool,
    pub(in crate::job) shared_with_newer: bool,
}

/// What looked wrong.
#[derive(Clone)]
pub(in crate::job) enum Subject {
    Job(JobId),
    /// An object of a space, or of none that is known.
    Entry(Option<Space>, Object),
    /// A key of a bag that has more values than one.
    Many(Space, Key),
    /// The record of the format.
    Format,
}

/// What came of it.
#[derive(Default)]
pub(in crate::job) struct Mended {
    pub(in crate::job) findings: Vec<Finding>,
    /// Whether something has to be mended in another commit.
    pub(in crate::job) more: bool,
    /// A job whose removal the caller has to finish.
    pub(in crate::job) purge: Option<JobId>,
}

#[async_trait]
impl Operation for Mend {
    type Output = Mended;

    /// Nothing: some of it must be read in a certain order.
    fn reads(&self, _keys: &KeySpace) -> Vec<Key> {
        Vec::new()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Mended> {
        let rules = Rules {
            keys: cx.keys,
            now: cx.now,
            max_skew: cx.max_skew,
            shared_with_newer: self.shared_with_newer,
        };
        match &self.subject {
            Subject::Job(id) => {
                let key = cx.keys.job(*id);
                let Some(value) = view.get(&key).await? else {
                    return Ok(Mended::default());
                };
                let object = Object::new(key, value);
                let verdict = check::job(&rules, view, *id, &object, None).await?;
                self.mend(cx, view, verdict.problems(), Some(object)).await
            }
            Subject::Entry(space, object) => self.entry(cx, &rules, view, *space, object).await,
            Subject::Many(space, key) => {
                let problems = foreign(&rules, view, *space, key).await?;
                self.mend(cx, view, problems, None).await
            }
            Subject::Format => {
                let problems = format(&rules, view).await?;
                self.mend(cx, view, problems, None).await
            }
        }
    }
}

impl Mend {
    async fn entry(
        &self,
        cx: &Context<'_>,
        rules: &Rules<'_>,
        view: &mut View<'_>,
        space: Option<Space>,
        object: &Object,
    ) -> Result<Mended> {
        // What is under the key is read first: its job cannot be newer than it.
        let bag = cx.keys.scheme == super::super::scheme::Scheme::Bag;
        let is_it = |found: &Object| !bag || found.value == object.value;
        let found = view.read_again(&object.key).await?;
        let Some(object) = found.into_iter().find(is_it) else {
            return Ok(Mended::default());
        };
        if space == Some(Space::Queue) {
            // Its jobs cannot change without it, and are read behind it.
            view.load(std::slice::from_ref(&object.key)).await?;
            if view.get(&object.key).await?.as_ref() != Some(&object.value) {
                let changed = "the queue changed while it was looked at";
                return Err(kv::Error::new(ErrorKind::Conflict, changed).into());
            }
        }
        let verdict = check::entry(rules, view, space, &object).await?;
        let problems = verdict.problems();
        let id = space.and_then(|space| check::job_of(rules, space, &object));
        if let Some(id) = id
            && problems.iter().any(|one| one.damage == Damage::Orphan)
        {
            // Nothing can be made to depend on a header that is not there. But no id comes into
            // being twice, except out of the quarantine.
            let key = cx.keys.job(id);
            let found = view.read_again(&key).await?;
            let aside = check::is_quarantined(rules, view, &key).await?;
            let still = view.read_again(&object.key).await?;
            if aside || !found.is_empty() || !still.contains(&object) {
                return Ok(Mended::default());
            }
        }
        let header = id.map(|id| cx.keys.job(id));
        let mended = self.mend(cx, view, problems, None).await?;
        if !mended.findings.is_empty() {
            let is_queue = space == Some(Space::Queue) && !view.writes(&object.key);
            let depends = header.or_else(|| is_queue.then(|| object.key.clone()));
            if let Some(key) = depends {
                view.check(key);
            }
        }
        Ok(mended)
    }

    async fn mend(
        &self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        problems: Vec<Problem>,
        header: Option<Object>,
    ) -> Result<Mended> {
        let mut mended = Mended::default();
        if problems.is_empty() {
            return Ok(mended);
        }
        let count = problems.len();
        let purge = problems.iter().find(|one| matches!(one.fix, Fix::Purge));
        mended.purge = purge.and_then(|one| one.job).filter(|_| self.repair);
        let key = header.as_ref().map(|header| header.key.clone());
        let queue = header.as_ref().and_then(|object| {
            let header = Header::decode(&object.key, &object.value).ok()?;
            Some(cx.keys.queue(&header.queue_hash()?))
        });
        if self.repair {
            mended.findings = check::apply(cx, view, problems, header).await?;
            mended.more = mended.findings.len() < count;
        } else {
            let found = problems.into_iter().map(|one| one.found(false, None));
            mended.findings = found.collect();
        }
        // All this is true as long as the header stands.
        for key in key.into_iter().chain(queue) {
            if !view.writes(&key) {
                view.check(key);
            }
        }
        Ok(mended)
    }
}

/// The values of a key that has one which are not that one.
async fn foreign(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    space: Space,
    key: &Key,
) -> Result<Vec<Problem>> {
    let values = view.read_again(key).await?;
    if values.len() < 2 {
        return Ok(Vec::new());
    }
    let mut best: Option<(u64, usize)> = None;
    for (index, object) in values.iter().enumerate() {
        let merit = merit(rules, view, space, object).await?;
        if best.is_none_or(|(most, _)| merit > most) {
            best = Some((merit, index));
        }
    }
    // Arguments or a result are lost if the wrong ones are taken for them.
    let satellite = matches!(space, Space::Payload | Space::Result);
    let in_doubt = satellite && best.is_none_or(|(most, _)| most == 0);
    let best = best.map(|(_, index)| index);
    let job = rules.keys.job_id(key).ok();
    let others = values.into_iter().enumerate();
    Ok(others
        .filter(|(index, _)| Some(*index) != best)
        .map(|(_, object)| Problem {
            damage: Damage::ForeignValue,
            key: key.clone(),
            job,
            message: "the key has another value, which kvjob did not write".to_owned(),
            fix: if in_doubt {
                Fix::Leave("nobody can tell which value is the job's")
            } else {
                Fix::PutAside(object)
            },
        })
        .collect())
}

/// How well a value fits its key.
async fn merit(
    rules: &Rules<'_>,
    view: &mut View<'_>,
    space: Space,
    object: &Object,
) -> Result<u64> {
    let key = &object.key;
    Ok(match space {
        Space::Job => Header::decode(key, &object.value).map_or(0, |header| header.revision + 1),
        Space::Format => {
            let read = Format::read("", key, &object.value).is_ok();
            u64::from(read || Unfinished::is(&object.value))
        }
        Space::Payload | Space::Result => {
            let Some(id) = check::job_of(rules, space, object) else {
                return Ok(0);
            };
            let job = rules.keys.job(id);
            let header = view.get(&job).await?;
            let header = header.and_then(|value| Header::decode(&job, &value).ok());
            let bytes = |header: &Header| match space {
                Space::Result => header.result_bytes(),
                _ => header.stored_bytes(),
            };
            let fits = |header: Header| check::unfit(&object.value, bytes(&header));
            u64::from(header.is_some_and(|header| fits(header).is_none()))
        }
        Space::Cron => cron::Stored::decode(key, &object.value).map_or(0, |kept| kept.revision + 1),
        space => {
            let verdict = check::entry(rules, view, Some(space), object).await?;
            let problems = verdict.problems();
            let unread = |problem: &Problem| matches!(problem.fix, Fix::PutAside(_));
            u64::from(!problems.iter().any(unread)) + u64::from(problems.is_empty())
        }
    })
}

/// What is wrong with the record of the format.
async fn format(rules: &Rules<'_>, view: &mut View<'_>) -> Result<Vec<Problem>> {
    let key = rules.keys.format();
    let problem = |damage, message: String, fix| Problem {
        damage,
        key: key.clone(),
        job: None,
        message,
        fix,
    };
    let Some(value) = view.get(&key).await? else {
        let message = "nothing says in which format the namespace is";
        let fix = Fix::Put(key.clone(), Format::present()?);
        return Ok(vec![problem(Damage::FormatMissing, message.into(), fix)]);
    };
    match header::decode::<Format>(&key, &value) {
        Err(error) if *error.kind() == ErrorKind::Corrupt => {
            let fix = Fix::Rewrite {
                object: Object::new(key.clone(), value),
                value: Format::present()?,
                put_aside: true,
            };
            Ok(vec![problem(Damage::CorruptFormat, error.to_string(), fix)])
        }
        // Whoever cannot read it for being too new was told so.
        _ => Ok(Vec::new()),
    }
}
