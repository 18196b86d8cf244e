//! A web service that puts work off to a worker beside it, and stops in good order:
//! `cargo run -p example-axum`, then
//!
//! ```sh
//! curl -d '{"to": "ada@example.org"}' -H 'content-type: application/json' localhost:3000/mails
//! curl localhost:3000/mails/ID
//! ```
//!
//! At Ctrl-C or SIGTERM the server takes no more requests and the worker no more jobs. Requests
//! under way are answered and jobs under way are finished, both at the same time. What waits by then
//! is there when the service starts again. A second signal gives back what still runs.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use kvjob::job::{self, JobId, Jobs, KvStore, Options, Store as _, Task};
use kvjob::kv::Store as _;
use kvjob::worker::Worker;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Task for Mail {
    const NAME: &'static str = "mail";
}

/// The job: slow, as mail servers are.
async fn send(mail: Mail) {
    println!("sending to {}", mail.to);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("sent to {}", mail.to);
}

/// `POST /mails`: by the time of the answer the job is stored.
async fn add(State(jobs): State<Jobs>, Json(mail): Json<Mail>) -> (StatusCode, Json<Value>) {
    match jobs.add(mail).await {
        Ok(added) => (StatusCode::ACCEPTED, Json(json!({ "id": added.job.id }))),
        Err(error) => failed(&error),
    }
}

/// `GET /mails/ID`
async fn look(State(jobs): State<Jobs>, Path(id): Path<JobId>) -> (StatusCode, Json<Value>) {
    match jobs.get(id).await {
        Ok(Some(job)) => (StatusCode::OK, Json(json!({ "state": job.state }))),
        Ok(None) => (
            StatusCode::NOT_FOUND,
            Json(json!({ "error": "no such mail" })),
        ),
        Err(error) => failed(&error),
    }
}

fn failed(error: &job::Error) -> (StatusCode, Json<Value>) {
    let status = match error {
        job::Error::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "error": error.to_string() })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let path = args.next().unwrap_or_else(|| "mails.redb".to_owned());
    // Before anything is begun that a signal would cut off.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;

    let file = Arc::new(kvjob_redb::open(path)?);
    let store = Arc::new(KvStore::open(file.clone(), Options::default()).await?);
    let worker = Worker::builder(store.clone())
        .concurrency(4)
        // It listens for signals by itself: the first lets it finish, the second gives back.
        .handle_signals(true)
        .register(send)
        .build()?;
    let control = worker.control();

    let stop = CancellationToken::new();
    let worker = {
        // Without its worker the service is none: whyever it ends, so does the server.
        let stops = stop.clone().drop_guard();
        tokio::spawn(async move {
            let ended = worker.run().await;
            drop(stops);
            ended
        })
    };
    let stopping = async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
            () = stop.cancelled() => {}
        }
        println!("stopping");
    };

    let routes = Router::new()
        .route("/mails", post(add))
        .route("/mails/{id}", get(look))
        .with_state(Jobs::new(store.clone()));
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let served = axum::serve(listener, routes).with_graceful_shutdown(stopping);
    let served = served.await;
    // If it was the server that ended, the worker still finishes.
    control.stop();
    worker.await??;
    store.stop().await?;
    file.stop().await?;
    served?;
    println!("stopped");
    Ok(())
}
