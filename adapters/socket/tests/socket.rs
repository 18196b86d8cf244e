//! What the socket promises beside being a store: who gets in, what a bad guest can do, and that
//! the holder hears of what others write.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::fs;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kvjob::job::{Claim, KvStore, NewJob, Options, QueueStore as _, State, StateStore as _};
use kvjob::kv::wrap::Journaled;
use kvjob::kv::{
    Change, ErrorKind, Event, Key, Memory, Object, Ownership, Scan, Store, StoreExt as _,
};
use kvjob_socket::{Remote, Socket, path_beside};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Held {
    directory: TempDir,
    store: Arc<Memory>,
    socket: Socket,
}

fn held() -> Held {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Memory::new());
    let socket = Socket::listen(store.clone(), directory.path().join("s")).unwrap();
    Held {
        directory,
        store,
        socket,
    }
}

impl Held {
    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    async fn connect(&self) -> Remote {
        Remote::connect(self.path()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_nothing_else_stays_beside_it() {
    let held = held();
    let there = fs::symlink_metadata(held.path()).unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(held.directory.path()).unwrap().count(), 1);
    held.socket.close().await;
    assert_eq!(fs::read_dir(held.directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_that_a_dead_process_left_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    // Dropping it leaves the file, as a kill does; and one killed in between left this.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    fs::create_dir(directory.path().join("s.new")).unwrap();
    fs::write(directory.path().join("s.new/s"), "").unwrap();
    assert!(Remote::connect(&path).await.unwrap().is_none());
    let socket = Socket::listen(Arc::new(Memory::new()), &path).unwrap();
    assert!(Remote::connect(&path).await.unwrap().is_some());

    // The next one's is not removed by the last one's end.
    let next = Socket::listen(Arc::new(Memory::new()), &path).unwrap();
    socket.close().await;
    assert!(Remote::connect(&path).await.unwrap().is_some());
    drop(next);
    assert!(!path.exists());

    fs::write(&path, "precious").unwrap();
    let error = Socket::listen(Arc::new(Memory::new()), &path).unwrap_err();
    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_store_and_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = Remote::connect(directory.path().join("s")).await.unwrap();
    assert!(nobody.is_none());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_long_directory_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let path = deep.join("jobs.redb.sock");
    let socket = Socket::listen(Arc::new(Memory::new()), &path).unwrap();
    let remote = Remote::connect(&path).await.unwrap().unwrap();
    remote.set(Object::new("a", "1")).await.unwrap();
    socket.close().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n".repeat(200));
    let error = Socket::listen(Arc::new(Memory::new()), &path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("choose a shorter one"),
        "{error}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_socket_of_a_store_is_the_same_by_whatever_path_one_comes() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap().join("jobs.redb");
    fs::write(&real, "").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(
        path_beside(&link),
        Path::new(&format!("{}.sock", real.display()))
    );
    assert_eq!(path_beside(&link), path_beside(&real));
}

#[tokio::test]
async fn only_a_store_that_is_held_alone_and_commits_is_listened_for() {
    let held = held();
    let shared: Arc<dyn Store> = Arc::new(held.connect().await);
    assert_eq!(shared.ownership(), Ownership::Shared);
    let path = held.directory.path().join("t");
    let error = Socket::listen(shared, &path).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("open it themselves"), "{error}");
    // What the wrapper adds is what is reached.
    let journaled = Arc::new(Journaled::new(Memory::new()));
    journaled.start().await.unwrap();
    let socket = Socket::listen(journaled, &path).unwrap();
    let remote = Remote::connect(&path).await.unwrap().unwrap();
    let atomic = remote.atomic().unwrap();
    atomic.commit(vec![Change::create("a", "1")]).await.unwrap();
    socket.close().await;
}

/// Says this on a connection of its own, and waits until it is cut off.
async fn say(held: &Held, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(held.path()).await.unwrap();
    // It may be cut off before all is said.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    match ended.unwrap() {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), BrokenPipe | ConnectionReset),
            "{error}"
        ),
    }
    heard
}

#[tokio::test]
async fn whoever_sends_what_is_no_frame_is_cut_off_and_nobody_else() {
    let held = held();
    let other = held.connect().await;
    let frame = |body: &[u8]| {
        let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        frame.extend(body);
        frame
    };
    let mut nested = vec![1, 1, 5];
    nested.extend([0xfd; 9]);
    for (bytes, reason) in [
        (vec![0xff; 64], "no frame"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no frame"),
        (frame(&[]), "corrupt"),
        (frame(&[1]), "corrupt"),
        (frame(&[1, 1, 99]), "corrupt"),
        // A later version, a call without a number, and one that promises more than it has.
        (frame(&[9, 1, 6]), "version 9"),
        (frame(&[1, 0, 6]), "without a number"),
        (frame(&nested), "corrupt"),
        // More than one call in a frame.
        (frame(&[1, 1, 6, 1, 6]), "corrupt"),
    ] {
        let heard = String::from_utf8_lossy(&say(&held, &bytes).await).into_owned();
        assert!(heard.contains(reason), "{bytes:?}: {heard:?}");
    }
    other.set(Object::new("a", "1")).await.unwrap();
    assert!(held.store.get(&"a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn one_who_leaves_in_the_middle_of_a_frame_holds_nothing_up() {
    let held = held();
    let mut stream = UnixStream::connect(held.path()).await.unwrap();
    stream.write_all(&[200, 0, 0, 0, 1, 1]).await.unwrap();
    drop(stream);
    let remote = held.connect().await;
    remote.set(Object::new("a", "1")).await.unwrap();
    timeout(PATIENCE, held.socket.close()).await.unwrap();
}

#[tokio::test]
async fn two_at_once_see_each_others_writes_and_lose_none() {
    let held = held();
    let [one, two] = [held.connect().await, held.connect().await];
    let count = |remote: Remote| async move {
        let (atomic, key) = (remote.atomic().unwrap(), Key::from("n"));
        for _ in 0..100 {
            loop {
                let found = remote.get(&key).await.unwrap();
                let before = found.as_ref().map_or(0, |it| it.value[0]);
                let change = match &found {
                    Some(it) => {
                        Change::replace("n", it.value.clone(), Some(vec![before + 1].into()))
                    }
                    None => Change::create("n", vec![1]),
                };
                match atomic.commit(vec![change]).await {
                    Ok(()) => break,
                    Err(error) => {
                        let kind = error.kind();
                        assert!(matches!(kind, ErrorKind::ConditionFailed { .. }), "{error}");
                    }
                }
            }
        }
    };
    tokio::join!(count(one), count(two));
    let found = held.store.get(&"n".into()).await.unwrap().unwrap();
    assert_eq!(found.value[0], 200);
}

#[tokio::test]
async fn what_others_put_is_told_before_they_hear_that_it_is_done_and_what_the_holder_puts_is_not()
{
    let held = held();
    let mut writes = held.socket.writes().watch(&Key::EMPTY).await.unwrap();
    let remote = held.connect().await;
    held.store.set(Object::new("own", "")).await.unwrap();
    remote.set(Object::new("a", "1")).await.unwrap();
    let heard = futures::FutureExt::now_or_never(writes.next());
    assert_eq!(heard, Some(Some(Event::Changed("a".into()))));
    let changes = vec![
        Change::check("a", "1"),
        Change::create("b", "2"),
        Change::remove("own"),
    ];
    let failing = vec![Change::create("c", ""), Change::create("a", "")];
    let outcomes = remote
        .atomic()
        .unwrap()
        .commit_all(vec![changes, failing])
        .await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err(), "{outcomes:?}");
    let heard = futures::FutureExt::now_or_never(writes.next());
    assert_eq!(heard, Some(Some(Event::Changed("b".into()))));
    assert_eq!(futures::FutureExt::now_or_never(writes.next()), None);
}

#[tokio::test]
async fn when_the_holder_ends_every_call_says_closed_and_every_watch_ends() {
    let held = held();
    let remote = held.connect().await;
    let mut events = remote.watch().unwrap().watch(&"a".into()).await.unwrap();
    let path = held.path();
    timeout(PATIENCE, held.socket.close()).await.unwrap();
    assert_eq!(timeout(PATIENCE, events.next()).await.unwrap(), None);
    let error = remote.get(&"a".into()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(error.to_string().contains("has ended"), "{error}");
    assert!(Remote::connect(path).await.unwrap().is_none());
}

#[tokio::test]
async fn more_than_fits_into_a_frame_comes_in_parts() {
    let held = held();
    let remote = held.connect().await;
    let large = vec![7; 5 << 20];
    let keys: Vec<Key> = (0..5).map(|n| Key::from(vec![b'k', n])).collect();
    let commits = keys
        .iter()
        .map(|key| vec![Change::create(key.clone(), large.clone())]);
    let outcomes = remote.atomic().unwrap().commit_all(commits.collect()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let found = remote.get_many(&keys).await.unwrap();
    assert!(found.iter().flatten().all(|it| it.value.len() == 5 << 20));
    assert_eq!(found.iter().flatten().count(), 5);
    let whole = Scan::prefix("k").byte_budget(usize::MAX);
    let pages = remote.scan_many(vec![whole.clone(); 3]).await.unwrap();
    assert!(pages.iter().all(|page| !page.objects.is_empty()));
    let walked: Vec<_> = remote.scan_prefix("k").collect().await;
    assert_eq!(walked.len(), 5);
    // What the holder itself put may be larger than what goes through.
    held.store
        .set(Object::new("z", vec![0; 20 << 20]))
        .await
        .unwrap();
    let error = remote.get(&"z".into()).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge { .. }),
        "{error:?}"
    );
    assert!(
        remote.get(&"k\0".into()).await.unwrap().is_some(),
        "it goes on"
    );
}

/// A job store of the holder's that hears, and one through the socket.
async fn two_job_stores(held: &Held) -> [KvStore; 2] {
    let own = KvStore::open(held.store.clone(), Options::default())
        .await
        .unwrap();
    own.hear(held.socket.writes());
    let remote = Arc::new(held.connect().await);
    let other = KvStore::open(remote, Options::default()).await.unwrap();
    [own, other]
}

#[tokio::test]
async fn a_job_added_through_the_socket_before_the_known_ones_is_claimed_first() {
    let held = held();
    let [own, other] = two_job_stores(&held).await;
    let job = |priority: i16| NewJob::new("t", "").unwrap().priority(priority);
    for round in 1..20 {
        // The holder knows of the lane, and where its first job stands.
        for _ in 0..3 {
            own.enqueue(job(0)).await.unwrap();
        }
        let first = own.claim(Claim::new("w").max(1)).await.unwrap().jobs;
        own.complete(&first[0].lease).await.unwrap();
        let mut activity = own.activity();
        activity.mark_unchanged();
        let urgent = other.enqueue(job(-round)).await.unwrap().job.id;
        timeout(PATIENCE, activity.changed())
            .await
            .unwrap()
            .unwrap();
        let next = own.claim(Claim::new("w").max(1)).await.unwrap().jobs;
        assert_eq!(next[0].job.id, urgent);
        own.complete(&next[0].lease).await.unwrap();
    }
}

#[tokio::test]
async fn a_running_job_canceled_through_the_socket_is_heard_of_at_once() {
    let held = held();
    let [own, other] = two_job_stores(&held).await;
    let id = own
        .enqueue(NewJob::new("t", "").unwrap())
        .await
        .unwrap()
        .job
        .id;
    let leased = own.claim(Claim::new("w")).await.unwrap().jobs;
    assert_eq!(leased.len(), 1);
    assert!(own.canceled().await.unwrap().is_empty());
    let mut activity = own.activity();
    activity.mark_unchanged();
    let query = kvjob::job::Query::new().id(id);
    assert_eq!(other.cancel(&query).await.unwrap().items.len(), 1);
    timeout(PATIENCE, activity.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(own.canceled().await.unwrap(), [id]);
    // A job store through the socket takes back no lease of the holder's.
    assert_eq!(other.get(id).await.unwrap().unwrap().state, State::Running);
}
