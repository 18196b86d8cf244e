//! Looking at and steering a store that a `kvjob run` holds, through its socket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Answer, Place, is_alive, signal, wait_for};

/// Begins a job of each task, and waits for a file `go`.
const BLOCK: &str = "echo $$ > pid-$KVJOB_TASK; while [ ! -e go ]; do sleep 0.01; done; echo done";

/// A run of one job, which is under way, with room for one more if `jobs` is 2.
fn running(place: &Place, task: &str, jobs: &str) -> Child {
    let line = format!("{{\"task\":{task:?},\"payload\":0}}\n");
    place.write("jobs.jsonl", line);
    let args = ["run", "jobs.jsonl", "--exec", BLOCK, "-j", jobs];
    let child = place.command(&args).spawn().unwrap();
    pid(place, task);
    child
}

/// The shell of a running job.
fn pid(place: &Place, task: &str) -> String {
    wait_for("the job to run", || {
        let text = place.read(&format!("pid-{task}"));
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
}

fn end(place: &Place, child: Child) -> Answer {
    fs::write(place.path("go"), "").unwrap();
    Answer::from(child)
}

#[test]
fn every_command_that_looks_or_steers_works_on_a_store_that_a_run_holds() {
    let place = Place::new();
    let child = running(&place, "long", "1");

    let id = place.ok(&["enqueue", "other", "1", "--priority", "5"]);
    let id = id.out.trim();
    assert_eq!(place.job("long")["state"], "running");
    assert_eq!(place.job("other")["state"], "ready");
    assert_eq!(place.shown("other")["job"]["id"], id);
    let stats = place.ok(&["stats", "--json"]).json();
    assert_eq!(stats["states"]["running"], 1);
    assert_eq!(stats["states"]["ready"], 1);

    assert!(place.ok(&["cancel", id]).out.contains("canceled: 1 job"));
    assert_eq!(place.job("other")["state"], "canceled");
    assert!(place.ok(&["retry", id]).out.contains(": 1 job"));
    assert_eq!(place.job("other")["state"], "ready");
    place.ok(&["cancel", id]);
    assert!(place.ok(&["purge", id]).out.contains("purged: 1 job"));
    assert_eq!(place.jobs().len(), 1);
    place.ok(&["quarantine", "list"]);
    place.ok(&["check"]);

    // What is added meanwhile runs as well, while there is room and time.
    let last = place.ok(&["enqueue", "last", "--priority", "-1"]);
    let answer = end(&place, child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.err, "");
    assert_eq!(place.shown("last")["job"]["id"], last.out.trim());
    assert_eq!(place.job("long")["state"], "completed");
    assert!(!place.path("kvjob.redb.sock").exists());
}

#[test]
fn cancel_stops_a_command_that_another_process_runs() {
    let place = Place::new();
    let child = running(&place, "long", "1");
    let shell = pid(&place, "long");
    place.ok(&["cancel", "--task", "long"]);
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.out.contains("1 canceled"), "{answer:?}");
    assert!(!is_alive(&shell));
    assert!(!place.path("go").exists());
}

/// Adds and cancels one job after the other. A worker that is not told would ask every two seconds:
/// it asked last when the job before had ended.
fn begin_and_cancel_each(place: &Place, url: &str) {
    const JOBS: usize = 5;
    let args = ["work", "--exec", BLOCK, "-j", "1", "--store", url];
    let child = place.command(&args).spawn().unwrap();
    // The first one is found whenever it looks.
    place.ok(&["enqueue", "first", "--store", url]);
    pid(place, "first");
    place.ok(&["cancel", "--task", "first", "--store", url]);
    let (mut to_begin, mut to_end) = (Duration::ZERO, Duration::ZERO);
    for n in 0..JOBS {
        let task = format!("t{n}");
        wait_for("all to have ended", || {
            let stats = place.ok(&["stats", "--json", "--store", url]).json();
            (stats["states"]["canceled"] == n + 1).then_some(())
        });
        place.ok(&["enqueue", &task, "--store", url]);
        let added = Instant::now();
        let shell = pid(place, &task);
        to_begin += added.elapsed();
        place.ok(&["cancel", "--task", &task, "--store", url]);
        let canceled = Instant::now();
        wait_for("the command to end", || (!is_alive(&shell)).then_some(()));
        to_end += canceled.elapsed();
    }
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert!(answer.out.contains("6 canceled"), "{answer:?}");
    assert!(to_begin < Duration::from_secs(5), "{to_begin:?}");
    assert!(to_end < Duration::from_secs(5), "{to_end:?}");
}

#[test]
fn what_is_added_begins_and_what_is_canceled_ends_before_the_worker_would_ask() {
    begin_and_cancel_each(&Place::new(), "redb:kvjob.redb");
}

#[cfg(feature = "sqlite")]
#[test]
fn what_is_added_begins_and_what_is_canceled_ends_before_the_worker_would_ask_on_a_shared_store() {
    let place = Place::new();
    begin_and_cancel_each(&place, "sqlite:kvjob.db?shared");
    assert!(!place.path("kvjob.db.sock").exists());
}

#[cfg(feature = "sqlite")]
#[test]
fn any_store_that_one_process_holds_alone_is_steered() {
    begin_and_cancel_each(&Place::new(), "sqlite:kvjob.db");
}

#[test]
fn a_job_that_is_added_through_the_socket_runs_at_once_where_there_is_room() {
    let place = Place::new();
    let child = running(&place, "long", "2");
    place.ok(&["enqueue", "quick"]);
    pid(&place, "quick");
    assert_eq!(place.job("long")["state"], "running");
    assert_eq!(end(&place, child).code, Some(0));
}

#[test]
fn only_the_owner_may_use_the_socket() {
    let place = Place::new();
    let child = running(&place, "long", "1");
    let socket = fs::symlink_metadata(place.path("kvjob.redb.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    end(&place, child);
}

#[test]
fn what_a_killed_holder_leaves_keeps_nobody_out() {
    let place = Place::new();
    let mut child = running(&place, "long", "1");
    signal(child.id(), "KILL");
    child.wait().unwrap();
    assert!(place.path("kvjob.redb.sock").exists());
    // Nobody holds it: a look takes back what the dead one ran.
    assert_eq!(place.jobs().len(), 1);
    fs::remove_file(place.path("pid-long")).unwrap();
    let next = running(&place, "long", "1");
    assert_eq!(place.job("long")["state"], "running");
    assert_eq!(end(&place, next).code, Some(0));
    assert!(!place.path("kvjob.redb.sock").exists());
}

#[test]
fn many_at_once_are_let_in_and_no_job_is_lost() {
    let place = Place::new();
    let child = running(&place, "long", "1");
    let adding: Vec<Child> = (0..12)
        .map(|n| {
            let task = format!("t{n}");
            let mut command = place.command(&["enqueue", &task]);
            command.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for one in adding {
        let answer = Answer::from(one);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert_eq!(place.jobs().len(), 13);
    assert_eq!(end(&place, child).code, Some(0));
}

#[test]
fn a_store_deep_in_the_file_system_is_steered_too() {
    let place = Place::new();
    let deep = format!("{0}/{0}/{0}", "d".repeat(60));
    fs::create_dir_all(place.path(&deep)).unwrap();
    let url = format!("redb:{deep}/jobs.redb");
    place.write("jobs.jsonl", "{\"task\":\"long\",\"payload\":0}\n");
    let args = ["run", "jobs.jsonl", "--exec", BLOCK, "--store", &url];
    let child = place.command(&args).spawn().unwrap();
    pid(&place, "long");
    let listed = place.ok(&["list", "--json", "--store", &url]).lines();
    assert_eq!(listed[0]["state"], "running");
    assert_eq!(end(&place, child).code, Some(0));
}

#[test]
fn work_goes_on_where_no_socket_can_be() {
    let place = Place::new();
    fs::create_dir(place.path("kvjob.redb.sock")).unwrap();
    let child = running(&place, "long", "1");
    let answer = end(&place, child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.err.contains("is no socket"), "{answer:?}");
}
