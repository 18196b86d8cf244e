//! The due jobs of several lanes, merged into the order in which they are to run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::super::keys::{KeySpace, Position, Waiting, behind};
use super::super::super::plan::{Context, Effect, Known, Look, View};
use super::super::super::{Lane, Result, Selector, header};
use crate::kv::{Cursor, Key, Object, Scan};

/// Lanes read at once (protocol rule 13).
const MOST_LANES: usize = 32;
/// Lanes looked for now and then, although there is enough to do.
const SLICE: usize = 64;
/// The most entries read ahead.
const MOST_AHEAD: usize = 1024;

/// Reads the lanes of one selector, best job first.
pub(super) struct Heads<'a> {
    selector: &'a Selector,
    /// Lanes that are known to have jobs, and not read yet.
    unread: BTreeMap<Key, Known>,
    open: Vec<OpenLane>,
    /// The next jobs, in order, their headers loaded.
    queue: VecDeque<Object>,
    want: usize,
    /// Whether all lanes of the store have been looked for.
    looked: bool,
}

struct OpenLane {
    prefix: Key,
    lane: Lane,
    buffer: VecDeque<Object>,
    /// Behind what was read of it; `None` if that was all.
    rest: Option<Cursor>,
}

impl<'a> Heads<'a> {
    pub(super) async fn new(
        cx: &Context<'_>,
        view: &mut View<'_>,
        selector: &'a Selector,
        want: usize,
    ) -> Result<Self> {
        let mut unread = cx.lanes.wanted(selector);
        for (prefix, lane, position) in view.readied() {
            if selector.wants(lane) {
                let known = unread.entry(prefix.clone()).or_insert_with(|| Known {
                    lane: lane.clone(),
                    head: position.clone(),
                });
                if *position < known.head {
                    known.head.clone_from(position);
                }
            }
        }
        let want = want.clamp(1, MOST_AHEAD);
        let mut heads = Self {
            selector,
            unread,
            open: Vec::new(),
            queue: VecDeque::new(),
            want,
            looked: false,
        };
        // Now and then a slice, so that it costs the same however many lanes there are.
        let (from, most) = match &cx.look {
            Look::Not => return Ok(heads),
            Look::Some(from) => (from.clone(), SLICE),
            Look::All => (None, usize::MAX),
        };
        heads.looked = from.is_none();
        let next = heads.look(cx.keys, view, from, most).await?;
        heads.looked &= next.is_none();
        view.effect(Effect::Looked { next });
        Ok(heads)
    }

    /// The next job's entry.
    pub(super) async fn next(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
    ) -> Result<Option<Object>> {
        if self.queue.is_empty() {
            self.fill(cx.keys, view).await?;
        }
        Ok(self.queue.pop_front())
    }

    /// Entries a caller did not take: the next one may.
    pub(super) fn give_back(&mut self, entries: Vec<Object>) {
        for entry in entries.into_iter().rev() {
            self.queue.push_front(entry);
        }
    }

    /// Tells the process what was seen of the lanes.
    pub(super) fn remember(self, view: &mut View<'_>) {
        for OpenLane {
            prefix,
            lane,
            buffer,
            rest,
        } in self.open
        {
            let first = self
                .queue
                .iter()
                .find(|entry| entry.key.starts_with(&prefix));
            let head = first
                .or_else(|| buffer.front())
                .map(|entry| &entry.key)
                .or_else(|| rest.as_ref().map(Cursor::key))
                .map(|key| position(&prefix, key));
            view.effect(Effect::Head { prefix, lane, head });
        }
        for (prefix, Known { lane, head }) in self.unread {
            view.effect(Effect::Head {
                prefix,
                lane,
                head: Some(head),
            });
        }
    }

