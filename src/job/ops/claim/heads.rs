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
/// Gaps between lanes that are looked into in one trip.
const MOST_GAPS: usize = 64;
/// The most entries read ahead.
const MOST_AHEAD: usize = 1024;

/// What reading the lanes of these claims begins with, as far as it is known before: so that it is
/// read in one trip with what else claims read.
pub(super) fn first_scans(cx: &Context<'_>, wants: &[(&Selector, usize)]) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut add = |scan: Scan| {
        if !scans.contains(&scan) {
            scans.push(scan);
        }
    };
    let mut looks = cx.look != Look::Not;
    for (selector, want) in wants {
        let unread = cx.lanes.wanted(selector);
        looks |= unread.is_empty();
        for prefix in best(&unread, MOST_LANES) {
            add(lane_scan(&prefix, start_of(&prefix), page(cx, *want)));
        }
    }
    for prefix in cx.heard {
        add(first_of(prefix.clone()));
    }
    if looks {
        let from = match &cx.look {
            Look::Some(from) => from.clone(),
            Look::Not | Look::All => None,
        };
        let gaps = LaneGaps::new(cx, from);
        for gap in gaps.left.iter().take(MOST_GAPS) {
            add(gap_scan(cx.keys, gap.as_ref()));
        }
    }
    scans
}

/// How many jobs a commit can begin, of so many that are wanted: each takes two changes.
fn at_most(cx: &Context<'_>, want: usize) -> usize {
    want.min(cx.max_changes / 2).clamp(1, MOST_AHEAD)
}

/// How many entries of a lane are read at once for claims that want so many.
fn page(cx: &Context<'_>, want: usize) -> usize {
    (at_most(cx, want) * cx.blocks).min(MOST_AHEAD)
}

fn start_of(lane: &Key) -> Cursor {
    Cursor::after(lane.clone())
}

fn lane_scan(lane: &Key, rest: Cursor, limit: usize) -> Scan {
    Scan::prefix(lane.clone()).after(rest).limit(limit)
}

/// The lanes with the best heads, best first.
fn best(unread: &BTreeMap<Key, Known>, most: usize) -> Vec<Key> {
    let mut order: Vec<(&Position, &Key)> = unread
        .iter()
        .map(|(prefix, known)| (&known.head, prefix))
        .collect();
    order.sort_unstable();
    order
        .into_iter()
        .take(most)
        .map(|(_, prefix)| prefix.clone())
        .collect()
}

fn first_of(lane: Key) -> Scan {
    Scan::prefix(lane).limit(1)
}

fn gap_scan(keys: &KeySpace, behind_lane: Option<&Key>) -> Scan {
    let after = behind_lane.map(|prefix| behind(prefix.as_bytes()));
    Scan::prefix(keys.ready_all()).after(after).limit(1)
}

/// Where lanes are looked for: behind each lane that is known, and at the start.
struct LaneGaps {
    /// The lanes behind which nobody has looked yet; `None` is the start of all.
    left: BTreeSet<Option<Key>>,
    seen: BTreeSet<Key>,
}

impl LaneGaps {
    fn new(cx: &Context<'_>, from: Option<Key>) -> Self {
        let seen: BTreeSet<Key> = cx.lanes.prefixes().cloned().collect();
        let behind_from = seen.iter().filter(|lane| Some(*lane) > from.as_ref());
        let mut left: BTreeSet<Option<Key>> = behind_from.cloned().map(Some).collect();
        left.insert(from);
        Self { left, seen }
    }

    /// The first ones, to be looked into in one trip.
    fn take(&mut self, most: usize) -> Vec<Option<Key>> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(gap) = self.left.pop_first()
        {
            taken.push(gap);
        }
        taken
    }

    /// A lane was found: the next gap is behind it.
    fn found(&mut self, lane: Key) {
        if self.seen.insert(lane.clone()) {
            self.left.insert(Some(lane));
        }
    }
}

