//! What a job costs on each backend, beside the raw engine making the same changes in the same
//! run. See the README beside this crate.

#![allow(clippy::cast_precision_loss, clippy::unwrap_used, clippy::expect_used)]

mod depth;
mod life;
#[cfg(feature = "servers")]
mod other;
mod pickup;
mod raw;
mod rivals;
mod shape;
mod stores;

use std::error::Error;

use clap::Parser;
use kvjob::kv::Durability;
use serde::Serialize;

use life::Callers;
use shape::Shape;
use stores::Backend;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures what a job costs on each backend, beside the raw engine making the same changes.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Jobs of one round with many callers; a single caller gets a tenth.
    #[arg(long, default_value_t = 20_000)]
    jobs: usize,
    /// Rounds of which the median counts; with none, only pickups and idle workers are measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// When a change is on disk: immediate, interval:100ms, memory.
    #[arg(long, default_value_t = Durability::Immediate)]
    durability: Durability,
    /// How many jobs wait while claims are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    depths: Vec<usize>,
    /// How many processes take jobs from one server at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    rivals: Vec<usize>,
    /// Jobs that are enqueued for a waiting worker, one after the other.
    #[arg(long, default_value_t = 500)]
    pickups: usize,
    /// Seconds for which an idle worker is watched.
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// The backends to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Backend::Memory, Backend::Redb])]
    backends: Vec<Backend>,
    /// One JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
    /// For this program alone, which starts itself as another process.
    #[cfg(feature = "servers")]
    #[arg(long, hide = true)]
    enqueue_at: Option<String>,
}

/// Jobs a second of kvjob and of the raw engine.
#[derive(Debug, Serialize)]
struct Row {
    backend: &'static str,
    durability: String,
    callers: String,
    jobs: usize,
    enqueue: f64,
    drain: f64,
    life: f64,
    raw_enqueue: f64,
    raw_drain: f64,
    raw_life: f64,
    /// Median of kvjob's life over the raw one's, round by round.
    ratio: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    #[cfg(feature = "servers")]
    if let Some(url) = &options.enqueue_at {
        return other::enqueue_when_told(url).await;
    }
    if options.rounds > 0 {
        throughput(options).await?;
        depth::run(options).await?;
        rivals::run(options).await?;
    }
    pickup::run(options).await
}

async fn throughput(options: &Options) -> Result<()> {
    let shape = Shape::measure().await?;
    if !options.json {
        println!(
            "durability {}; medians of {} rounds; a job is {} bytes in 2 keys when enqueued; {} cores\n",
            options.durability,
            options.rounds,
            shape.enqueued_bytes(),
            std::thread::available_parallelism()?
        );
        println!(
            "{:<8} {:>10} {:>10} {:>10} {:>10} {:>12} {:>10} {:>10} {:>6}",
            "backend",
            "callers",
            "enqueue/s",
            "drain/s",
            "life/s",
            "raw enqueue",
            "raw drain",
            "raw life",
            "ratio"
        );
    }
    for backend in options.backends.iter().copied() {
        for callers in [Callers::Many(1), Callers::Many(64), Callers::Batch(64)] {
            let row = compare(options, backend, callers, &shape).await?;
            if options.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                println!(
                    "{:<8} {:>10} {:>10.0} {:>10.0} {:>10.0} {:>12.0} {:>10.0} {:>10.0} {:>6.2}",
                    row.backend,
                    row.callers,
                    row.enqueue,
                    row.drain,
                    row.life,
                    row.raw_enqueue,
                    row.raw_drain,
                    row.raw_life,
                    row.ratio
                );
            }
        }
    }
    Ok(())
}

/// kvjob and the raw engine in turns.
async fn compare(
    options: &Options,
    backend: Backend,
    callers: Callers,
    shape: &Shape,
) -> Result<Row> {
    let jobs = match callers {
        Callers::Many(1) => options.jobs / 10,
        _ => options.jobs,
    };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let our = life::round(backend, options.durability, callers, jobs).await?;
        let durability = options.durability;
        let batch = callers.at_once();
        let shape = shape.clone();
        let their = tokio::task::spawn_blocking(move || {
            raw::round(backend, durability, batch, jobs, &shape)
        })
        .await??;
        ratios.push(our.life(jobs) / their.life(jobs));
        ours.push(our);
        theirs.push(their);
    }
    let of = |phases: &[Phases], figure: &dyn Fn(&Phases) -> f64| {
        median(phases.iter().map(figure).collect())
    };
    let count = jobs as f64;
    Ok(Row {
        backend: backend.name(),
        durability: options.durability.to_string(),
        callers: callers.to_string(),
        jobs,
        enqueue: of(&ours, &|phases| count / phases.enqueue),
        drain: of(&ours, &|phases| count / phases.drain),
        life: of(&ours, &|phases| phases.life(jobs)),
        raw_enqueue: of(&theirs, &|phases| count / phases.enqueue),
        raw_drain: of(&theirs, &|phases| count / phases.drain),
        raw_life: of(&theirs, &|phases| phases.life(jobs)),
        ratio: median(ratios),
    })
}

/// Seconds of the two phases of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) enqueue: f64,
    pub(crate) drain: f64,
}

impl Phases {
    fn life(&self, jobs: usize) -> f64 {
        jobs as f64 / (self.enqueue + self.drain)
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
