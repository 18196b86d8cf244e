//! A program without async that adds jobs, works them off with plain functions, and waits for what
//! they answer: `cargo run --example blocking`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kvjob::blocking::{self, Jobs};
use kvjob::job::{NewJob, Options, Task};
use kvjob::worker::{Context, Json};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Factor {
    number: u64,
}

impl Task for Factor {
    const NAME: &'static str = "factor";
    const MAX_ATTEMPTS: u32 = 3;
}

/// It blocks its thread for as long as it likes.
fn factor(Factor { mut number }: Factor, _: &Context) -> Result<Json<Vec<u64>>, &'static str> {
    if number == 0 {
        return Err("everything divides 0");
    }
    let mut factors = Vec::new();
    let mut next = 2;
    while next * next <= number {
        while number.is_multiple_of(next) {
            factors.push(next);
            number /= next;
        }
        next += 1;
    }
    factors.extend((number > 1).then_some(number));
    Ok(Json(factors))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = kvjob_redb::open(std::env::temp_dir().join("blocking.redb"))?;
    let jobs = Jobs::open(Arc::new(store), Options::default())?;

    // Once, until nothing is due.
    jobs.enqueue(NewJob::new("greet", "Ada")?)?;
    let greet = blocking::handler(|context: &Context| {
        let name: String = context.job().payload.parse()?;
        println!("Hello, {name}!");
        Ok::<_, kvjob::job::Error>(())
    });
    jobs.run_once(jobs.worker().handler("greet", greet).build()?)?;

    // In a thread of its own, beside those who add jobs and wait for them.
    let worker = jobs.worker().concurrency(4);
    let worker = worker.register(blocking::task(factor)).build()?;
    let control = worker.control();
    let working = thread::spawn({
        let jobs = jobs.clone();
        move || jobs.run(worker)
    });
    for number in [91, 1_000_007, 600_851_475_143] {
        let id = jobs.add(Factor { number })?.job.id;
        let factors: Vec<u64> = jobs.wait(id, Duration::from_secs(30))?.value()?;
        println!("{number}: {factors:?}");
        assert_eq!(factors.iter().product::<u64>(), number);
    }
    control.stop();
    working
        .join()
        .map_err(|_| "the worker's thread panicked")??;
    Ok(())
}
