//! Servers that are killed while many write: what was acknowledged is there afterwards, what was
//! refused is not, nothing is there by half, and everybody goes on by himself.
//!
//! `KVJOB_OUTAGES=seconds` makes it last that long instead of a few outages.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvjob::kv::{Change, ErrorKind, Key, Result, Scan, Store};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything takes that must happen.
pub const PATIENCE: Duration = Duration::from_secs(90);
const WRITERS: usize = 16;
/// What all of them count.
const COUNTERS: usize = 3;
/// The steps after which everybody is taken to be at work again.
const AT_WORK: usize = 20 * WRITERS;

/// Waits for what must happen.
pub async fn patient<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap()
}

/// How somebody finds out what became of a commit of unknown fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// By making the very same commit again, until it is made or its conditions fail.
    MakeAgain,
    /// By a read: where the store promises that the fate which was read is the last word.
    Read,
}

/// One of many who write: each of its steps is a commit that moves two counters and leaves a key
/// of its own.
#[derive(Debug)]
pub struct Writer {
    store: Arc<dyn Store>,
    doubt: Doubt,
    keys: [Key; 2],
    log: String,
    /// The steps of which it knows that they are made.
    done: usize,
    /// Whether the fate of the next one is unknown.
    in_doubt: bool,
    /// How often that was so.
    unknown: usize,
}

impl Writer {
    /// One of this name.
    pub fn new(store: Arc<dyn Store>, doubt: Doubt, name: usize) -> Self {
        Self {
            store,
            doubt,
            keys: ["a", "b"].map(|side| Key::from(format!("{side}/{name:02}").as_str())),
            log: format!("log/{name:02}/"),
            done: 0,
            in_doubt: false,
            unknown: 0,
        }
    }

    fn entry(&self, n: usize) -> Key {
        Key::from(format!("{}{n:08}", self.log).as_str())
    }

    fn changes(&self) -> Vec<Change> {
        let step = |key: &Key| {
            let after = (self.done + 1).to_string();
            match self.done {
                0 => Change::create(key.clone(), after),
                done => Change::replace(key.clone(), done.to_string(), Some(after.into())),
            }
        };
        let entry = Change::create(self.entry(self.done), "x");
        vec![step(&self.keys[0]), entry, step(&self.keys[1])]
    }

    /// Tries to make one step, or to find out whether the last one was made; true if it was.
    pub async fn step(&mut self) -> bool {
        if self.in_doubt && self.doubt == Doubt::Read {
            return self.read().await;
        }
        let Err(error) = commit(&self.store, self.changes()).await else {
            return self.made();
        };
        match error.kind() {
            ErrorKind::ConditionFailed { indices } if self.in_doubt => {
                assert_eq!(indices, &[0, 1, 2], "made by half");
                self.made()
            }
            ErrorKind::Unknown => {
                self.unknown += usize::from(!self.in_doubt);
                self.in_doubt = true;
                false
            }
            // Anything else would tell that another step was made than was acknowledged.
            kind => {
                assert_eq!(kind, &ErrorKind::Transient, "{self:?}: {error:?}");
                false
            }
        }
    }

    async fn read(&mut self) -> bool {
        match self.store.get(&self.keys[0]).await {
            Ok(found) => {
                let found = found.map_or(0, |found| number(&found.value));
                self.in_doubt = false;
                if found == self.done {
                    return false;
                }
                assert_eq!(found, self.done + 1);
                self.made()
            }
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::Transient, "{error:?}");
                false
            }
        }
    }

    fn made(&mut self) -> bool {
        self.in_doubt = false;
        self.done += 1;
        true
    }

    /// What was just made can be read.
    async fn look(&self) {
        let last = self.entry(self.done - 1);
        match self.store.get(&last).await {
            Ok(found) => assert!(found.is_some(), "{last} was acknowledged and is not there"),
            Err(error) => assert_eq!(error.kind(), &ErrorKind::Transient, "{error:?}"),
        }
    }

    /// Everything that was acknowledged is there, nothing else, and nothing by half. Nothing may
    /// be in doubt.
    pub async fn check(&self) {
        assert!(!self.in_doubt, "{self:?}");
        let counters = self.store.get_many(&self.keys).await.unwrap();
        for counter in counters {
            let counter = counter.map_or(0, |it| number(&it.value));
            assert_eq!(counter, self.done, "{self:?}");
        }
        let scan = Scan::prefix(self.log.as_str());
        let scan = scan.limit(usize::MAX).keys_only();
        let entries = self.store.scan(scan).await.unwrap().objects;
        let expected = (0..self.done).map(|n| self.entry(n));
        assert!(
            entries.iter().map(|it| it.key.clone()).eq(expected),
            "{self:?}: {entries:?}"
        );
    }
}

