//! An engine in memory that can be told to fail, to panic and to wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::kv::{
    Direction, Durability, Embedded, Engine, Error, ErrorKind, Key, Limits, Options, Range, Result,
    Shareable, Transaction, Transactional, Write,
};

type Objects = BTreeMap<Key, Bytes>;

/// What goes wrong in one call of `apply`.
#[derive(Debug)]
pub(super) enum Fault {
    /// Fails with this kind; nothing is applied.
    Fail(ErrorKind),
    Panic,
}

/// What happened to an engine, and what is to happen: shared between a test and its engine.
#[derive(Debug, Default)]
pub(super) struct Control {
    objects: Mutex<Objects>,
    faults: Mutex<VecDeque<Option<Fault>>>,
    /// The writes of each `apply` that went through, and whether it was to sync.
    applied: Mutex<Vec<(usize, bool)>>,
    pub(super) syncs: AtomicUsize,
    pub(super) sync_fails: AtomicBool,
    pub(super) get_panics: AtomicBool,
    pub(super) reads: AtomicUsize,
    /// A value whose mere presence in a group makes `apply` fail.
    poisonous: Mutex<Option<(Bytes, ErrorKind)>>,
    gate: Mutex<Option<Gate>>,
    scan_gate: Mutex<Option<Gate>>,
    synced: Mutex<Option<UnboundedSender<()>>>,
    /// Others have written.
    pub(super) others_wrote: AtomicBool,
    /// How often that was asked.
    pub(super) asked: AtomicUsize,
    /// The calls of `transact`.
    pub(super) transactions: AtomicUsize,
}

#[derive(Debug)]
struct Gate {
    entered: UnboundedSender<()>,
    pass: Receiver<()>,
}

impl Gate {
    fn pair() -> (Self, Held) {
        let (entered, arrivals) = unbounded_channel();
        let (passes, pass) = mpsc::channel();
        (
            Self { entered, pass },
            Held {
                arrivals,
                _passes: passes,
            },
        )
    }

    fn wait(&self) {
        let _ = self.entered.send(());
        // An error means that the test has dropped its side: all may pass.
        let _ = self.pass.recv();
    }
}

/// The test's side of a gate: calls wait at it until it is dropped.
pub(super) struct Held {
    arrivals: UnboundedReceiver<()>,
    _passes: Sender<()>,
}

impl Held {
    /// Waits until a call stands at the gate.
    pub(super) async fn arrival(&mut self) {
        self.arrivals.recv().await.unwrap();
    }
}

impl Control {
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    pub(super) fn applied(&self) -> Vec<(usize, bool)> {
        self.applied.lock().unwrap().clone()
    }

