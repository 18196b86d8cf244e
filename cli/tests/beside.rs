//! Every command beside a `kvjob work` that holds its store alone, on redb: they reach it through
//! the socket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::process::{Child, Stdio};

use common::{Answer, Place, signal, wait_for};
use serde_json::json;

/// A `work` with room for one job, which it runs: `long`, until there is a file `go`.
fn working(place: &Place) -> Child {
    let exec = "echo $KVJOB_ATTEMPT >> began-$KVJOB_TASK; while [ ! -e go ]; do sleep 0.01; done";
    place.ok(&["enqueue", "long"]);
    let args = ["work", "--exec", exec, "-j", "1"];
    let child = place.command(&args).spawn().unwrap();
    wait_for("the job to run", || {
        (!place.read("began-long").is_empty()).then_some(())
    });
    child
}

/// Lets what runs end, and the `work`.
fn end(place: &Place, child: Child) {
    fs::write(place.path("go"), "").unwrap();
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(place.ok(&["check"]).code, Some(0));
}

/// The id of a job that is added for later.
fn later(place: &Place, more: &[&str]) -> String {
    let args = [&["enqueue", "later", "--in", "1h"], more].concat();
    place.ok(&args).out.trim().to_owned()
}

#[test]
fn jobs_are_changed_by_hand_beside_a_worker() {
    let place = Place::new();
    let child = working(&place);
    let state = |id: &str| place.ok(&["show", id, "--json"]).json()["job"]["state"].clone();

    let id = later(&place, &[]);
    assert_eq!(place.ok(&["complete", &id]).out, "completed: 1 job\n");
    assert_eq!(state(&id), "completed");
    let id = later(&place, &["--tenant", "acme", "--flag", "slow"]);
    assert_eq!(
        place.ok(&["fail", &id, "--reason", "no"]).out,
        "failed: 1 job\n"
    );
    assert_eq!(state(&id), "failed");
    place.ok(&["reschedule", &id, "--in", "2h", "--priority", "3"]);
    assert_eq!(state(&id), "scheduled");
    let keyed = later(&place, &["--key", "k"]);
    let again = later(&place, &["--key", "k", "--key-mode", "replace"]);
    assert_eq!(keyed, again);
    place.ok(&["remove", "--key", "k"]);
    assert_eq!(state(&keyed), "removed");

    // What runs is left alone.
    let long = place.job("long")["id"].as_str().unwrap().to_owned();
    for command in [
        &["complete", &long][..],
        &["reschedule", &long, "--in", "1h"],
    ] {
        assert_eq!(place.kvjob(command).code, Some(1), "{command:?}");
    }
    assert_eq!(place.kvjob(&["unlock", "nobody"]).code, Some(1));
    end(&place, child);
    assert_eq!(state(&long), "completed");
}

#[test]
fn a_job_that_is_taken_from_its_worker_begins_again_at_once() {
    let place = Place::new();
    let child = working(&place);
    let worker = place.job("long")["worker"].as_str().unwrap().to_owned();
    let taken = place.ok(&["unlock", &worker, "--json"]).json();
    assert_eq!(
        (&taken["task"], &taken["attempts"]),
        (&"long".into(), &1.into())
    );
    wait_for("the second attempt", || {
        (place.read("began-long") == "1\n2\n").then_some(())
    });
    end(&place, child);
    assert_eq!(place.job("long")["state"], "completed");
}

#[test]
fn wait_beside_a_worker_tells_how_the_job_ended() {
    let place = Place::new();
    let child = working(&place);
    let id = place.job("long")["id"].as_str().unwrap().to_owned();
    let in_vain = place.kvjob(&["wait", &id, "--timeout", "0s"]);
    assert_eq!(in_vain.code, Some(4), "{in_vain:?}");
    let mut waiting = place.command(&["wait", &id, "--json"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    fs::write(place.path("go"), "").unwrap();
    let waited = Answer::from(waiting);
    assert_eq!(waited.code, Some(0), "{waited:?}");
    assert_eq!(waited.json()["state"], "completed");
    end(&place, child);
}

#[test]
fn lanes_are_paused_limited_and_shown_beside_a_worker_which_heeds_it() {
    let place = Place::new();
    let child = working(&place);
    place.ok(&["pause", "held"]);
    place.ok(&["enqueue", "held"]);
    place.ok(&["limit", "free", "--rate", "100/s"]);
    place.ok(&["limit", "--queue", "q", "--concurrency", "2"]);
    place.ok(&["enqueue", "free", "--queue", "q"]);
    let queue = place.ok(&["queues", "q", "--json"]).json();
    assert_eq!(queue["queues"][0]["concurrency"], 2);
    assert_eq!(queue["queues"][0]["ready"], 1);
    let lanes = place.ok(&["lanes", "--json"]).json();
    assert_eq!(lanes["settings"].as_array().unwrap().len(), 2);
    assert_eq!(lanes["lanes"].as_array().unwrap().len(), 2);
    // One after the other: the paused one would have been the first.
    fs::write(place.path("go"), "").unwrap();
    let done = |task: &str| place.job(task)["state"] == "completed";
    wait_for("the free one to be done", || done("free").then_some(()));
    assert_eq!(place.job("held")["state"], "ready");
    place.ok(&["resume", "held"]);
    wait_for("the other one to be done", || done("held").then_some(()));
    end(&place, child);
}

#[test]
fn schedules_are_kept_and_run_beside_a_worker() {
    let place = Place::new();
    let child = working(&place);
    let scheduler = place.command(&["cron", "run"]).spawn().unwrap();
    place.ok(&["cron", "add", "soon", "--in", "1s"]);
    place.ok(&[
        "cron", "add", "tidy", "--every", "1h", "--key", "k", "--queue", "q",
    ]);
    place.ok(&["cron", "pause", "tidy"]);
    assert_eq!(place.ok(&["cron", "list", "--json"]).lines().len(), 2);
    place.ok(&["cron", "resume", "tidy"]);
    place.ok(&["cron", "remove", "tidy"]);
    fs::write(place.path("go"), "").unwrap();
    wait_for("the job of the slot to be done", || {
        let jobs = place.jobs();
        let job = jobs.iter().find(|job| job["task"] == "soon")?;
        (job["state"] == "completed").then_some(())
    });
    signal(scheduler.id(), "INT");
    assert_eq!(Answer::from(scheduler).code, Some(130));
    end(&place, child);
}

#[test]
fn what_is_looked_at_and_written_out_beside_a_worker_is_all_there() {
    let place = Place::new();
    let child = working(&place);
    later(&place, &[]);
    assert_eq!(place.ok(&["list", "--json"]).lines().len(), 2);
    let stats = place.ok(&["stats", "--json"]).json();
    assert_eq!(stats["states"], json!({"running": 1, "scheduled": 1}));
    place.ok(&["quarantine", "list"]);
    place.ok(&["check"]);
    end(&place, child);
}

#[test]
fn histories_and_logs_are_cleared_beside_a_worker() {
    let place = Place::new();
    let child = working(&place);
    let id = later(&place, &[]);
    place.ok(&["cancel", &id]);
    let cleared = place.ok(&["clear", "history", "--all"]).out;
    assert_eq!(cleared, "cleared: 2 steps\n");
    // What runs keeps its history.
    let long = place.job("long")["id"].as_str().unwrap().to_owned();
    assert_eq!(place.kvjob(&["clear", "history", &long]).code, Some(1));
    assert_eq!(place.ok(&["history", "--json"]).lines().len(), 2);
    place.ok(&["clear", "log", "--all"]);
    end(&place, child);
    assert_eq!(place.job("long")["state"], "completed");
}
