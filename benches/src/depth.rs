//! What one claim and its completion cost with many jobs waiting.

use std::time::Instant;

use crate::life::{self, Callers};
use crate::{Options, Result, median};

/// Claims measured at each depth.
const CLAIMS: usize = 200;

pub(crate) async fn run(options: &Options) -> Result<()> {
    if !options.json {
        println!("\nclaim and completion of one job, microseconds (median, largest)");
        println!(
            "{:<8} {:>10} {:>10} {:>10}",
            "backend", "waiting", "median", "largest"
        );
    }
    for backend in options.backends.iter().copied() {
        for waiting in &options.depths {
            let (store, _folder) = backend.open(options.durability).await?;
            life::enqueue(&store, Callers::Batch(256), *waiting + CLAIMS).await?;
            // The first claim of a process looks for the lanes.
            life::one(&store).await?;
            let mut micros = Vec::with_capacity(CLAIMS);
            for _ in 0..CLAIMS - 1 {
                let begin = Instant::now();
                life::one(&store).await?;
                micros.push(begin.elapsed().as_secs_f64() * 1e6);
            }
            let largest = micros.iter().copied().fold(0.0, f64::max);
            let median = median(micros);
            if options.json {
                println!(
                    "{}",
                    serde_json::json!({
                        "backend": backend.name(), "durability": options.durability.to_string(),
                        "waiting": waiting, "median_us": median, "largest_us": largest,
                    })
                );
            } else {
                println!(
                    "{:<8} {waiting:>10} {median:>10.0} {largest:>10.0}",
                    backend.name()
                );
            }
        }
    }
    Ok(())
}