    /// What the next calls of `apply` meet, `None` being nothing.
    pub(super) fn next_applies(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub(super) fn poisonous(&self, value: &'static str, kind: ErrorKind) {
        *self.poisonous.lock().unwrap() = Some((value.into(), kind));
    }

    /// From now on each `apply` waits at a gate.
    pub(super) fn hold_applies(&self) -> Held {
        let (gate, held) = Gate::pair();
        *self.gate.lock().unwrap() = Some(gate);
        held
    }

    /// From now on each scan waits at a gate.
    pub(super) fn hold_scans(&self) -> Held {
        let (gate, held) = Gate::pair();
        *self.scan_gate.lock().unwrap() = Some(gate);
        held
    }

    /// Hears of each sync that is not part of an `apply`.
    pub(super) fn hear_syncs(&self) -> UnboundedReceiver<()> {
        let (sender, receiver) = unbounded_channel();
        *self.synced.lock().unwrap() = Some(sender);
        receiver
    }
}

#[derive(Debug)]
pub(super) struct Fake(pub(super) Arc<Control>);

/// A store on a fake engine, and the engine's control.
pub(super) fn store(durability: Durability) -> (Embedded<Fake>, Arc<Control>) {
    let control = Arc::new(Control::default());
    let engine = Fake(Arc::clone(&control));
    let store = Embedded::open(engine, Options::new(durability)).unwrap();
    (store, control)
}

/// The same, as one of several that share what is stored.
pub(super) fn shared_store(durability: Durability) -> (Embedded<Fake>, Arc<Control>) {
    let control = Arc::new(Control::default());
    let engine = Fake(Arc::clone(&control));
    let store = Embedded::open_shared(engine, Options::new(durability)).unwrap();
    (store, control)
}

pub(super) const LIMITS: Limits = Limits {
    key_bytes: 511,
    value_bytes: 1 << 20,
    commit_bytes: 4 << 20,
    commit_changes: 1000,
};

fn write(objects: &mut Objects, writes: &[Write<'_>]) {
    for write in writes {
        match write {
            Write::Put { key, value } => drop(objects.insert((*key).clone(), (*value).clone())),
            Write::Remove(key) | Write::RemovePair { key, .. } => drop(objects.remove(*key)),
            Write::DeletePrefix(prefix) => objects.retain(|key, _| !key.starts_with(prefix)),
        }
    }
}

fn scan(objects: &Objects, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
    let mut within = objects.range::<[u8], _>(range.as_bytes());
    while let Some((key, value)) = match range.direction {
        Direction::Forward => within.next(),
        Direction::Reverse => within.next_back(),
    } {
        if !visit(key.as_bytes(), value) {
            break;
        }
    }
}

impl Engine for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        assert!(!self.0.get_panics.load(Ordering::Relaxed), "told to panic");
        let objects = self.0.objects();
        Ok(keys.iter().map(|key| objects.get(key).cloned()).collect())
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &*self.0.scan_gate.lock().unwrap() {
            gate.wait();
        }
        scan(&self.0.objects(), range, visit);
        Ok(())
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        if let Some(gate) = &*self.0.gate.lock().unwrap() {
            gate.wait();
        }
        let fault = self.0.faults.lock().unwrap().pop_front().flatten();
        match fault {
            Some(Fault::Fail(kind)) => return Err(Error::new(kind, "told to fail")),
            Some(Fault::Panic) => panic!("told to panic"),
            None => {}
        }
        if let Some((poison, kind)) = &*self.0.poisonous.lock().unwrap() {
            let bad =
                |write: &Write<'_>| matches!(write, Write::Put { value, .. } if *value == poison);
            if writes.iter().any(bad) {
                return Err(Error::new(kind.clone(), "told to fail on this value"));
            }
        }
        write(&mut self.0.objects(), writes);
        self.0.applied.lock().unwrap().push((writes.len(), sync));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if self.0.sync_fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unknown, "told to fail"));
        }
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        if let Some(synced) = &*self.0.synced.lock().unwrap() {
            let _ = synced.send(());
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct FakeTransaction {
    objects: Objects,
    put: Vec<Key>,
}

impl Transaction for FakeTransaction {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        Ok(keys
            .iter()
            .map(|key| self.objects.get(key).cloned())
            .collect())
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        scan(&self.objects, range, visit);
        Ok(())
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<()> {
        write(&mut self.objects, writes);
        self.put
            .extend(writes.iter().filter_map(|write| match write {
                Write::Put { key, .. } => Some((*key).clone()),
                _ => None,
            }));
        Ok(())
    }
}

impl Transactional for Fake {
    type Transaction<'t> = FakeTransaction;

    fn transact(
        &self,
        body: &mut dyn FnMut(&mut FakeTransaction) -> Result<()>,
    ) -> Result<Vec<Key>> {
        self.transact_group(true, body)
    }
}

impl Shareable for Fake {
    fn transact_group(
        &self,
        sync: bool,
        body: &mut dyn FnMut(&mut FakeTransaction) -> Result<()>,
    ) -> Result<Vec<Key>> {
        self.0.transactions.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &*self.0.gate.lock().unwrap() {
            gate.wait();
        }
        if let Some(Fault::Fail(kind)) = self.0.faults.lock().unwrap().pop_front().flatten() {
            return Err(Error::new(kind, "told to fail"));
        }
        let objects = self.0.objects().clone();
        let put = Vec::new();
        let mut transaction = FakeTransaction { objects, put };
        body(&mut transaction)?;
        *self.0.objects() = transaction.objects;
        self.0.applied.lock().unwrap().push((0, sync));
        Ok(transaction.put)
    }

    fn others_wrote(&self) -> Result<bool> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.others_wrote.swap(false, Ordering::Relaxed))
    }
}
