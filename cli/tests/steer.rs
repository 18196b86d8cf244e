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

/// Cancels one running job after the other. Nobody tells a worker that is not told: it would ask
/// every two seconds, and each job begins just after it asked.
fn cancel_each_as_it_runs(place: &Place, url: &str) {
    const JOBS: usize = 6;
    let lines = (0..JOBS).map(|n| format!("{{\"task\":\"t{n}\",\"payload\":0}}\n"));
    place.write("jobs.jsonl", lines.collect::<String>());
    let args = [
        "run",
        "jobs.jsonl",
        "--exec",
        BLOCK,
        "-j",
        "1",
        "--store",
        url,
    ];
    let child = place.command(&args).spawn().unwrap();
    let mut took = Duration::ZERO;
    for n in 0..JOBS {
        let task = format!("t{n}");
        let shell = pid(place, &task);
        place.ok(&["cancel", "--task", &task, "--store", url]);
        let canceled = Instant::now();
        wait_for("the command to end", || (!is_alive(&shell)).then_some(()));
        took += canceled.elapsed();
    }
    let answer = Answer::from(child);
    assert!(answer.out.contains("6 canceled"), "{answer:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn a_canceled_command_is_stopped_before_its_worker_would_ask() {
    cancel_each_as_it_runs(&Place::new(), "redb:kvjob.redb");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_canceled_command_is_stopped_before_its_worker_would_ask_on_a_shared_store() {
    let place = Place::new();
    cancel_each_as_it_runs(&place, "sqlite:kvjob.db?shared");
    assert!(!place.path("kvjob.db.sock").exists());
}

#[cfg(feature = "sqlite")]
#[test]
fn any_store_that_one_process_holds_alone_is_steered() {
    let place = Place::new();
    cancel_each_as_it_runs(&place, "sqlite:kvjob.db");
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
