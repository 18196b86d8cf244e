//! What is no longer to be kept is found and removed, a page at a time (protocol rule 19).
//!
//! A sweep costs what it removes, not what the store holds or what was swept before, because it
//! walks, and never returns. There are three walks, each with a cursor of its own:
//!
//! - [`Part::Ids`] through the headers, for jobs that ended well. It passes an id when
//!   [`WALK_WAITS`] and the time such jobs are kept have gone by since the id's time. A job that
//!   ended by then, but less than [`WALK_WAITS`] after its id's time, is old enough. One that
//!   ends later, or ended later, has an `attention` entry, so that it does not matter that it was
//!   passed. So nothing that waits, runs or is kept longer is met twice.
//! - [`Part::Late`] through `attention`, which is ordered by the end, for those jobs.
//! - [`Part::Bad`] through `attention`, for jobs that ended badly.
//!
//! The two walks through `attention` differ in the entries they look at, and in how far behind
//! the clock they are: jobs of one kind may be kept for years and are passed once by the walk for
//! the others. A job that is retried loses its entry and gets another at its next end, which lies
//! ahead of all cursors, as every end does.
//!
//! If the policy changes, the cursors stay right, because what lies behind one was removed, or has
//! its entry elsewhere: with a shorter time they move on at once, with a longer one they wait, and
//! that of jobs kept for ever has never moved.
//!
//! All this rests on two things. The first is that what a process writes lies ahead of the
//! cursors: so they stay behind the clock by [`Retention::SHORTEST`], for commits that are on
//! their way, and by the skew that clocks may have. The second is that clocks go forward. A cursor
//! that stands where none may stand by now was moved by a clock that was ahead; it is taken back to
//! where it may stand, and walks again over what is left there. What ends under a clock that was
//! set back for less time than passes between two sweeps may stay: a
//! [`purge`](crate::job::QueueStore::purge) finds it.
//!
//! A fourth part, [`Part::Begun`], goes on with removals that were cut off; each has a key that
//! says so.
//!
//! Any number of processes may sweep at once. Each page is one commit of the cursor, compared with
//! what it was, and of removals, whose headers are compared, too.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::super::header::{self, Header, Phase};
use super::super::keys::{KeySpace, LATE};
use super::super::plan::{Context, View};
use super::super::retention::{End, WALK_WAITS};
use super::super::scheme::Scheme;
use super::super::{JobId, Result, Retention};
use super::purge::{self, Purged};
use super::{Operation, quarantine};
use crate::clock::Timestamp;
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Entries passed in one plan.
const PAGE: usize = 256;
/// Jobs removed in one plan, so that whoever waits for the planner does not wait long.
const MOST_REMOVED: usize = 64;

/// A page of a sweep.
pub(in crate::job) struct Sweep(pub(in crate::job) Part);

/// What a sweep looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::job) enum Part {
    /// The headers, in the order of their ids.
    Ids,
    /// Jobs that ended late, in the order in which they ended.
    Late,
    /// Jobs that ended badly, in the order in which they ended.
    Bad,
    /// Removals that were begun.
    Begun,
}

impl Part {
    /// In the order of a sweep, which so finishes what it began itself.
    pub(in crate::job) const ALL: [Self; 4] = [Self::Ids, Self::Late, Self::Bad, Self::Begun];
}

/// What a page came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::job) struct Swept {
    pub(in crate::job) removed: u64,
    /// Whether there is another page.
    pub(in crate::job) more: bool,
}

/// What stands under the `retention` key: what each walk passed last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::job) struct Walks {
    /// Of the plan that wrote it (rule 2).
    pub(in crate::job) token: u64,
    pub(in crate::job) ids: Option<[u8; 16]>,
    pub(in crate::job) late: Option<Moment>,
    pub(in crate::job) bad: Option<Moment>,
}

/// A place in `attention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::job) struct Moment {
    pub(in crate::job) ended_at: i64,
    pub(in crate::job) id: [u8; 16],
}

