//! A nightly report that makes up for the nights it missed, under a clock that this program moves:
//! `cargo run --example cron`.
//!
//! Without `.clock(...)` it goes by the system's, and `scheduler.run()` adds jobs until it is
//! stopped.

use std::sync::Arc;
use std::time::Duration;

use kvjob::cron::Scheduler;
use kvjob::job::{self, KvStore, Options};
use kvjob::kv::Memory;
use kvjob::testkit::ManualClock;
use kvjob::worker::{Context, Worker};
use serde::Deserialize;

const CRONTAB: &str = "
# min hour date month dow  task    options        payload
  30  4    *    *     *    report  ?fill=3d&max=5 {\"to\": \"ada\"}
";
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
struct Report {
    to: String,
    #[serde(rename = "_cron")]
    slot: Slot,
}

#[derive(Deserialize)]
struct Slot {
    ts: String,
    backfilled: bool,
}

async fn report(context: Context) -> job::Result<()> {
    let Report { to, slot } = context.job().payload.parse()?;
    let late = if slot.backfilled { ", late" } else { "" };
    println!("report of {} for {to}{late}", slot.ts);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::new(7);
    let options = Options::default().clock(Arc::new(clock.clone()));
    let store = Arc::new(KvStore::open(Arc::new(Memory::new()), options).await?);
    let work = || {
        let worker = Worker::builder(store.clone()).clock(Arc::new(clock.clone()));
        worker.handler("report", report).build()
    };
    let schedule = || {
        let scheduler = Scheduler::builder(store.clone()).clock(Arc::new(clock.clone()));
        scheduler.crontab(CRONTAB)?.build()
    };

    // It is the first night that anybody runs this.
    let mut scheduler = schedule()?;
    let next = scheduler.run_once().await?;
    println!(
        "next: {}",
        next.map_or_else(String::new, |next| next.to_string())
    );
    clock.advance(Duration::from_secs(4 * 3600 + 30 * 60));
    scheduler.run_once().await?;
    work()?.run_once().await?;

    // For five days nothing runs. Then three nights are made up for.
    drop(scheduler);
    clock.advance(5 * DAY + Duration::from_secs(3600));
    schedule()?.run_once().await?;
    work()?.run_once().await?;
    Ok(())
}
