//! Handlers are tower services, and take the layers that you have: `cargo run --example middleware`.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kvjob::job::{Jobs, KvStore, Options, Task};
use kvjob::kv::Memory;
use kvjob::worker::{Context, Json, Outcome, Route, TaskHandler as _, Worker};
use serde::{Deserialize, Serialize};
use tower::Service;
use tower::layer::layer_fn;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

#[derive(Serialize, Deserialize)]
struct Resize {
    image: String,
}

impl Task for Resize {
    const NAME: &'static str = "resize";
}

async fn resize(job: Resize) -> Json<String> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Json(format!("small-{}", job.image))
}

/// A layer of one's own, which says what is run.
#[derive(Clone)]
struct Says(Route);

impl Service<Context> for Says {
    type Response = Outcome;
    type Error = kvjob::worker::BoxError;
    type Future = <Route as Service<Context>>::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, context: Context) -> Self::Future {
        println!(
            "{} {}",
            context.job().lane.task,
            context.job().payload.as_str()
        );
        self.0.call(context)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = KvStore::open(Arc::new(Memory::new()), Options::default()).await?;
    let jobs = Jobs::new(Arc::new(store.clone()));
    let mut ids = Vec::new();
    for number in 1..=4 {
        let image = format!("{number}.png");
        ids.push(jobs.add(Resize { image }).await?.job.id);
    }

    let worker = Worker::builder(Arc::new(store))
        .concurrency(4)
        // Around this handler alone: no more than two at a time.
        .register(resize.layer(ConcurrencyLimitLayer::new(2)))
        // Around all of them; what is too slow is a failed attempt.
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .layer(layer_fn(Says))
        .build()?;
    worker.run_once().await?;

    for id in ids {
        let ended = jobs.wait(id, Duration::ZERO).await?;
        println!("{}", ended.value::<String>()?);
    }
    Ok(())
}
