//! Plans the operations of this process together and commits them as one (protocol rule 15).
//!
//! One task per job store. Whatever arrives while a commit is under way is planned next, against
//! the store and the operations planned before it, and goes out as one commit; so calls of one
//! process never conflict with each other, and many callers share one sync.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::super::keys::{KeySpace, Space};
use super::super::ops::claim::{self, Got, Wanted};
use super::super::ops::set_lanes;
use super::super::ops::{Operation, abandon::Abandon, expire::Expire};
use super::super::plan::{Context, Effect, Held, Lanes, Look, Plan, Settings, Stamps, View};
use super::super::{Error, Result, Retention, serial};
use super::request::{Group, Request, Waiter};
use super::wait::Waits;
use crate::clock::Clock;
use crate::kv::{self, Change, ErrorKind, Event, Key, Object, Ownership, Store};

/// Operations and bytes of one commit (rule 15).
const MOST_OPERATIONS: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// How often other tasks get to run in vain before a group leaves without expected callers.
const MOST_YIELDS: u32 = 16;
/// How long a log line waits for company (rule 23).
const LINGER: Duration = Duration::from_millis(100);
/// How often claims look for lanes that others filled or settings that they changed (rule 13), and
/// for leases that ran out.
const REFRESH: Duration = Duration::from_secs(1);
/// Lanes heard of; beyond that all lanes are looked for.
const MOST_HEARD: usize = 256;
/// The most blocks that claims choose from, and after how many claims that nobody was in the way
/// of there is one less of them.
const MOST_BLOCKS: usize = 64;
const WINS: u32 = 4;
/// How often a group is planned again before its callers hear of the conflict.
pub(super) const MOST_TRIES: u32 = 64;
/// A step between wall and monotonic clock that is no drift (rule 8).
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The planner of one job store.
pub(super) struct Planner {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: KeySpace,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stamps: Arc<Stamps>,
    pub(super) incarnation: [u8; 16],
    pub(super) max_skew: Duration,
    pub(super) retention: Retention,
    pub(super) activity: watch::Sender<u64>,
    pub(super) crons: watch::Sender<u64>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) waits: Arc<Waits>,
    pub(super) memory: Memory,
}

/// What the planner remembers between commits.
#[derive(Default)]
pub(super) struct Memory {
    lanes: Lanes,
    settings: Settings,
    /// When they were read; `None` if they have to be read again.
    settings_at: Option<Duration>,
    /// See [`Context::last_tenant`].
    last_tenant: Option<String>,
    held: Held,
    /// Lanes that another process was heard to have filled, and that are not known.
    heard: BTreeSet<Key>,
    /// See [`Context::blocks`].
    blocks: usize,
    /// Claims in a row that nobody was in the way of.
    wins: u32,
    looked_at: Option<Duration>,
    /// Behind which lane to go on looking (rule 13).
    look_from: Option<Key>,
    /// How many callers there seem to be: those just answered, and those who waited meanwhile.
    callers: usize,
    /// Wall minus monotonic clock, and when (monotonic) it last made a step.
    offset: Option<i128>,
    stepped_at: Option<Duration>,
}

impl Planner {
    /// Works until the store is stopped or its last handle is dropped.
    pub(super) async fn run(mut self) {
        let mut group = Group::default();
        while self.gather(&mut group).await {
            let committed = std::mem::take(&mut group.committed);
            group.lines.extend(self.apply(committed));
            self.hear(std::mem::take(&mut group.heard));
            while group.len() > 0 || !group.lines.is_empty() {
                self.work(&mut group).await;
            }
            if let Some(stopped) = group.stop.take() {
                self.leave().await;
                self.requests.close();
                let _ = stopped.send(());
                return;
            }
        }
        self.leave().await;
    }

