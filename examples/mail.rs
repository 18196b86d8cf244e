//! Mails to send, each of them a value of a type, tried again until the server takes them:
//! `cargo run --example mail`.

use std::sync::Arc;
use std::time::Duration;

use kvjob::job::{Backoff, Jobs, KvStore, Options, Task};
use kvjob::kv::Memory;
use kvjob::worker::{Attempt, Context, Data, Json, Worker};
use serde::{Deserialize, Serialize};

/// What is stored, and what its task is called.
#[derive(Serialize, Deserialize)]
struct SendEmail {
    to: String,
    subject: String,
}

impl Task for SendEmail {
    const NAME: &'static str = "send-email";
    const MAX_ATTEMPTS: u32 = 5;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));

    fn backoff() -> Backoff {
        Backoff::Exponential {
            base: Duration::from_millis(50),
            max: Duration::from_secs(60),
        }
    }
}

/// What all handlers share.
struct MailServer {
    name: &'static str,
}

impl MailServer {
    /// It is busy at first, as such servers are.
    fn send(&self, mail: &SendEmail, attempt: u32) -> Result<String, std::io::Error> {
        match attempt {
            1 | 2 => Err(std::io::Error::other(format!("{} is busy", self.name))),
            _ => Ok(format!("<{}@{}>", mail.subject.len(), self.name)),
        }
    }
}

/// It is given its mail, and what else it asks for. What it answers is the job's result; an error
/// lets the job wait for its next attempt.
async fn send(
    mail: SendEmail,
    server: Data<MailServer>,
    Attempt(attempt): Attempt,
    context: Context,
) -> Result<Json<String>, Box<dyn std::error::Error + Send + Sync>> {
    context.progress(0, 1, format!("to {}", mail.to)).await?;
    let message_id = server.send(&mail, attempt)?;
    Ok(Json(message_id))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = KvStore::open(Arc::new(Memory::new()), Options::default()).await?;
    let jobs = Jobs::new(Arc::new(store.clone()));
    let mail = SendEmail {
        to: "ada@example.org".to_owned(),
        subject: "Notes on the engine".to_owned(),
    };
    let job = jobs.add(mail).key("notes/ada").await?.job;

    let worker = Worker::builder(Arc::new(store))
        .concurrency(4)
        .data(MailServer {
            name: "mail.example.org",
        })
        .register(send)
        .build()?;
    let control = worker.control();
    let running = tokio::spawn(worker.run());

    let ended = jobs.wait(job.id, Duration::from_secs(30)).await?;
    let message_id: String = ended.value()?;
    for step in jobs.history(job.id).await? {
        let reason = step.reason.unwrap_or_default();
        println!("attempt {}: {} {reason}", step.attempt, step.state);
    }
    println!("sent as {message_id}");

    control.stop();
    running.await??;
    Ok(())
}
