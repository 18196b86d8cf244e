//! Being asked to end by the system.

#![cfg(unix)]

use std::process::Command;

use kvjob::job::State;
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{Bench, Gate, Runs, within};

fn ask_to_end() {
    let own = std::process::id().to_string();
    let sent = Command::new("kill").args(["-TERM", &own]).status();
    assert!(sent.unwrap().success());
}

// One test, for all tests of a process get its signals.
#[tokio::test]
async fn the_first_signal_finishes_what_runs_and_a_second_one_gives_it_back() {
    // Whatever happens, the test itself outlives the signal.
    let mut heard = signal(SignalKind::terminate()).unwrap();
    let bench = Bench::new().await;
    let gate = Gate::new();
    let id = bench.add("task").await;
    let deaf = bench.worker().handler("other", gate.handler());
    let deaf = Runs::start(deaf);
    let builder = bench.worker().handle_signals(true);
    let runs = Runs::start(builder.handler("task", gate.handler()));
    // A program that stops its worker at the same signal makes no second one of it.
    let at_another = Gate::new();
    bench.add("another").await;
    let builder = bench.worker().handle_signals(true);
    let stopped = Runs::start(builder.handler("another", at_another.handler()));
    bench.settle().await;
    assert_eq!((gate.inside(), at_another.inside()), (1, 1));
    stopped.control.stop();

    ask_to_end();
    within(heard.recv()).await;
    bench.settle().await;
    bench.add("task").await;
    bench.settle().await;
    assert_eq!((gate.inside(), runs.run.is_finished()), (1, false));
    assert_eq!((at_another.inside(), stopped.run.is_finished()), (1, false));

    ask_to_end();
    runs.ended().await.unwrap();
    stopped.ended().await.unwrap();
    let job = bench.get(id).await;
    assert_eq!((job.state, job.attempts), (State::Ready, 0));
    assert!(!deaf.run.is_finished());
    deaf.stop().await;
}
