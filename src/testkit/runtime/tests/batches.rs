//! Handlers that get many jobs in one call.

use std::sync::{Arc, Mutex};

use super::*;

/// The payloads of each call, and in which attempt.
type Calls = Arc<Mutex<Vec<(u32, Vec<u64>)>>>;

const WAIT: Duration = Duration::from_secs(10);

fn numbers(batch: &[Context]) -> Vec<u64> {
    let number = |context: &Context| context.job().payload.parse::<u64>();
    batch
        .iter()
        .map(|context| number(context).unwrap())
        .collect()
}

/// Writes a call down.
fn note(calls: &Calls, batch: &[Context]) {
    let attempt = batch[0].job().attempts;
    calls.lock().unwrap().push((attempt, numbers(batch)));
}

/// Adds jobs with these numbers, which are tried three times.
async fn add(test: &Runtime, numbers: std::ops::Range<u64>) {
    let new = numbers.map(|number| {
        let new = NewJob::new("insert", &number).unwrap().max_attempts(3);
        new.backoff(Backoff::Fixed { wait: WAIT })
    });
    test.store().enqueue_many(new.collect()).await.unwrap();
}

#[tokio::test]
async fn the_jobs_of_a_batch_that_failed_are_tried_again_together_at_their_time() {
    let calls = Calls::default();
    let seen = calls.clone();
    // The odd ones fail, and 3 does so each time.
    let insert = move |batch: Vec<Context>| {
        note(&seen, &batch);
        async move {
            let fails = |number, attempt| number % 2 == 1 && (attempt == 1 || number == 3);
            let one = |(number, context): (u64, &Context)| match context.job().attempts {
                attempt if fails(number, attempt) => Err(format!("no row {number}")),
                _ => Ok(()),
            };
            numbers(&batch)
                .into_iter()
                .zip(&batch)
                .map(one)
                .collect::<Vec<_>>()
        }
    };
    let mut test = with(move |worker| worker.batch("insert", 10, insert)).await;
    add(&test, 0..5).await;
    let ran = test.run_due().await.unwrap();
    let (done, again) = ("0 insert 1 completed", "0 insert 1 scheduled");
    assert_eq!(told(&ran), [done, again, done, again, done]);
    assert_eq!(ran[3].error.as_deref(), Some("no row 3"));
    assert_eq!(*calls.lock().unwrap(), [(1, vec![0, 1, 2, 3, 4])]);
    assert_eq!(test.run_due().await.unwrap(), [], "not before their time");

    let ran = test.advance(MINUTE).await.unwrap();
    let expected = [
        "10 insert 2 completed",
        "10 insert 2 scheduled",
        "20 insert 3 failed",
    ];
    assert_eq!(told(&ran), expected);
    let calls = calls.lock().unwrap();
    assert_eq!(calls[1..], [(2, vec![1, 3]), (3, vec![3])]);
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_tried_again_as_one() {
    let calls = Calls::default();
    let seen = calls.clone();
    let insert = move |batch: Vec<Context>| {
        note(&seen, &batch);
        let busy = batch[0].job().attempts == 1;
        async move { if busy { Err("busy") } else { Ok(()) } }
    };
    let mut test = with(move |worker| worker.batch("insert", 2, insert)).await;
    add(&test, 0..3).await;
    let ran = test.advance(MINUTE).await.unwrap();
    let (again, done) = ("0 insert 1 scheduled", "10 insert 2 completed");
    assert_eq!(told(&ran), [again, again, again, done, done, done]);
    let (both, last) = (vec![0, 1], vec![2]);
    let expected = [(1, both.clone()), (1, last.clone()), (2, both), (2, last)];
    assert_eq!(*calls.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_batch_that_waits_for_time_holds_all_its_jobs_until_it_has_passed() {
    let insert = |batch: Vec<Context>| async move {
        for context in &batch {
            context.sleep(10 * MINUTE).await;
        }
    };
    let mut test = with(move |worker| worker.batch("insert", 10, insert)).await;
    add(&test, 0..3).await;
    // Past their leases, which are extended meanwhile.
    assert_eq!(test.advance(29 * MINUTE).await.unwrap(), []);
    let running = Query::new().states([State::Running]);
    assert_eq!(test.store().lookup(&running).await.unwrap().items.len(), 3);
    let ran = test.advance(HOUR).await.unwrap();
    assert_eq!(told(&ran), ["1800 insert 1 completed"; 3]);
    assert!(ran.iter().all(|ran| ran.elapsed == 30 * MINUTE));
}

#[tokio::test]
async fn a_batch_that_hangs_times_out_and_its_jobs_are_tried_again() {
    let insert = |batch: Vec<Context>| async move {
        let context = &batch[0];
        if context.job().attempts == 1 {
            context.sleep(Duration::MAX).await;
        }
    };
    let mut test = with(move |worker| {
        let worker = worker.batch("insert", 10, insert).grace(SECOND);
        worker.timeout_of("insert", 30 * SECOND)
    })
    .await;
    add(&test, 0..2).await;
    let ran = test.advance(MINUTE).await.unwrap();
    let (late, done) = ("31 insert 1 scheduled", "41 insert 2 completed");
    assert_eq!(told(&ran), [late, late, done, done]);
}
