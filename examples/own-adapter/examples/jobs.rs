//! Jobs on this store: `cargo run --example jobs`.

use std::sync::Arc;

use kvjob::job::{self, KvStore, NewJob, Options, QueueStore as _};
use kvjob::worker::{Context, Worker};
use own_adapter::Ordered;

async fn greet(context: Context) -> job::Result<()> {
    println!("Hello, {}!", context.job().payload.parse::<String>()?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let jobs = KvStore::open(Arc::new(Ordered::default()), Options::default()).await?;
    for name in ["Ada", "Grace", "Edsger"] {
        jobs.enqueue(NewJob::new("greet", name)?).await?;
    }
    let worker = Worker::builder(Arc::new(jobs)).handler("greet", greet);
    worker.build()?.run_once().await?;
    Ok(())
}