impl Moment {
    /// Before everything that ended at this time.
    fn at(time: Timestamp) -> Self {
        Self {
            ended_at: time.as_micros(),
            id: [0; 16],
        }
    }

    fn key(self, keys: &KeySpace) -> Key {
        let time = Timestamp::from_micros(self.ended_at);
        keys.attention(time, JobId::from_bytes(self.id))
    }
}

#[async_trait]
impl Operation for Sweep {
    type Output = Swept;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.retention()]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Swept> {
        let kept = match self.0 {
            Part::Begun => return go_on(cx, view).await,
            Part::Ids | Part::Late => cx.retention.completed,
            Part::Bad => cx.retention.failed,
        };
        let Some(kept) = kept else {
            return Ok(Swept::default());
        };
        let key = cx.keys.retention();
        let stored = match view.get(&key).await? {
            None => Walks::default(),
            Some(value) => match header::decode(&key, &value) {
                Ok(walks) => walks,
                // Its own cursors are in there.
                Err(error) if *error.kind() == ErrorKind::TooNew => {
                    tracing::warn!("left to newer software: {error}");
                    return Ok(Swept::default());
                }
                // All is walked again, once.
                Err(error) => {
                    let object = Object {
                        key: key.clone(),
                        value,
                    };
                    quarantine::index(cx, view, &object, &error.to_string())?;
                    Walks::default()
                }
            },
        };
        let mut walks = stored.clone();
        walks.turn_back(cx);
        let swept = match self.0 {
            Part::Ids => walk_ids(cx, view, &mut walks, kept).await?,
            part => walk_ends(cx, view, part, &mut walks, kept).await?,
        };
        if walks != stored {
            walks.token = cx.token;
            view.replace(key, Some(header::encode(&walks)?.into()));
        }
        Ok(swept)
    }
}

/// What ended before this was kept long enough, and no commit that ends a job by then is still on
/// its way.
fn long_ago(cx: &Context<'_>, kept: Duration) -> Timestamp {
    let kept = kept.max(Retention::SHORTEST);
    cx.now.before(kept).before(cx.max_skew)
}

impl Walks {
    /// Takes back what stands where, with the shortest of all times, no walk can have come by now.
    fn turn_back(&mut self, cx: &Context<'_>) {
        let farthest = long_ago(cx, Duration::ZERO);
        let farthest_id = JobId::lower_bound(farthest.before(WALK_WAITS));
        let ahead = |walk: &Option<Moment>| {
            walk.is_some_and(|moment| moment.ended_at > farthest.as_micros())
        };
        if self.ids.is_some_and(|id| id > *farthest_id.as_bytes()) {
            self.ids = Some(*farthest_id.as_bytes());
        }
        if ahead(&self.late) {
            self.late = Some(Moment::at(farthest));
        }
        if ahead(&self.bad) {
            self.bad = Some(Moment::at(farthest));
        }
    }
}

/// A page of the walk through the ids.
async fn walk_ids(
    cx: &Context<'_>,
    view: &mut View<'_>,
    walks: &mut Walks,
    kept: Duration,
) -> Result<Swept> {
    let before = long_ago(cx, kept);
    let end = cx.keys.job(JobId::lower_bound(before.before(WALK_WAITS)));
    let passed = walks.ids.map(|id| cx.keys.job(JobId::from_bytes(id)));
    let (objects, mut page) = Page::read(view, cx.keys.jobs(), passed, &end).await?;
    for object in &objects {
        let id = match cx.keys.job_id(&object.key) {
            Ok(id) => id,
            Err(error) => {
                quarantine::index(cx, view, object, &error.to_string())?;
                continue;
            }
        };
        // A first look; what is done follows from what the commit compares.
        let goes = match Header::decode(&object.key, &object.value) {
            Ok(header) => {
                header.phase == Phase::Deleting || End::of(header.phase) == Some(End::Done)
            }
            Err(error) => *error.kind() != ErrorKind::TooNew,
        };
        page.passed.push(Passed {
            id,
            entry: None,
            goes,
        });
    }
    let swept = page
        .remove(cx, view, |header, _| {
            header.phase == Phase::Deleting
                || (End::of(header.phase) == Some(End::Done)
                    && header.ended_at.is_none_or(|at| at < before.as_micros()))
        })
        .await?;
    if let Some(last) = page.passed.last() {
        walks.ids = Some(*last.id.as_bytes());
    }
    Ok(swept)
}

