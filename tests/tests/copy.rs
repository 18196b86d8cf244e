//! A job store that is copied, dumped or restored comes out the same, on every pair of stores, and
//! what cannot be is refused and loses nothing.

// A test that panics is a test that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kvjob::encoding::record;
use kvjob::encoding::tuple::Tuple;
use kvjob::job::{
    Claim, Copied, Error, Existing, KvStore, LogQuery, LogStore as _, Namespace, Options, Query,
    QueueStore as _, Stage, StateStore as _,
};
use kvjob::kv::wrap::{Fault, Faulty, Prefixed};
use kvjob::kv::{self, Atomic, ErrorKind, Key, Limits, Memory, Object, Page, Scan, Store};
use kvjob_tests::{Fixture, STORES, Space, load, text, within};

/// What is filled in ends so many seconds after the clock of a fixture begins.
const TWO_HOURS: u64 = 7_200;

/// Puts in the place of what is there a job store with everything that format 1 knows, and a
/// header of newer software.
async fn fill(store: &dyn Store) {
    let name = if store.unique_keys() {
        "format-1.store"
    } else {
        "format-1-bag.store"
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("fixtures/stores").join(name);
    store.delete(&Key::EMPTY).await.unwrap();
    let stored = std::fs::read_to_string(path).unwrap();
    load(store, &stored).await.unwrap();
    let key = Tuple::new().string("kvjob").uint(Space::Job as u64);
    let newer = record::encode(2, "of the future").unwrap();
    let newer = Object::new(key.uuid(&[9; 16]).finish(), newer);
    store.set(newer).await.unwrap();
}

async fn namespace(store: &Arc<dyn Store>, name: &str) -> Namespace {
    Namespace::open(Arc::clone(store), name).await.unwrap()
}

/// Everything under a prefix of keys.
async fn raw(store: &dyn Store, prefix: &[u8]) -> Vec<Object> {
    let (mut objects, mut scan) = (Vec::new(), Scan::prefix(prefix));
    loop {
        let page = store.scan(scan.clone()).await.unwrap();
        objects.extend(page.objects);
        match page.next {
            Some(next) => scan = scan.after(next),
            None => return objects,
        }
    }
}

/// All that a job store says, but for where a record was put aside.
async fn answers(jobs: &KvStore) -> Vec<String> {
    let found = jobs.lookup(&Query::new().limit(1000)).await.unwrap().items;
    let stats = jobs.stats().await.unwrap();
    let queue = jobs.list(1000, None).await.unwrap().items;
    let aside = jobs.quarantine(1000, None).await.unwrap().items;
    let mut lines = vec![format!("{stats:?}"), format!("{queue:?} {aside:?}")];
    for job in found {
        let history = jobs.history(job.id).await.unwrap();
        let query = LogQuery::new(job.id).limit(1000);
        let log = jobs.logs(&query).await.unwrap().items;
        lines.push(format!("{job:?} {history:?} {log:?}"));
    }
    lines
}

async fn is_sound(jobs: &KvStore) {
    let mut found = Vec::new();
    let checked = jobs.check(false, |event| found.push(format!("{event:?}")));
    let checked = checked.await.unwrap();
    assert_eq!((checked.found, checked.too_new), (0, 1), "{found:#?}");
}

fn code(result: Result<Copied, Error>) -> &'static str {
    match result {
        Err(Error::Copy { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// A store of small values and commits.
#[derive(Debug)]
struct Small<S>(S);

#[async_trait]
impl<S: Store> Store for Small<S> {
    fn name(&self) -> &'static str {
        "small"
    }

    async fn set(&self, object: Object) -> kv::Result<()> {
        self.0.set(object).await
    }

    async fn get(&self, key: &Key) -> kv::Result<Option<Object>> {
        self.0.get(key).await
    }

    async fn scan(&self, scan: Scan) -> kv::Result<Page> {
        self.0.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> kv::Result<()> {
        self.0.remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> kv::Result<()> {
        self.0.delete(prefix).await
    }

    fn limits(&self) -> Limits {
        Limits {
            value_bytes: 4_000,
            commit_changes: 5,
            ..self.0.limits()
        }
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.0.atomic()
    }
}

/// A source in memory, with everything.
async fn source() -> (Arc<dyn Store>, Namespace) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    fill(&*store).await;
    let from = namespace(&store, "kvjob").await;
    (store, from)
}

#[tokio::test]
async fn a_copy_is_the_same_on_every_pair_of_stores_and_so_is_a_copy_of_it() {
    let mut digests = Vec::new();
    for one in STORES {
        let f = (one.open)().await;
        fill(&*f.store).await;
        f.pass(TWO_HOURS);
        let from = namespace(&f.store, "kvjob").await;
        let original = raw(&*f.store, b"").await;
        // Opened so, a store takes back no leases.
        let jobs = KvStore::open_to_check(f.store.clone(), f.options());
        let jobs = jobs.await.unwrap();
        let said = answers(&jobs).await;
        for other in STORES {
            let pair = format!("{} to {}", one.name, other.name);
            let there = (other.open)().await;
            let to = namespace(&there.store, "other").await;
            let copied = from.copy_to(&to, Existing::Refuse, |_| {});
            let copied = within(copied).await.expect(&pair);
            assert_eq!((copied.written, copied.removed), (copied.records, 0));
            let options = f.options().namespace("other");
            let copy = KvStore::open_to_check(there.store.clone(), options);
            let copy = copy.await.unwrap();
            assert_eq!(answers(&copy).await, said, "{pair}");
            is_sound(&copy).await;

            let back = (one.open)().await;
            let home = namespace(&back.store, "kvjob").await;
            let again = to.copy_to(&home, Existing::Refuse, |_| {}).await.unwrap();
            assert_eq!(again.digest, copied.digest, "{pair}");
            assert!(raw(&*back.store, b"").await == original, "{pair}");
            digests.push(copied.digest);
        }
    }
    // The fixtures of the two kinds hold different jobs.
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 2);
}

#[tokio::test]
async fn a_dump_is_restored_to_every_store() {
    let (_, from) = source().await;
    let mut dump = Vec::new();
    let dumped = from.dump(&mut dump, |_| {}).await.unwrap();
    for other in STORES {
        let there = (other.open)().await;
        let to = namespace(&there.store, "other").await;
        let restored = to.restore(Cursor::new(&dump), Existing::Refuse, |_| {});
        let restored = restored.await.unwrap();
        assert_eq!(restored.digest, dumped.digest);
        let mut again = Vec::new();
        to.dump(&mut again, |_| {}).await.unwrap();
        assert!(again == dump, "{}", other.name);
    }
}

#[tokio::test]
async fn what_was_put_aside_is_released_where_it_was_copied_to() {
    let f = Fixture::memory().await;
    let id = f.add("t").await.id;
    let header = f.space(Space::Job).await.remove(0);
    f.overwrite(Fixture::key(Space::Job, id), b"\x01").await;
    assert!(f.claim(1).await.is_empty());
    let to = namespace(&f.store, "other").await;
    let from = namespace(&f.store, "kvjob").await;
    from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    let before = raw(&*f.store, &Tuple::new().string("kvjob").finish()).await;

    let options = f.options().namespace("other");
    let copy = KvStore::open(f.store.clone(), options).await.unwrap();
    let aside = copy.quarantine(10, None).await.unwrap().items;
    assert_eq!(aside, f.jobs.quarantine(10, None).await.unwrap().items);
    let released = copy.release_quarantined(aside[0].id, true).await.unwrap();
    assert_eq!(released.unwrap().record, aside[0]);
    let key = Tuple::new().string("other").uint(Space::Job as u64);
    let key = Key::from(key.uuid(id.as_bytes()).finish());
    let back = f.store.get(&key).await.unwrap().unwrap();
    assert_eq!(back.value, &b"\x01"[..]);
    // It is the copy's affair alone.
    let after = raw(&*f.store, &Tuple::new().string("kvjob").finish()).await;
    assert_eq!(before, after);
    assert_ne!(header.value, back.value);
}

#[tokio::test]
async fn a_running_job_runs_on_under_its_lease() {
    let f = Fixture::memory().await;
    f.add("t").await;
    let claimed = f.claim_one().await;
    let (from, there) = (namespace(&f.store, "kvjob").await, Fixture::bag().await);
    let to = namespace(&there.store, "other").await;
    from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    let options = f.options().namespace("other");
    let copy = KvStore::open(there.store.clone(), options).await.unwrap();
    assert_eq!(copy.expire().await.unwrap(), []);
    copy.complete(&claimed.lease).await.unwrap();
}

#[tokio::test]
async fn a_target_that_holds_jobs_is_left_as_it_is_unless_it_is_to_be_replaced() {
    let (_, from) = source().await;
    let f = Fixture::memory().await;
    f.pass(TWO_HOURS);
    f.add("mine").await;
    let (to, before) = (
        namespace(&f.store, "kvjob").await,
        raw(&*f.store, b"").await,
    );
    let refused = from.copy_to(&to, Existing::Refuse, |_| {}).await;
    assert_eq!(code(refused), "target-not-empty");
    let mut dump = Vec::new();
    from.dump(&mut dump, |_| {}).await.unwrap();
    let refused = to.restore(Cursor::new(&dump), Existing::Refuse, |_| {});
    assert_eq!(code(refused.await), "target-not-empty");
    assert_eq!(raw(&*f.store, b"").await, before);

    let copied = from.copy_to(&to, Existing::Replace, |_| {}).await.unwrap();
    assert_eq!(copied.written, copied.records);
    assert!(copied.removed > 0);
    // What is there is not written again, but for the record of the format.
    let again = from.copy_to(&to, Existing::Replace, |_| {}).await.unwrap();
    assert_eq!((again.written, again.removed), (1, 0));
    let jobs = KvStore::open(f.store.clone(), f.options()).await.unwrap();
    is_sound(&jobs).await;
}

#[tokio::test]
async fn what_lies_in_a_namespace_and_is_no_job_store_is_not_lost_either() {
    let (_, from) = source().await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let to = namespace(&store, "kvjob").await;
    let key = [Tuple::new().string("kvjob").finish(), b"mine".to_vec()].concat();
    store.set(Object::new(key, "mine")).await.unwrap();
    let refused = from.copy_to(&to, Existing::Refuse, |_| {}).await;
    assert_eq!(code(refused), "target-not-empty");
    // Nor is it taken for one.
    let empty: Arc<dyn Store> = Arc::new(Memory::new());
    let empty = namespace(&empty, "kvjob").await;
    let refused = to.copy_to(&empty, Existing::Refuse, |_| {}).await;
    assert_eq!(code(refused), "no-job-store");
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_and_makes_nothing() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (from, to) = (namespace(&store, "a").await, namespace(&store, "b").await);
    let refused = from.copy_to(&to, Existing::Replace, |_| {}).await;
    assert_eq!(code(refused), "no-job-store");
    let refused = from.dump(Vec::new(), |_| {}).await;
    assert_eq!(code(refused), "no-job-store");
    assert_eq!(raw(&*store, b"").await, []);
}

#[tokio::test]
async fn a_copy_that_was_cut_off_is_no_job_store_and_goes_on() {
    let (_, from) = source().await;
    let mut cuts = 0;
    // The mark, the records, the format: each of the writes is the last once.
    for writes in 0.. {
        let memory = Arc::new(Memory::new());
        let store = Arc::new(Small(Faulty::new(memory.clone(), 7)));
        store.0.next_writes(vec![Fault::None; writes]);
        store.0.next_writes([Fault::Broken]);
        let store: Arc<dyn Store> = store;
        let to = namespace(&store, "kvjob").await;
        if let Ok(copied) = from.copy_to(&to, Existing::Refuse, |_| {}).await {
            assert!(writes > 10 && copied.removed == 0);
            break;
        }
        cuts += 1;
        let below: Arc<dyn Store> = memory;
        let to = namespace(&below, "kvjob").await;
        let there = raw(&*below, b"").await.len() as u64;
        if writes > 0 {
            let opened = KvStore::open(below.clone(), Options::default()).await;
            let opened = opened.unwrap_err();
            assert!(
                matches!(opened, Error::Copy { code, .. } if code == "copy-unfinished"),
                "{opened:?}"
            );
            let empty: Arc<dyn Store> = Arc::new(Memory::new());
            let empty = namespace(&empty, "kvjob").await;
            let refused = to.copy_to(&empty, Existing::Refuse, |_| {}).await;
            assert_eq!(code(refused), "copy-unfinished");
            let jobs = KvStore::open_to_check(below.clone(), Options::default());
            let checked = jobs.await.unwrap().check(true, |_| {}).await;
            assert!(matches!(checked, Err(Error::Copy { .. })), "{checked:?}");
        }
        let copied = from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
        assert_eq!(
            copied.written + there.saturating_sub(1),
            copied.records,
            "what was there is not written again"
        );
        let jobs = KvStore::open(below, Options::default()).await.unwrap();
        is_sound(&jobs).await;
    }
    assert!(cuts > 10, "{cuts}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_passing_is_done_again() {
    let (_, from) = source().await;
    for fault in [
        Fault::Transient,
        Fault::Conflict,
        Fault::LostBefore,
        Fault::LostAfter,
    ] {
        let store = Arc::new(Faulty::new(Memory::bag(), 7));
        let to: Arc<dyn Store> = store.clone();
        let to = namespace(&to, "kvjob").await;
        store.next_writes([Fault::None, fault, fault, Fault::None, fault]);
        from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_changes_meanwhile_is_noticed_and_the_copy_goes_on() {
    let f = Fixture::memory().await;
    for number in 0..5_000 {
        f.enqueue(text("t", &number.to_string())).await;
    }
    let (from, there) = (namespace(&f.store, "kvjob").await, Fixture::memory().await);
    let to = namespace(&there.store, "other").await;
    // A job is added in front of those that were not yet copied.
    let changed = from.copy_to(&to, Existing::Refuse, |at| {
        if at.stage == Stage::Copying && at.records == 1 {
            let jobs = f.jobs.clone();
            tokio::spawn(async move { jobs.enqueue(text("late", "x")).await });
        }
    });
    assert_eq!(code(changed.await), "source-changed");
    let copied = from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    // What was read when the change was noticed, and waited to be written, is written now.
    assert_eq!(copied.jobs, 5_001);
    assert!(copied.written < copied.records / 2, "{copied:?}");
}

#[tokio::test]
async fn a_target_that_another_changes_is_noticed() {
    let (_, from) = source().await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let to = namespace(&store, "kvjob").await;
    let key = [Tuple::new().string("kvjob").finish(), b"\xfe".to_vec()].concat();
    let copied = from.copy_to(&to, Existing::Refuse, |at| {
        if at.stage == Stage::Copying && at.records == 1 {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(async move { store.set(Object::new(key, "")).await });
        }
    });
    assert_eq!(code(copied.await), "copy-differs");
    let copied = from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    assert_eq!(copied.removed, 1);
}

#[tokio::test]
async fn of_two_copies_into_one_namespace_the_later_goes_on() {
    let (_, from) = source().await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (one, other) = (
        namespace(&store, "kvjob").await,
        namespace(&store, "kvjob").await,
    );
    let (again, mut later) = (from.clone(), None);
    let earlier = from.copy_to(&one, Existing::Refuse, |at| {
        if at.stage == Stage::Copying && at.records == 1 {
            let (from, to) = (again.clone(), other.clone());
            let copy = async move { from.copy_to(&to, Existing::Refuse, |_| {}).await };
            later = Some(tokio::spawn(copy));
        }
    });
    assert_eq!(code(earlier.await), "copy-taken-over");
    later.unwrap().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_store_is_not_copied_onto_itself_whatever_its_names() {
    let (store, from) = source().await;
    let before = raw(&*store, b"").await;
    let refused = from.copy_to(&from, Existing::Replace, |_| {}).await;
    assert_eq!(code(refused), "same-store");
    let alias: Arc<dyn Store> = Arc::new(Prefixed::new(store.clone(), ""));
    let to = namespace(&alias, "kvjob").await;
    let refused = from.copy_to(&to, Existing::Replace, |_| {}).await;
    assert_eq!(code(refused), "same-store");
    assert_eq!(raw(&*store, b"").await, before);
}

#[tokio::test]
async fn what_the_target_cannot_take_is_named_before_anything_is_written() {
    let f = Fixture::memory().await;
    let id = f.enqueue(text("t", &"x".repeat(5_000))).await.job.id;
    let from = namespace(&f.store, "kvjob").await;
    let store: Arc<dyn Store> = Arc::new(Small(Memory::new()));
    let to = namespace(&store, "kvjob").await;
    let refused = from.copy_to(&to, Existing::Replace, |_| {}).await;
    let Err(Error::Store(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge { limit: 4_000, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert_eq!(raw(&*store, b"").await, []);
}

#[tokio::test]
async fn two_values_of_one_key_have_no_place_where_keys_are_unique() {
    let f = Fixture::bag().await;
    let id = f.add("t").await.id;
    f.put(Fixture::key(Space::Job, id), b"foreign").await;
    let from = namespace(&f.store, "kvjob").await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let to = namespace(&store, "kvjob").await;
    let refused = from.copy_to(&to, Existing::Refuse, |_| {}).await;
    let Err(Error::Copy { code, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, "no-place");
    assert!(message.contains(&id.to_string()), "{message}");
    assert_eq!(raw(&*store, b"").await, []);
    // A bag has.
    let store: Arc<dyn Store> = Arc::new(Memory::bag());
    let to = namespace(&store, "kvjob").await;
    from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    assert_eq!(raw(&*store, b"").await, raw(&*f.store, b"").await);
}

#[tokio::test]
async fn what_newer_software_made_is_neither_copied_nor_replaced() {
    let (_, from) = source().await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let newer = record::encode(1, &(9_u8, 9_u8)).unwrap();
    let key = Fixture::prefix(Space::Format);
    store.set(Object::new(key, newer)).await.unwrap();
    let newer = namespace(&store, "kvjob").await;
    let empty: Arc<dyn Store> = Arc::new(Memory::new());
    let empty = namespace(&empty, "kvjob").await;
    for (from, to) in [(&newer, &empty), (&from, &newer)] {
        let refused = from.copy_to(to, Existing::Replace, |_| {}).await;
        let Err(Error::Store(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(*error.kind(), ErrorKind::TooNew);
    }
}

#[tokio::test]
async fn a_claim_goes_on_where_the_copy_was_taken() {
    let f = Fixture::memory().await;
    for number in 0..40 {
        f.enqueue(text("t", "").priority(number % 5)).await;
    }
    let expected = f.listed().await;
    let (from, there) = (namespace(&f.store, "kvjob").await, Fixture::redb().await);
    let to = namespace(&there.store, "other").await;
    from.copy_to(&to, Existing::Refuse, |_| {}).await.unwrap();
    let options = f.options().namespace("other");
    let copy = KvStore::open(there.store.clone(), options).await.unwrap();
    let claimed = copy.claim(Claim::new("w").max(40)).await.unwrap().jobs;
    let ids: Vec<_> = claimed.iter().map(|claimed| claimed.job.id).collect();
    assert_eq!(ids, expected);
}
