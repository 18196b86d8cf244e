//! How soon a waiting worker begins a job, and what a worker costs that has nothing to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvjob::clock::Timestamp;
use kvjob::job::{self, KvStore, NewJob, QueueStore as _};
use kvjob::worker::Worker;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

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
            pick_up(options, backend, false).await?;
            if backend.is_served() {
                pick_up(options, backend, true).await?;
            }
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

/// One job after the other. The other store stands for another process.
async fn pick_up(options: &Options, backend: Backend, by_other: bool) -> Result<()> {
    let (store, home) = backend.open(options.durability).await?;
    let client = if by_other {
        let below = backend.store(&home, options.durability).await?;
        KvStore::open(below, job::Options::default()).await?
    } else {
        store.clone()
    };
    let (tells, mut begins) = mpsc::unbounded_channel();
    let worker = Worker::builder(Arc::new(store)).handle_signals(false);
    let worker = worker.handler("send-mail", move |_| {
        let sent = tells.send(Instant::now());
        async move { sent.map_err(|_| "nobody listens") }
    });
    let worker = worker.build()?;
    let control = worker.control();
    let mut events = worker.events();
    let run = tokio::spawn(worker.run());
    let mut micros = Vec::with_capacity(options.pickups);
    // The first one finds everything cold.
    for number in 0..=options.pickups {
        client.enqueue(life::job(number)?).await?;
        let stored = Instant::now();
        let begin = begins.recv().await.ok_or("the worker has ended")?;
        if number > 0 {
            micros.push(begin.saturating_duration_since(stored).as_secs_f64() * 1e6);
        }
        // Until it waits again.
        while events.recv().await? != kvjob::worker::Event::ClaimEmpty {}
    }
    control.stop();
    run.await??;
    micros.sort_by(f64::total_cmp);
    let at = |part: usize| micros.get(micros.len() * part / 100).copied();
    let (p50, p99) = (at(50).unwrap_or(f64::NAN), at(99).unwrap_or(f64::NAN));
    let by = if by_other { "another" } else { "itself" };
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
    while events.recv().await? != kvjob::worker::Event::ClaimEmpty {}
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

/// What this process has used of all processors.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
