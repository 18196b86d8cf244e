//! Handlers and schedules tested without waiting, under a time that the test moves:
//! `cargo run --example virtual_time`.
//!
//! These would be three `#[tokio::test]`s beside the handlers. Here they are run one after the
//! other, and say what happened when.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvjob::clock::Timestamp;
use kvjob::cron::Schedule;
use kvjob::job::{Backoff, State, StateStore as _, Task};
use kvjob::testkit::{Ran, Runtime};
use kvjob::worker::{Builder, Context, Data};
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Serialize, Deserialize)]
struct SendEmail {
    to: String,
}

impl Task for SendEmail {
    const NAME: &'static str = "send-email";
    const MAX_ATTEMPTS: u32 = 4;

    fn backoff() -> Backoff {
        Backoff::Exponential {
            base: MINUTE,
            max: 60 * MINUTE,
        }
    }
}

/// It is busy for the first mails.
struct MailServer {
    busy: AtomicUsize,
}

async fn send(_: SendEmail, server: Data<MailServer>) -> Result<(), &'static str> {
    let busy = server
        .busy
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    match busy {
        Ok(_) => Err("the server is busy"),
        Err(_) => Ok(()),
    }
}

/// It asks for the sales of each day, and is not to ask too fast.
async fn report(context: Context) {
    for _ in 0..7 {
        context.sleep(10 * MINUTE).await;
    }
}

/// What the program's workers run: tests take it as it is.
fn handlers(worker: Builder) -> Builder {
    worker.register(send).handler("report", report)
}

/// A runtime under test, whose mail server is busy so often.
async fn start(busy: usize) -> kvjob::job::Result<Runtime> {
    let busy = AtomicUsize::new(busy);
    let builder = Runtime::builder().worker(handlers);
    let builder = builder.worker(move |worker| worker.data(MailServer { busy }));
    let weekly = Schedule::cron("report", "0 6 * * mon")?.time_zone("Europe/Berlin")?;
    builder.schedule(weekly).build().await
}

fn say(what: &str, ran: &[Ran]) {
    println!("{what}:");
    for ran in ran {
        println!("  {ran}");
    }
}

async fn a_mail_is_tried_again_until_the_server_takes_it() -> Result<(), Box<dyn Error>> {
    let mut test = start(2).await?;
    let to = "ada@example.org".to_owned();
    let id = test.jobs().add(SendEmail { to }).await?.job.id;

    let ran = test.advance(60 * MINUTE).await?;
    say("retries", &ran);
    let attempts: Vec<State> = ran.iter().map(|ran| ran.state).collect();
    let expected = [State::Scheduled, State::Scheduled, State::Completed];
    assert_eq!(attempts, expected);

    let history = test.store().history(id).await?;
    assert!(history.iter().any(|step| step.reason.is_some()));
    Ok(())
}

async fn a_mail_for_later_is_sent_then_and_not_before() -> Result<(), Box<dyn Error>> {
    let mut test = start(0).await?;
    let (to, tomorrow) = ("ada@example.org".to_owned(), test.now().after(DAY));
    test.jobs().add(SendEmail { to }).run_at(tomorrow).await?;

    assert!(test.run_due().await?.is_empty());
    assert!(test.advance(DAY / 2).await?.is_empty());
    let ran = test.advance(DAY / 2).await?;
    say("for later", &ran);
    let at: Vec<Timestamp> = ran.iter().map(|ran| ran.at).collect();
    assert_eq!(at, [tomorrow]);
    Ok(())
}

async fn a_week_has_one_report_that_takes_its_time() -> Result<(), Box<dyn Error>> {
    let mut test = start(0).await?;
    let ran = test.advance(7 * DAY).await?;
    say("schedule", &ran);
    let reports = ran.iter().map(|ran| (ran.at.to_string(), ran.elapsed));
    let monday = "2026-01-05T06:10:00Z".to_owned();
    assert!(reports.eq([(monday, 70 * MINUTE)]));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    a_mail_is_tried_again_until_the_server_takes_it().await?;
    a_mail_for_later_is_sent_then_and_not_before().await?;
    a_week_has_one_report_that_takes_its_time().await
}