/// Reads the lanes of one selector, best job first.
pub(super) struct Heads<'a> {
    selector: &'a Selector,
    /// Lanes that are known to have jobs, and not read yet.
    unread: BTreeMap<Key, Known>,
    open: Vec<OpenLane>,
    /// The next jobs, in order, their headers loaded.
    queue: VecDeque<Object>,
    /// The jobs around the block that this process takes (rule 16).
    passed_by: VecDeque<Object>,
    want: usize,
    /// Other keys that the claims will read.
    also: Vec<Key>,
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
    /// For claims that want so many jobs of these lanes, and will read these keys besides.
    pub(super) async fn new(
        cx: &Context<'_>,
        view: &mut View<'_>,
        selector: &'a Selector,
        want: usize,
        also: Vec<Key>,
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
        let mut heads = Self {
            selector,
            unread,
            open: Vec::new(),
            queue: VecDeque::new(),
            passed_by: VecDeque::new(),
            want: at_most(cx, want),
            also,
            looked: false,
        };
        heads.hear(cx, view).await?;
        // Now and then a slice, so that it costs the same however many lanes there are.
        let (from, most) = match &cx.look {
            Look::Not => return Ok(heads),
            Look::Some(from) => (from.clone(), SLICE),
            Look::All => (None, usize::MAX),
        };
        heads.looked = from.is_none();
        let next = heads.look(cx, view, from, most).await?;
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
            self.fill(cx, view).await?;
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
            let left = self.passed_by.iter().chain(&self.queue);
            let first = left
                .filter(|entry| entry.key.starts_with(&prefix))
                .min_by(|one, other| one.key.cmp(&other.key));
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
    async fn fill(&mut self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        if self.passed_by.is_empty() {
            self.merge(cx, view, page(cx, self.want)).await?;
            let blocks = self.queue.len() / self.want;
            if cx.blocks > 1 && blocks > 1 {
                // Others are at the head, too: whole batches should win or lose, and rarely meet.
                let block = cx.clock.random() % blocks as u64;
                let first = usize::try_from(block).unwrap_or(0) * self.want;
                let after = self.queue.split_off(first + self.want);
                let block = self.queue.split_off(first);
                self.passed_by = std::mem::replace(&mut self.queue, block);
                self.passed_by.extend(after);
            }
        } else {
            // What was passed by is still better than nothing.
            let rest = self
                .passed_by
                .split_off(self.want.min(self.passed_by.len()));
            self.queue = std::mem::replace(&mut self.passed_by, rest);
        }
        if self.queue.is_empty() {
            return Ok(());
        }
        let mut wanted = std::mem::take(&mut self.also);
        for entry in &self.queue {
            if let Ok(ready) = cx.keys.read_ready(&entry.key) {
                wanted.push(cx.keys.job(ready.id));
                let waiting: Waiting = header::decode_or_default(entry);
                if waiting.payload_stored {
                    wanted.push(cx.keys.payload(ready.id));
                }
                wanted.extend(waiting.queue.map(|queue| cx.keys.queue(&queue)));
            }
        }
        view.load(&wanted).await
    }

    async fn merge(&mut self, cx: &Context<'_>, view: &mut View<'_>, most: usize) -> Result<()> {
        while self.queue.len() < most {
            if self
                .open
                .iter()
                .any(|lane| lane.buffer.is_empty() && lane.rest.is_some())
            {
                self.read_on(cx, view).await?;
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
                    self.look(cx, view, None, usize::MAX).await?;
                }
                (_, None) => break,
            }
        }
        Ok(())
    }

    /// Opens the unread lanes with the best heads.
    fn open_best(&mut self) {
        let room = MOST_LANES.saturating_sub(self.open.len()).max(1);
        for prefix in best(&self.unread, room) {
            if let Some(Known { lane, .. }) = self.unread.remove(&prefix) {
                let rest = Some(start_of(&prefix));
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
    async fn read_on(&mut self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let limit = page(cx, self.want);
        let mut lanes: Vec<&mut OpenLane> = self
            .open
            .iter_mut()
            .filter(|lane| lane.buffer.is_empty() && lane.rest.is_some())
            .collect();
        let scans = lanes
            .iter()
            .filter_map(|lane| Some(lane_scan(&lane.prefix, lane.rest.clone()?, limit)))
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

    /// Reads the first entry of each lane that others were heard to have filled.
    async fn hear(&mut self, cx: &Context<'_>, view: &mut View<'_>) -> Result<()> {
        let scans = cx.heard.iter().cloned().map(first_of).collect();
        let firsts = view.scan_many(scans).await?;
        for (prefix, (objects, _)) in cx.heard.iter().zip(firsts) {
            view.effect(Effect::Heard {
                prefix: prefix.clone(),
            });
            if let Some((prefix, known)) = objects.first().and_then(|it| read_first(cx.keys, it)) {
                if self.selector.wants(&known.lane) {
                    self.unread.entry(prefix).or_insert(known);
                } else {
                    let Known { lane, head } = known;
                    let head = Some(head);
                    view.effect(Effect::Head { prefix, lane, head });
                }
            }
        }
        Ok(())
    }

    /// Finds lanes by skipping from each to the next, many at a time where lanes are known, at
    /// most so many. Returns behind which one to go on, if that was not all.
    async fn look(
        &mut self,
        cx: &Context<'_>,
        view: &mut View<'_>,
        from: Option<Key>,
        most: usize,
    ) -> Result<Option<Key>> {
        let mut gaps = LaneGaps::new(cx, from);
        let mut left = most;
        while left > 0 {
            let taken = gaps.take(left.min(MOST_GAPS));
            if taken.is_empty() {
                return Ok(None);
            }
            left -= taken.len();
            let scans = taken
                .iter()
                .map(|gap| gap_scan(cx.keys, gap.as_ref()))
                .collect();
            for (objects, _) in view.scan_many(scans).await? {
                let Some(object) = objects.into_iter().next() else {
                    continue;
                };
                let Some((prefix, known)) = read_first(cx.keys, &object) else {
                    // Whoever reads its lane puts it aside; skip it here.
                    gaps.found(object.key);
                    continue;
                };
                let is_open = self.open.iter().any(|lane| lane.prefix == prefix);
                if !is_open && self.selector.wants(&known.lane) {
                    self.unread.entry(prefix.clone()).or_insert(known);
                }
                gaps.found(prefix);
            }
        }
        Ok(gaps.left.pop_first().flatten())
    }
}

/// A lane's prefix, and what its first entry says of it; `None` if it cannot be read.
fn read_first(keys: &KeySpace, object: &Object) -> Option<(Key, Known)> {
    let ready = keys.read_ready(&object.key).ok()?;
    let (prefix, head) = object.key.as_bytes().split_at_checked(ready.lane_len)?;
    let lane = Lane {
        tenant: ready.tenant,
        task: ready.task,
        flags: header::decode_or_default::<Waiting>(object).lane.flags,
    };
    let head = head.into();
    Some((prefix.into(), Known { lane, head }))
}

fn position(prefix: &Key, key: &Key) -> Position {
    key.as_bytes()
        .strip_prefix(prefix.as_bytes())
        .unwrap_or_default()
        .into()
}