async fn commit(store: &dyn Store, changes: Vec<Change>) -> Result<()> {
    store.atomic().unwrap().commit(changes).await
}

fn number(value: &[u8]) -> usize {
    str::from_utf8(value).unwrap().parse().unwrap()
}

/// Many writers who are at work, and count the same counters meanwhile.
#[derive(Debug, Default)]
pub struct Load {
    made: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    counted: Mutex<Counted>,
    enough: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    surely: usize,
    perhaps: usize,
}

impl Load {
    /// Waits until so many more steps were made.
    pub async fn goes_on(&self, steps: usize) {
        happens(&self.made, steps, "was made").await;
    }

    /// Waits until so many more steps failed.
    pub async fn fails(&self, steps: usize) {
        happens(&self.failed, steps, "failed").await;
    }

    async fn write(self: Arc<Self>, mut writer: Writer) -> Writer {
        for n in 0.. {
            if self.enough.load(Ordering::Relaxed) && !writer.in_doubt {
                break;
            }
            if writer.step().await {
                self.made.send_modify(|made| *made += 1);
                writer.look().await;
            } else {
                self.failed.send_modify(|failed| *failed += 1);
            }
            self.count(&writer.store, counter(n % COUNTERS)).await;
        }
        writer
    }

    /// Adds one to a counter, if nobody else does.
    async fn count(&self, store: &dyn Store, key: Key) {
        let Ok(found) = store.get(&key).await else {
            return;
        };
        let before = found.unwrap().value;
        let after = (number(&before) + 1).to_string();
        let change = Change::replace(key, before, Some(after.into()));
        let outcome = commit(store, vec![change]).await;
        let mut counted = self.counted.lock().unwrap();
        let Err(error) = outcome else {
            counted.surely += 1;
            return;
        };
        match error.kind() {
            ErrorKind::Unknown => counted.perhaps += 1,
            ErrorKind::ConditionFailed { indices } => assert_eq!(indices, &[0]),
            kind => assert_eq!(kind, &ErrorKind::Transient, "{error:?}"),
        }
    }

    /// No count is lost, and none was made that was refused.
    async fn check(&self, store: &dyn Store) {
        let counters: Vec<_> = (0..COUNTERS).map(counter).collect();
        let found = store.get_many(&counters).await.unwrap();
        let sum: usize = found.into_iter().map(|it| number(&it.unwrap().value)).sum();
        let Counted { surely, perhaps } = *self.counted.lock().unwrap();
        assert!(
            (surely..=surely + perhaps).contains(&sum),
            "{sum} is not {surely} and some of {perhaps}"
        );
    }
}

fn counter(n: usize) -> Key {
    Key::from(format!("counter/{n}").as_str())
}

async fn happens(count: &watch::Sender<usize>, more: usize, what: &str) {
    let enough = *count.borrow() + more;
    let mut count = count.subscribe();
    let happened = timeout(PATIENCE, count.wait_for(|count| *count >= enough)).await;
    assert!(happened.is_ok(), "nothing more {what} for {PATIENCE:?}");
}

/// Lets many write, over these stores of one server or cluster by turns, while there is one outage
/// after another: so many, and for as long as `KVJOB_OUTAGES` says. Between them everybody goes
/// on. Returns how many commits were of unknown fate.
pub async fn under_load(
    stores: &[Arc<dyn Store>],
    doubt: Doubt,
    outages: usize,
    mut outage: impl AsyncFnMut(&Load),
) -> usize {
    let seconds = env::var("KVJOB_OUTAGES").map_or(0, |it| it.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    for n in 0..COUNTERS {
        let zero = vec![Change::create(counter(n), "0")];
        commit(&stores[0], zero).await.unwrap();
    }
    let load = Arc::new(Load::default());
    let writers = (0..WRITERS).map(|name| {
        let store = Arc::clone(&stores[name % stores.len()]);
        let writer = Writer::new(store, doubt, name);
        tokio::spawn(Arc::clone(&load).write(writer))
    });
    let writers: Vec<_> = writers.collect();
    let mut there_were = 0;
    while there_were < outages || Instant::now() < until {
        load.goes_on(AT_WORK).await;
        outage(&load).await;
        there_were += 1;
    }
    load.goes_on(AT_WORK).await;
    load.enough.store(true, Ordering::Relaxed);
    let mut unknown = 0;
    for writer in writers {
        let writer = patient(writer).await.unwrap();
        writer.check().await;
        unknown += writer.unknown;
    }
    for store in stores {
        load.check(store).await;
    }
    let counted = *load.counted.lock().unwrap();
    println!(
        "{there_were} outages: {} steps made, {} failed, {unknown} of them of unknown fate; {counted:?}",
        *load.made.borrow(),
        *load.failed.borrow()
    );
    unknown + counted.perhaps
}