/// A page of a walk through `attention`.
async fn walk_ends(
    cx: &Context<'_>,
    view: &mut View<'_>,
    part: Part,
    walks: &mut Walks,
    kept: Duration,
) -> Result<Swept> {
    let (walk, kind) = match part {
        Part::Bad => (&mut walks.bad, End::Bad),
        _ => (&mut walks.late, End::Done),
    };
    let end = Moment::at(long_ago(cx, kept)).key(cx.keys);
    let passed = walk.map(|moment| moment.key(cx.keys));
    let (objects, mut page) = Page::read(view, cx.keys.attention_all(), passed, &end).await?;
    for object in &objects {
        match cx.keys.read_attention(&object.key) {
            Ok((ended_at, id)) => page.passed.push(Passed {
                id,
                entry: Some((ended_at, object.key.clone())),
                goes: (object.value == LATE) == (kind == End::Done),
            }),
            Err(error) => quarantine::index(cx, view, object, &error.to_string())?,
        }
    }
    let swept = page
        .remove(cx, view, |header, ended_at| {
            End::of(header.phase) == Some(kind) && header.ended_at == ended_at
        })
        .await?;
    if let Some(Passed {
        id,
        entry: Some((ended_at, _)),
        ..
    }) = page.passed.last()
    {
        *walk = Some(Moment {
            ended_at: ended_at.as_micros(),
            id: *id.as_bytes(),
        });
    }
    Ok(swept)
}

/// What a walk passes in one plan.
struct Page {
    passed: Vec<Passed>,
    more: bool,
}

struct Passed {
    id: JobId,
    /// The `attention` entry it was found by.
    entry: Option<(Timestamp, Key)>,
    /// Whether it seems that it is to be removed.
    goes: bool,
}

impl Page {
    /// What lies between what was passed and the end of a walk, as far as it fits a page.
    async fn read(
        view: &mut View<'_>,
        prefix: Key,
        passed: Option<Key>,
        end: &Key,
    ) -> Result<(Vec<Object>, Self)> {
        let mut page = Self {
            passed: Vec::new(),
            more: false,
        };
        let scan = Scan::prefix(prefix).after(passed.map(Cursor::after));
        // Mostly there is nothing: no page of what lies behind the end is read to find that out.
        let (first, _) = view.scan(scan.clone().limit(1).keys_only()).await?;
        if first.first().is_none_or(|first| first.key >= *end) {
            return Ok((Vec::new(), page));
        }
        let (mut objects, all) = view.scan(scan.limit(PAGE)).await?;
        let read = objects.len();
        objects.retain(|object| object.key < *end);
        page.more = !all && objects.len() == read;
        Ok((objects, page))
    }

