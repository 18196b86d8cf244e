//! Ten lines that store a job and work it off: `cargo run --example hello`.

use std::sync::Arc;

use kvjob::job::{self, KvStore, NewJob, Options, QueueStore as _};
use kvjob::worker::{Context, Worker};

async fn greet(context: Context) -> job::Result<()> {
    println!("Hello, {}!", context.job().payload.parse::<String>()?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = kvjob_redb::open(std::env::temp_dir().join("hello.redb"))?;
    let jobs = KvStore::open(Arc::new(store), Options::default()).await?;
    jobs.enqueue(NewJob::new("greet", "Ada")?.max_attempts(3))
        .await?;
    Worker::builder(Arc::new(jobs))
        .handler("greet", greet)
        .build()?
        .run_once()
        .await?;
    Ok(())
}
