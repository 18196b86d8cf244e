//! The due jobs of several lanes, merged into the order in which they are to run.
//!
//! Lanes that are paused, or not selected, are known and never read; those whose limits let nothing
//! go rest for this pass.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::super::keys::{KeySpace, Position, Waiting, behind};
use super::super::super::plan::{Context, Effect, Known, Look, View};
use super::super::super::{Lane, Result, Selector, header};
use super::limits::{Limits, Under};
use super::order::{Order, Rank};
use crate::clock::Timestamp;
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
pub(super) fn first_scans(
    cx: &Context<'_>,
    view: &View<'_>,
    wants: &[(&Selector, usize)],
) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut add = |scan: Scan| {
        if !scans.contains(&scan) {
            scans.push(scan);
        }
    };
    let mut looks = cx.look != Look::Not;
    for (selector, want) in wants {
        let limits = Limits::new(cx, view, selector);
        let mut unread = cx.lanes_for(selector);
        unread.retain(|_, known| limits.allow(&limits.over(&known.lane)));
        looks |= unread.is_empty();
        for prefix in best(&Order::new(cx, selector), &unread, MOST_LANES) {
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
fn best(order: &Order, unread: &BTreeMap<Key, Known>, most: usize) -> Vec<Key> {
    let mut ranks: Vec<(Rank<'_>, &Key)> = unread
        .iter()
        .map(|(prefix, known)| (order.rank(&known.lane, &known.head), prefix))
        .collect();
    ranks.sort_unstable();
    ranks
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
    /// Lanes whose limits let nothing go.
    resting: BTreeMap<Key, Known>,
    open: Vec<OpenLane>,
    limits: Limits,
    order: Order,
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
    under: Under,
    buffer: VecDeque<Object>,
    /// Behind what was read of it; `None` if that was all.
    rest: Option<Cursor>,
}

impl OpenLane {
    /// Whether it has to be read on before its next job is known.
    fn is_dry(&self, limits: &Limits) -> bool {
        self.buffer.is_empty() && self.rest.is_some() && limits.allow(&self.under)
    }

    /// Its next job's position, if its limits let one go.
    fn next(&self, limits: &Limits) -> Option<&[u8]> {
        let first = self.buffer.front().filter(|_| limits.allow(&self.under))?;
        Some(behind_prefix(&self.prefix, &first.key))
    }
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
        let mut unread = cx.lanes_for(selector);
        for (prefix, lane, position) in view.readied() {
            if cx.takes_from(selector, lane) {
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
            resting: BTreeMap::new(),
            open: Vec::new(),
            limits: Limits::new(cx, view, selector),
            order: Order::new(cx, selector),
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

    /// A job that was handed out is taken.
    pub(super) fn taken(&mut self, cx: &Context<'_>, view: &mut View<'_>, entry: &Object) {
        let from = self.open_lane(entry);
        let Some((lane, under)) = from.map(|lane| (lane.lane.clone(), lane.under.clone())) else {
            return;
        };
        if self.order.has_turns() {
            let tenant = lane.tenant.clone();
            view.effect(Effect::Turn { tenant });
        }
        if !under.is_empty() {
            self.limits.spend(&under, cx.monotonic);
            let at = cx.monotonic;
            view.effect(Effect::Spent { lane, at });
        }
    }

    /// One that was handed out was none after all.
    pub(super) fn skipped(&mut self, entry: &Object) {
        let under = self.open_lane(entry).map(|lane| lane.under.clone());
        self.limits.give_back(&under.unwrap_or_default());
    }

    /// When a limit lets the next job go, if one holds any back.
    pub(super) fn limited_until(&self, cx: &Context<'_>) -> Option<Timestamp> {
        let resting = self.resting.values();
        let resting = resting.map(|known| self.limits.over(&known.lane));
        let open = self.open.iter().filter(|lane| {
            let has_more = !lane.buffer.is_empty() || lane.rest.is_some();
            has_more && !self.limits.allow(&lane.under)
        });
        let held_back = resting.chain(open.map(|lane| lane.under.clone()));
        held_back
            .filter_map(|under| self.limits.next(&under, cx))
            .min()
    }

    /// The lane an entry was read from, where that matters.
    fn open_lane(&self, entry: &Object) -> Option<&OpenLane> {
        if self.limits.is_empty() && !self.order.has_turns() {
            return None;
        }
        let mut open = self.open.iter();
        open.find(|lane| entry.key.starts_with(&lane.prefix))
    }

    /// Tells the process what was seen of the lanes.
    pub(super) fn remember(self, view: &mut View<'_>) {
        for OpenLane {
            prefix,
            lane,
            buffer,
            rest,
            ..
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
        for (prefix, Known { lane, head }) in self.unread.into_iter().chain(self.resting) {
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
            if self.open.iter().any(|lane| lane.is_dry(&self.limits)) {
                self.read_on(cx, view).await?;
            }
            let best = self
                .open
                .iter()
                .enumerate()
                .filter_map(|(number, lane)| {
                    let at = lane.next(&self.limits)?;
                    Some((self.order.rank(&lane.lane, at), number))
                })
                .min();
            let unread = self.unread.values();
            let bound = unread
                .map(|known| self.order.rank(&known.lane, &known.head))
                .min();
            match (best, bound) {
                (Some((at, number)), bound) if bound.is_none_or(|bound| at <= bound) => {
                    if let Some(lane) = self.open.get_mut(number) {
                        self.queue.extend(lane.buffer.pop_front());
                        self.limits.reserve(&lane.under);
                        self.order.had_turn(&lane.lane);
                    }
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

    /// Opens the unread lanes with the best heads, as far as their limits let anything go.
    fn open_best(&mut self) {
        let room = MOST_LANES.saturating_sub(self.open.len()).max(1);
        for prefix in best(&self.order, &self.unread, room) {
            if let Some(known) = self.unread.remove(&prefix) {
                let under = self.limits.over(&known.lane);
                if !self.limits.allow(&under) {
                    self.resting.insert(prefix, known);
                    continue;
                }
                let rest = Some(start_of(&prefix));
                self.open.push(OpenLane {
                    prefix,
                    lane: known.lane,
                    under,
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
            .filter(|lane| lane.is_dry(&self.limits))
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
                self.found(cx, view, prefix, known);
            }
        }
        Ok(())
    }

    /// A lane has jobs. One that this claim does not take from is known to the next.
    fn found(&mut self, cx: &Context<'_>, view: &mut View<'_>, prefix: Key, known: Known) {
        if cx.takes_from(self.selector, &known.lane) {
            self.unread.entry(prefix).or_insert(known);
        } else if !cx.lanes.knows(&prefix) {
            let Known { lane, head } = known;
            let head = Some(head);
            view.effect(Effect::Head { prefix, lane, head });
        }
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
                if !is_open && !self.resting.contains_key(&prefix) {
                    self.found(cx, view, prefix.clone(), known);
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
    behind_prefix(prefix, key).into()
}

fn behind_prefix<'k>(prefix: &Key, key: &'k Key) -> &'k [u8] {
    let rest = key.as_bytes().strip_prefix(prefix.as_bytes());
    rest.unwrap_or_default()
}