    /// Merges the lanes until enough jobs are in the queue, and loads their headers in one trip.
    async fn fill(&mut self, keys: &KeySpace, view: &mut View<'_>) -> Result<()> {
        while self.queue.len() < self.want {
            if self
                .open
                .iter()
                .any(|lane| lane.buffer.is_empty() && lane.rest.is_some())
            {
                self.read_on(view).await?;
            }
            let best = self
                .open
                .iter_mut()
                .filter_map(|lane| {
                    let at = position(&lane.prefix, &lane.buffer.front()?.key);
                    Some((at, lane))
                })
                .min_by(|one, other| one.0.cmp(&other.0));
            let bound = self.unread.values().map(|known| &known.head).min();
            match (best, bound) {
                (Some((at, lane)), bound) if bound.is_none_or(|bound| at <= *bound) => {
                    self.queue.extend(lane.buffer.pop_front());
                }
                (_, Some(_)) => {
                    if self.open.len() >= MOST_LANES && !self.queue.is_empty() {
                        break;
                    }
                    self.open_best();
                }
                (_, None) if !self.looked => {
                    self.looked = true;
                    self.look(keys, view, None, usize::MAX).await?;
                }
                (_, None) => break,
            }
        }
        let mut wanted = Vec::with_capacity(self.queue.len());
        for entry in &self.queue {
            if let Ok(ready) = keys.read_ready(&entry.key) {
                wanted.push(keys.job(ready.id));
                if payload_stored(entry) {
                    wanted.push(keys.payload(ready.id));
                }
            }
        }
        view.load(&wanted).await
    }

    /// Opens the unread lanes with the best heads.
    fn open_best(&mut self) {
        let mut order: Vec<(Position, Key)> = self
            .unread
            .iter()
            .map(|(key, known)| (known.head.clone(), key.clone()))
            .collect();
        order.sort_unstable();
        let room = MOST_LANES.saturating_sub(self.open.len()).max(1);
        for (_, prefix) in order.into_iter().take(room) {
            if let Some(Known { lane, .. }) = self.unread.remove(&prefix) {
                let rest = Some(Cursor::after(prefix.clone()));
                self.open.push(OpenLane {
                    prefix,
                    lane,
                    buffer: VecDeque::new(),
                    rest,
                });
            }
        }
    }

    /// Reads the next page of every lane whose buffer is empty, in one trip.
    async fn read_on(&mut self, view: &mut View<'_>) -> Result<()> {
        let mut lanes: Vec<&mut OpenLane> = self
            .open
            .iter_mut()
            .filter(|lane| lane.buffer.is_empty() && lane.rest.is_some())
            .collect();
        let scans = lanes
            .iter()
            .map(|lane| {
                Scan::prefix(lane.prefix.clone())
                    .after(lane.rest.clone())
                    .limit(self.want)
            })
            .collect();
        let pages = view.scan_many(scans).await?;
        for (lane, (objects, all)) in lanes.iter_mut().zip(pages) {
            lane.rest = objects
                .last()
                .filter(|_| !all)
                .map(|object| Cursor::after(object.key.clone()));
            lane.buffer = objects.into();
        }
        Ok(())
    }

    /// Finds lanes by skipping from each to the next, at most so many. Returns behind which one
    /// to go on, if that was not all.
    async fn look(
        &mut self,
        keys: &KeySpace,
        view: &mut View<'_>,
        from: Option<Key>,
        most: usize,
    ) -> Result<Option<Key>> {
        let seen: BTreeSet<Key> = self
            .open
            .iter()
            .map(|lane| lane.prefix.clone())
            .chain(self.unread.keys().cloned())
            .collect();
        let mut last = from;
        for _ in 0..most {
            let after = last.as_ref().map(|prefix| behind(prefix.as_bytes()));
            let scan = Scan::prefix(keys.ready_all()).after(after).limit(1);
            let (objects, _) = view.scan(scan).await?;
            let Some(object) = objects.into_iter().next() else {
                return Ok(None);
            };
            let Ok(ready) = keys.read_ready(&object.key) else {
                // Found, and put aside, only by whoever reads its lane; skip it here.
                last = Some(object.key);
                continue;
            };
            let (prefix, head) = object.key.as_bytes().split_at(ready.lane_len);
            let prefix = Key::from(prefix);
            last = Some(prefix.clone());
            let flags = header::decode_or_default::<Waiting>(&object).lane.flags;
            let lane = Lane {
                tenant: ready.tenant,
                task: ready.task,
                flags,
            };
            if self.selector.wants(&lane) && !seen.contains(&prefix) {
                self.unread.insert(
                    prefix,
                    Known {
                        lane,
                        head: head.into(),
                    },
                );
            }
        }
        Ok(last)
    }
}

fn position(prefix: &Key, key: &Key) -> Position {
    key.as_bytes()
        .strip_prefix(prefix.as_bytes())
        .unwrap_or_default()
        .into()
}

fn payload_stored(entry: &Object) -> bool {
    header::decode_or_default::<Waiting>(entry).payload_stored
}
