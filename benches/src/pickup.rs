//! How soon a waiting worker begins a job, and what a worker costs that has nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvjob::clock::Timestamp;
use kvjob::job::{KvStore, NewJob, QueueStore as _};
use kvjob::worker::{Event, Worker};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

#[cfg(feature = "servers")]
use crate::other::Other;
use crate::stores::Backend;
use crate::{Options, Result, life};

/// Lanes an idle worker looks after.
const LANES: usize = 100;

pub(crate) async fn run(options: &Options) -> Result<()> {
    if options.pickups > 0 {
        if !options.json {
            println!("\nfrom an acknowledged enqueue to the handler's start, microseconds");
            println!(
                "{:<8} {:>14} {:>10} {:>10}",
                "backend", "enqueued by", "p50", "p99"
            );
        }
        for backend in options.backends.iter().copied() {
            let (store, home) = backend.open(options.durability).await?;
            pick_up(options, backend, store.clone(), Enqueuer::Itself(store)).await?;
            #[cfg(feature = "servers")]
            if let Some(other) = home.url().map(Other::start).transpose()? {
                let store = backend.store(&home, options.durability).await?;
                let store = KvStore::open(store, kvjob::job::Options::default()).await?;
                pick_up(options, backend, store, Enqueuer::Another(Box::new(other))).await?;
            }
            drop(home);
        }
    }
    if options.idle > 0 {
        if !options.json {
            println!("\nCPU seconds a minute of an idle worker with {LANES} lanes");
        }
        for backend in options.backends.iter().copied() {
            idle(options, backend).await?;
        }
    }
    Ok(())
}

/// Who enqueues, in which process.
enum Enqueuer {
    Itself(KvStore),
    #[cfg(feature = "servers")]
    Another(Box<Other>),
}

impl Enqueuer {
    fn name(&self) -> &'static str {
        match self {
            Self::Itself(_) => "itself",
            #[cfg(feature = "servers")]
            Self::Another(_) => "another",
        }
    }

    /// Enqueues a job, and says when that was acknowledged: see [`now`].
    async fn enqueue(&mut self, number: usize) -> Result<f64> {
        match self {
            Self::Itself(store) => {
                store.enqueue(life::job(number)?).await?;
                Ok(now())
            }
            #[cfg(feature = "servers")]
            Self::Another(process) => process.enqueue().await,
        }
    }
}

/// One job after the other.
async fn pick_up(
    options: &Options,
    backend: Backend,
    store: KvStore,
    mut by: Enqueuer,
) -> Result<()> {
    let (tells, mut begins) = mpsc::unbounded_channel();
    let worker = Worker::builder(Arc::new(store)).handle_signals(false);
    let worker = worker.handler("send-mail", move |_| {
        let sent = tells.send(now());
        async move { sent.map_err(|_| "nobody listens") }
    });
    let worker = worker.build()?;
    let control = worker.control();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run());
    while events.recv().await? != Event::ClaimEmpty {}
    let mut micros = Vec::with_capacity(options.pickups);
    // The first one finds everything cold.
    for number in 0..=options.pickups {
        let stored = by.enqueue(number).await?;
        let begin = begins.recv().await.ok_or("the worker has ended")?;
        if number > 0 {
            // Where the worker was faster than the answer: at once.
            micros.push((begin - stored).max(0.0));
        }
        // Until it waits again.
        while !matches!(events.recv().await?, Event::Ended { .. }) {}
        while events.recv().await? != Event::ClaimEmpty {}
    }
    control.stop();
    run.await??;
    micros.sort_by(f64::total_cmp);
    let at = |part: usize| micros.get(micros.len() * part / 100).copied();
    let (p50, p99) = (at(50).unwrap_or(f64::NAN), at(99).unwrap_or(f64::NAN));
    let by = by.name();
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "backend": backend.name(), "durability": options.durability.to_string(),
                "enqueued_by": by, "pickups": micros.len(), "p50_us": p50, "p99_us": p99,
            })
        );
    } else {
        println!("{:<8} {by:>14} {p50:>10.0} {p99:>10.0}", backend.name());
    }
    Ok(())
}

async fn idle(options: &Options, backend: Backend) -> Result<()> {
    let (store, _home) = backend.open(options.durability).await?;
    let mut worker = Worker::builder(Arc::new(store.clone())).handle_signals(false);
    for lane in 0..LANES {
        let task = format!("task-{lane}");
        // One is done at once, one waits for another day.
        store.enqueue(NewJob::new(&task, &lane)?).await?;
        let later =
            Timestamp::from(std::time::SystemTime::now()).after(Duration::from_secs(86_400));
        store
            .enqueue(NewJob::new(&task, &lane)?.run_at(later))
            .await?;
        worker = worker.handler(task, async |_| ());
    }
    let worker = worker.build()?;
    let control = worker.control();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run());
    while events.recv().await? != Event::ClaimEmpty {}
    drop(events);
    let before = cpu_seconds();
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let per_minute = (cpu_seconds() - before) * 60.0 / begin.elapsed().as_secs_f64();
    control.stop();
    run.await??;
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "backend": backend.name(), "lanes": LANES, "idle_cpu_seconds_per_minute": per_minute,
            })
        );
    } else {
        println!("{:<8} {per_minute:>10.3}", backend.name());
    }
    Ok(())
}

/// The time in microseconds, of a clock that all processes of a machine share.
pub(crate) fn now() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

/// What this process has used of all processors.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
