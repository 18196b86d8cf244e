//! One of the processes: claims, works for a moment, completes, and ends when nothing is left.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{
    Claim, Claimed, Error, KvStore, Options, Query, QueueStore as _, State, StateStore as _,
    Store as _,
};
use tokio::time::{sleep, timeout};

use super::journal::Journal;

/// Set for such a process: `name directory workers url`.
const ORDERS: &str = "KVJOB_PROCESS";
/// How long a job is held that nobody completes.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How far the clocks of the processes may be apart: they share one.
const SKEW: Duration = Duration::from_millis(100);
/// How long one that found nothing waits for news before it looks at what the others hold.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// Jobs claimed at once.
const AT_ONCE: usize = 32;
/// One job in so many is held until its lease is over, as by a process that stood still.
const SLOW: u64 = 2_000;

/// What a process is to do.
pub(crate) struct Orders {
    name: String,
    journal: PathBuf,
    workers: usize,
    url: String,
}

impl Orders {
    /// The orders of this process, if it is one of them.
    pub(crate) fn given() -> Option<Self> {
        let text = std::env::var(ORDERS).ok()?;
        let mut words = text.splitn(4, ' ').map(ToOwned::to_owned);
        let name = words.next()?;
        let journal = Path::new(&words.next()?).join(&name);
        let workers = words.next()?.parse().ok()?;
        let url = words.next()?;
        Some(Self {
            name,
            journal,
            workers,
            url,
        })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is to write down.
    pub(crate) fn journal(&self) -> Journal {
        Journal::create(&self.journal)
    }

    /// How many workers it is to have.
    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Where the jobs are.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// One of them, which is killed with this at the latest: a test that fails leaves none behind.
pub(crate) struct Process(Child);

impl Process {
    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// How it ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one that runs nothing but this test.
pub(crate) fn start_as(
    test: &str,
    url: &str,
    workers: usize,
    name: &str,
    journals: &Path,
) -> Process {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command
        .args([test, "--exact", "--nocapture"])
        .env(
            ORDERS,
            format!("{name} {} {workers} {url}", journals.display()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Process(command.spawn().unwrap())
}

/// One that goes on until it is killed.
pub(crate) struct Endless(Process);

impl Endless {
    /// As [`start_as`].
    pub(crate) fn start_as(test: &str, url: &str, name: &str) -> Self {
        Self(start_as(test, url, 1, name, Path::new("none")))
    }

    /// Kills it; it must not have ended by itself.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.0.try_wait(), None, "a process failed");
    }
}

pub(crate) fn options() -> Options {
    Options::default().max_skew(SKEW)
}

/// Works until no job is left.
pub(crate) async fn work(orders: Orders) {
    let journal = Mutex::new(orders.journal());
    let store = kvjob_any::open(&orders.url).await.unwrap();
    let jobs = KvStore::open(store.clone(), options()).await.unwrap();
    let workers = (0..orders.workers).map(|number| {
        let name = format!("{}-{number}", orders.name);
        worker(&jobs, name, &journal)
    });
    join_all(workers).await;
    jobs.stop().await.unwrap();
    store.stop().await.unwrap();
}

async fn worker(jobs: &KvStore, name: String, journal: &Mutex<Journal>) {
    let mut activity = jobs.activity();
    loop {
        activity.mark_unchanged();
        let claim = Claim::new(name.clone()).max(AT_ONCE).lease(LEASE);
        let claims = jobs.claim(claim).await.unwrap();
        if claims.jobs.is_empty() {
            if nothing_is_left(jobs).await {
                break;
            }
            // No news is no news: the jobs of the dead come back by themselves.
            let _ = timeout(POLL, activity.changed()).await;
            continue;
        }
        for claimed in &claims.jobs {
            journal.lock().unwrap().began(&claimed.lease, LEASE);
        }
        join_all(
            claims
                .jobs
                .iter()
                .map(|claimed| one(jobs, claimed, journal)),
        )
        .await;
    }
}

async fn one(jobs: &KvStore, claimed: &Claimed, journal: &Mutex<Journal>) {
    if SystemClock.random().is_multiple_of(SLOW) {
        sleep(LEASE + SKEW + POLL).await;
    }
    let lease = &claimed.lease;
    journal.lock().unwrap().ending(lease.id, lease.epoch);
    match jobs.complete(&claimed.lease).await {
        Ok(()) => journal.lock().unwrap().completed(&claimed.lease),
        Err(Error::LeaseLost { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn nothing_is_left(jobs: &KvStore) -> bool {
    let mut query = Query::new().states([State::Scheduled, State::Ready, State::Running]);
    loop {
        let page = jobs.lookup(&query).await.unwrap();
        match page.next {
            _ if !page.items.is_empty() => return false,
            Some(next) => query = query.cursor(next),
            None => return true,
        }
    }
}