    /// Removes the jobs that seem to go and, by what their headers say, do. What no longer fits
    /// into the commit, and all behind it, is left to the next page.
    async fn remove(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        goes: impl Fn(&Header, Option<i64>) -> bool,
    ) -> Result<Swept> {
        let seem = |passed: &[Passed]| passed.iter().filter(|one| one.goes).count();
        while seem(&self.passed) > MOST_REMOVED {
            self.passed.pop();
            self.more = true;
        }
        let headers: Vec<Key> = self
            .passed
            .iter()
            .filter(|one| one.goes)
            .map(|one| cx.keys.job(one.id))
            .collect();
        view.load(&headers).await?;
        let (mut jobs, mut places) = (Vec::new(), Vec::new());
        let mut again = None;
        for (place, one) in self.passed.iter().enumerate() {
            if !one.goes {
                continue;
            }
            let key = cx.keys.job(one.id);
            match (read(cx, view, &key).await?, &one.entry) {
                (Found::Header(header), entry) => {
                    let ended_at = entry.as_ref().map(|(at, _)| at.as_micros());
                    if goes(&header, ended_at) {
                        jobs.push((one.id, *header));
                        places.push(place);
                    } else if let Some((_, entry)) = entry
                        && header.ended_at != ended_at
                    {
                        // Whoever makes it right changes the header.
                        view.check(key);
                        view.remove(entry.clone());
                    }
                }
                (Found::PutAside, _) if cx.keys.scheme == Scheme::Bag => {
                    // A foreign value may have hidden the job's own: the next page sees.
                    again = Some(place);
                    break;
                }
                (Found::Nothing | Found::PutAside, Some((_, entry))) => view.remove(entry.clone()),
                (Found::Nothing | Found::PutAside | Found::LeftAlone, _) => {}
            }
        }
        let removed = purge::remove(cx, view, jobs).await?;
        if let Some(place) = places.get(removed.len()).copied().or(again) {
            self.passed.truncate(place);
            self.more = true;
        }
        Ok(Swept {
            removed: whole(&removed),
            more: self.more,
        })
    }
}

/// A page of the removals that were begun: goes on with them.
async fn go_on(cx: &Context<'_>, view: &mut View<'_>) -> Result<Swept> {
    let scan = Scan::prefix(cx.keys.retention())
        .after(Cursor::after(cx.keys.retention()))
        .limit(MOST_REMOVED)
        .keys_only();
    let (objects, all) = view.scan(scan).await?;
    let mut begun = Vec::with_capacity(objects.len());
    let mut settled = 0;
    for object in objects {
        match cx.keys.removal_id(&object.key) {
            Ok(id) => begun.push((id, object.key)),
            Err(error) => {
                quarantine::index(cx, view, &object, &error.to_string())?;
                settled += 1;
            }
        }
    }
    let headers: Vec<Key> = begun.iter().map(|(id, _)| cx.keys.job(*id)).collect();
    view.load(&headers).await?;
    let mut jobs = Vec::new();
    for ((id, entry), key) in begun.into_iter().zip(headers) {
        match read(cx, view, &key).await? {
            Found::Header(header) if header.phase == Phase::Deleting => jobs.push((id, *header)),
            Found::Header(_) => {
                view.check(key);
                view.remove(entry);
                settled += 1;
            }
            Found::PutAside if cx.keys.scheme == Scheme::Bag => settled += 1,
            Found::Nothing | Found::PutAside => {
                view.remove(entry);
                settled += 1;
            }
            Found::LeftAlone => {}
        }
    }
    let wanted = jobs.len();
    let removed = purge::remove(cx, view, jobs).await?;
    let unfinished = settled > 0 || removed.len() < wanted || removed.contains(&Purged::Partly);
    // What newer software began must not be looked at again and again.
    let progress = settled > 0 || !removed.is_empty();
    Ok(Swept {
        removed: whole(&removed),
        more: progress && (unfinished || !all),
    })
}

fn whole(removed: &[Purged]) -> u64 {
    let whole = removed.iter().filter(|one| **one == Purged::Whole);
    whole.count() as u64
}

/// What a header that was loaded is.
enum Found {
    Header(Box<Header>),
    Nothing,
    /// It could not be read.
    PutAside,
    /// Newer software wrote it.
    LeftAlone,
}

/// Reads a header; one that cannot be read is put aside (rule 20).
async fn read(cx: &Context<'_>, view: &mut View<'_>, key: &Key) -> Result<Found> {
    let Some(value) = view.get(key).await? else {
        return Ok(Found::Nothing);
    };
    match Header::decode(key, &value) {
        Ok(header) => Ok(Found::Header(Box::new(header))),
        Err(error) if *error.kind() == ErrorKind::TooNew => {
            tracing::warn!("left alone: {error}");
            Ok(Found::LeftAlone)
        }
        Err(error) => {
            quarantine::header(cx, view, key, &value, &error).await?;
            Ok(Found::PutAside)
        }
    }
}