    /// Waits for requests; `false` when there will be none any more.
    async fn gather(&mut self, group: &mut Group) -> bool {
        let mut deadline = None;
        loop {
            // What others did is heard at once, and is no reason to store lines that wait for
            // company.
            self.hear(std::mem::take(&mut group.heard));
            if group.is_awaited() {
                break;
            }
            let request = if group.lines.is_empty() {
                self.requests.recv().await
            } else {
                let clock = Arc::clone(&self.clock);
                let deadline = *deadline.get_or_insert_with(|| clock.monotonic() + LINGER);
                tokio::select! {
                    biased;
                    () = clock.sleep_until(deadline) => break,
                    request = self.requests.recv() => request,
                }
            };
            match request {
                Some(request) => group.add(request),
                None if group.lines.is_empty() => return false,
                None => break,
            }
        }
        self.drain(group).await;
        true
    }

    /// Takes what else is there. Those who have just been answered come back within
    /// microseconds: a group that leaves without them makes two commits of one, so let them.
    async fn drain(&mut self, group: &mut Group) {
        let mut idle = 0;
        loop {
            let before = group.len();
            while group.len() < MOST_OPERATIONS && group.stop.is_none() {
                match self.requests.try_recv() {
                    Ok(request) => group.add(request),
                    Err(_) => break,
                }
            }
            let enough = group.len() >= self.memory.callers.min(MOST_OPERATIONS);
            idle = if group.len() > before { 0 } else { idle + 1 };
            if enough || idle > MOST_YIELDS || group.stop.is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Plans and commits what fits into one commit, until it holds or its callers are told why
    /// not.
    async fn work(&mut self, waiting: &mut Group) {
        let mut group = Group::default();
        let most = waiting.operations.len().min(MOST_OPERATIONS);
        group.operations.extend(waiting.operations.drain(..most));
        let most = waiting.claims.len().min(MOST_OPERATIONS - most);
        group.claims.extend(waiting.claims.drain(..most));
        std::mem::swap(&mut group.lines, &mut waiting.lines);

        for tries in 1.. {
            let last_try = tries >= MOST_TRIES;
            let token = self.clock.random();
            let planned = self.plan(&mut group, waiting, token).await;
            let (plan, got) = match planned {
                Ok(planned) => planned,
                Err(error) if error.is_retryable() && !last_try => {
                    self.pause(tries).await;
                    continue;
                }
                Err(error) => return refuse(group, waiting, &error),
            };
            if group
                .operations
                .iter()
                .any(|operation| operation.retryable())
                && !last_try
            {
                self.pause(tries).await;
                continue;
            }
            let outcome = match self.store.atomic() {
                _ if plan.changes.is_empty() => Ok(()),
                Some(atomic) => self.commit(atomic, &plan, token).await,
                None => Err(no_atomic(&*self.store)),
            };
            match outcome {
                Ok(()) => {
                    if !got.is_empty() {
                        self.meet(false);
                    }
                    return self.answer(group, waiting, plan, got);
                }
                Err(error) => match error.kind() {
                    ErrorKind::ConditionFailed { indices } if !last_try => {
                        if indices.iter().any(|index| plan.is_of(*index, CLAIMS)) {
                            self.meet(true);
                        }
                        set_aside(&mut group, waiting, &plan, indices);
                        self.pause(tries).await;
                    }
                    ErrorKind::Conflict | ErrorKind::Transient if !last_try => {
                        self.pause(tries).await;
                    }
                    _ => {
                        if error.maybe_applied() {
                            // What the commit may have removed again does not come back.
                            group.lines.retain(|line| !plan.removes(&line.key));
                        }
                        return refuse(group, waiting, &Error::Store(error));
                    }
                },
            }
        }
    }

    /// Plans the group; what does not fit into one commit goes back to wait.
    async fn plan(
        &mut self,
        group: &mut Group,
        waiting: &mut Group,
        token: u64,
    ) -> Result<(Plan, Vec<Got>)> {
        let store = Arc::clone(&self.store);
        let limits = store.limits();
        let (max_changes, max_bytes) = (limits.commit_changes, limits.commit_bytes.min(MOST_BYTES));
        let monotonic = self.clock.monotonic();
        let since_step = self.memory.watch_clocks(&*self.clock);
        let cx = Context {
            keys: &self.keys,
            clock: &*self.clock,
            now: self.clock.now(),
            monotonic,
            token,
            incarnation: self.incarnation,
            max_skew: self.max_skew,
            retention: self.retention,
            max_changes,
            max_bytes,
            lanes: &self.memory.lanes,
            settings: &self.memory.settings,
            settings_known: self
                .memory
                .settings_at
                .is_some_and(|at| monotonic.saturating_sub(at) < REFRESH),
            last_tenant: self.memory.last_tenant.as_deref(),
            heard: &self.memory.heard,
            blocks: self.memory.blocks.max(1),
            held: &self.memory.held,
            stamps: &self.stamps,
            look: match self.memory.looked_at {
                None => Look::All,
                Some(at) if monotonic.saturating_sub(at) >= REFRESH => {
                    Look::Some(self.memory.look_from.clone())
                }
                Some(_) => Look::Not,
            },
            since_step,
        };
        let mut view = View::new(&*store);
        view.begin(0);
        let mut fit = 0;
        for line in &group.lines {
            let (changes, bytes) = view.size();
            let full = bytes > max_bytes / 2 || changes > max_changes / 2;
            // On a bag a commit takes one line of a job.
            if full || view.writes(&line.key) {
                break;
            }
            view.append(line.clone());
            fit += 1;
        }
        // Those that were put stay in the group, for it may be planned again. If they fill the
        // commit, what was called behind the others waits with them.
        if fit < group.lines.len() {
            waiting.lines.extend(group.lines.drain(fit..));
            for operation in group.operations.drain(..).rev() {
                waiting.operations.push_front(operation);
            }
            for claim in group.claims.drain(..).rev() {
                waiting.claims.push_front(claim);
            }
        }
        let mut reads: Vec<Key> = group
            .operations
            .iter()
            .flat_map(|operation| operation.reads(cx.keys))
            .collect();
        let queues = cx.held.queues_of(cx.keys, &reads);
        reads.extend_from_slice(&queues);
        view.load(&reads).await?;
        serial::read_ahead(cx.keys, &mut view, &queues).await?;
        let mut planned = 0;
        for (number, operation) in group.operations.iter_mut().enumerate() {
            view.begin(number);
            operation.plan(&cx, &mut view).await;
            let (changes, bytes) = view.size();
            // One that does not fit goes next, alone; the store then says whether it takes it.
            let alone = number == 0 && group.lines.is_empty();
            let fits = alone || (changes <= max_changes && bytes <= max_bytes);
            if operation.failed() || !fits {
                view.roll_back();
            }
            if !fits {
                break;
            }
            planned += 1;
        }
        let rest = group.operations.split_off(planned);
        for operation in rest.into_iter().rev() {
            waiting.operations.push_front(operation);
        }
        view.begin(CLAIMS);
        let wanted: Vec<&Wanted> = group.claims.iter().map(|(wanted, _)| wanted).collect();
        let got = if wanted.is_empty() {
            Vec::new()
        } else {
            plan_claims(cx, &mut view, &wanted).await?
        };
        Ok((view.finish().await?, got))
    }

    /// The group is committed: tells the process and the callers.
    fn answer(&mut self, group: Group, waiting: &mut Group, plan: Plan, got: Vec<Got>) {
        self.waits.tell(&self.keys, &plan.changes);
        waiting.lines.extend(self.apply(plan.effects));
        self.memory.callers = group.len() + self.requests.len();
        for operation in group.operations {
            operation.answer(None);
        }
        for ((_, reply), got) in group.claims.into_iter().zip(got) {
            if let Err(Ok(Got::Claims(claims))) = reply.send(Ok(got)) {
                // Nobody is there to take the leases: give them back (rule 6).
                for claimed in claims.jobs {
                    waiting
                        .operations
                        .push_back(Waiter::nobody(Abandon(claimed.lease)));
                }
            }
        }
    }

    /// Takes in what follows from a commit, and returns the log lines that it left over.
    fn apply(&mut self, effects: Vec<Effect>) -> Vec<Object> {
        let mut stirred = false;
        let mut left_over = Vec::new();
        for effect in effects {
            match effect {
                Effect::Ready {
                    prefix,
                    lane,
                    position,
                } => {
                    self.memory.lanes.put(&prefix, &lane, &position);
                    stirred = true;
                }
                Effect::Stirred => stirred = true,
                // Those who wait may go on, or have to wait for something else.
                Effect::Set(setting) => {
                    self.memory.settings.put(setting);
                    stirred = true;
                }
                Effect::SettingsRead(all) => {
                    self.memory.settings.replace(all);
                    self.memory.settings_at = Some(self.clock.monotonic());
                }
                Effect::Spent { lane, at } => self.memory.settings.spend(&lane, at),
                Effect::Turn { tenant } => self.memory.last_tenant = Some(tenant),
                Effect::Head { prefix, lane, head } => self.memory.lanes.set(&prefix, &lane, head),
                Effect::Heard { prefix } => drop(self.memory.heard.remove(&prefix)),
                Effect::Looked { next } => {
                    self.memory.look_from = next;
                    self.memory.looked_at = Some(self.clock.monotonic());
                }
                Effect::Leased {
                    id,
                    epoch,
                    worker,
                    slot,
                    suspect,
                    queue,
                } => {
                    let held = &mut self.memory.held;
                    held.begin(&worker, slot, id, epoch, suspect, queue);
                }
                Effect::Ended { id, epoch } => self.memory.held.end(id, epoch),
                Effect::Removed { .. } => {}
                Effect::SlotRemoved { slot } => self.memory.held.drop_slot(slot),
                Effect::Crons => bump(&self.crons),
                Effect::LeftOver(line) => left_over.push(line),
            }
        }
        if stirred {
            bump(&self.activity);
        }
        left_over
    }

    /// Takes in what others may have done: a hint, which the next claim looks into.
    fn hear(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in events {
            match event {
                Event::Changed(key) if self.concerns_no_lane(&key) => {}
                Event::Changed(key) if key.starts_with(&self.keys.lane_settings()) => {
                    self.memory.settings_at = None;
                }
                Event::Changed(key) if self.concerns_crons(&key) => bump(&self.crons),
                Event::Changed(key) => match self.keys.read_ready(&key) {
                    Ok(ready) => {
                        let (prefix, position) = key.as_bytes().split_at(ready.lane_len);
                        let prefix = Key::from(prefix);
                        if self.memory.lanes.knows(&prefix) {
                            self.memory.lanes.lower(&prefix, position);
                        } else {
                            self.memory.heard.insert(prefix);
                        }
                    }
                    // A key that stands for several.
                    Err(_) => self.look_around(),
                },
                Event::Lagged => self.look_around(),
            }
        }
        if self.memory.heard.len() > MOST_HEARD {
            self.memory.looked_at = None;
        }
        if self.memory.looked_at.is_none() {
            self.memory.heard.clear();
        }
        bump(&self.activity);
    }

    /// Something was not heard in full.
    fn look_around(&mut self) {
        self.memory.forget();
        bump(&self.crons);
    }

    fn concerns_crons(&self, key: &Key) -> bool {
        key.starts_with(&self.keys.prefix(Space::Cron))
    }

    fn concerns_no_lane(&self, key: &Key) -> bool {
        key.starts_with(&self.keys.scheduled_all())
            || key.starts_with(&self.keys.signals(&self.incarnation))
    }

    /// Learns from a commit of claims how many others are at the head of the lanes (rule 16).
    fn meet(&mut self, conflict: bool) {
        if self.store.ownership() == Ownership::Exclusive {
            return;
        }
        let memory = &mut self.memory;
        if conflict {
            memory.blocks = (memory.blocks.max(1) * 2).min(MOST_BLOCKS);
            memory.wins = 0;
        } else {
            memory.wins += 1;
            if memory.wins >= WINS {
                memory.blocks = memory.blocks.saturating_sub(1);
                memory.wins = 0;
            }
        }
    }

    /// Removes the worker records that hold nothing any more.
    async fn leave(&mut self) {
        let changes: Vec<Change> = self
            .memory
            .held
            .empty_slots()
            .take(MOST_OPERATIONS.min(self.store.limits().commit_changes))
            .map(|slot| Change::remove(self.keys.worker(&self.incarnation, slot)))
            .collect();
        if let (false, Some(atomic)) = (changes.is_empty(), self.store.atomic())
            && let Err(error) = atomic.commit(changes).await
        {
            tracing::debug!("worker records stay behind: {error}");
        }
    }

    /// Waits a random while that grows with the tries.
    pub(super) async fn pause(&self, tries: u32) {
        if tries <= 1 {
            return;
        }
        let most = 1u64 << tries.min(9);
        let millis = self.clock.random() % most;
        self.clock
            .sleep_until(self.clock.monotonic() + Duration::from_millis(millis))
            .await;
    }
}

/// Tells those who watch.
fn bump(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}

/// The number of the claims among a group's operations.
const CLAIMS: usize = usize::MAX;

/// Plans the claims of a group, behind its operations.
async fn plan_claims(cx: Context<'_>, view: &mut View<'_>, wanted: &[&Wanted]) -> Result<Vec<Got>> {
    claim::read_ahead(&cx, view, wanted).await?;
    let mut settings = None;
    let cx = if cx.settings_known {
        cx
    } else {
        let all = set_lanes::read_all(&cx, view).await?;
        let settings = settings.insert(cx.settings.clone());
        settings.replace(all.clone());
        view.effect(Effect::SettingsRead(all));
        Context { settings, ..cx }
    };
    if cx.look != Look::Not {
        // Leases that ran out are found by whoever claims. What was done so far is kept if that fails.
        view.begin(CLAIMS);
        let expire = Expire {
            others_are_dead: false,
        };
        if let Err(error) = expire.plan(&cx, view).await {
            view.roll_back();
            tracing::warn!("taking back leases failed: {error}");
        }
    }
    claim::plan(&cx, view, wanted).await
}

/// The group cannot be committed: tells its callers, and keeps its log lines if the store
/// may come back.
fn refuse(group: Group, waiting: &mut Group, error: &Error) {
    if group.len() == 0 {
        tracing::error!("log lines could not be stored: {error}");
    } else {
        waiting.lines.extend(group.lines);
    }
    for operation in group.operations {
        operation.answer(Some(error.clone()));
    }
    for (_, reply) in group.claims {
        let _ = reply.send(Err(error.clone()));
    }
}

/// The operations whose conditions failed are planned again in a commit of their own, so that the
/// others do not wait for them.
fn set_aside(group: &mut Group, waiting: &mut Group, plan: &Plan, failed: &[usize]) {
    let culprits: BTreeSet<usize> = failed
        .iter()
        .filter_map(|index| plan.by.get(*index))
        .flat_map(|(first, others)| std::iter::once(first).chain(others))
        .copied()
        .collect();
    let count = group.operations.len();
    if culprits.len() >= count || culprits.contains(&CLAIMS) {
        return;
    }
    let operations = std::mem::take(&mut group.operations);
    for (number, operation) in operations.into_iter().enumerate() {
        if culprits.contains(&number) {
            waiting.operations.push_back(operation);
        } else {
            group.operations.push_back(operation);
        }
    }
}

fn no_atomic(store: &dyn Store) -> kv::Error {
    kv::Error::new(
        ErrorKind::Unsupported,
        format!(
            "the store {} cannot make several changes as one, which a job store needs",
            store.name()
        ),
    )
}

impl Memory {
    /// Anything may have happened: look for it.
    fn forget(&mut self) {
        self.looked_at = None;
        self.settings_at = None;
    }

    /// How long ago the wall clock made a step against the monotonic one.
    fn watch_clocks(&mut self, clock: &dyn Clock) -> Option<Duration> {
        let monotonic = clock.monotonic();
        let micros = i128::try_from(monotonic.as_micros()).unwrap_or(i128::MAX);
        let offset = i128::from(clock.now().as_micros()) - micros;
        let step = i128::try_from(CLOCK_STEP.as_micros()).unwrap_or(i128::MAX);
        if let Some(before) = self.offset
            && (offset - before).abs() > step
        {
            self.stepped_at = Some(monotonic);
        }
        self.offset = Some(offset);
        self.stepped_at.map(|at| monotonic.saturating_sub(at))
    }
}
