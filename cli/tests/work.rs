//! `kvjob work` and `kvjob watch`: what they promise, on a real store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout};

use common::{Answer, Place, is_alive, signal, wait_for};
use serde_json::Value;

/// Works until it is stopped; each job waits for its file `go`.
fn work(place: &Place, more: &[&str]) -> Child {
    let exec = "echo $$ > pid-$KVJOB_TASK; while [ ! -e go ]; do sleep 0.01; done; cat >> done.txt";
    let args = [&["work", "--exec", exec, "-j", "2"], more].concat();
    let child = place.command(&args).spawn().unwrap();
    wait_for("the socket", || {
        place.path("kvjob.redb.sock").exists().then_some(())
    });
    child
}

/// The shell of a running job.
fn pid(place: &Place, task: &str) -> String {
    wait_for("the job to run", || {
        let text = place.read(&format!("pid-{task}"));
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
}

#[test]
fn what_is_added_is_worked_off_until_a_signal_and_what_runs_then_is_finished() {
    let place = Place::new();
    place.ok(&["enqueue", "before", "1"]);
    let child = work(&place, &["--json"]);
    pid(&place, "before");
    place.ok(&["enqueue", "meanwhile", "2"]);
    pid(&place, "meanwhile");
    signal(child.id(), "TERM");
    // While it finishes, others are still let in.
    place.ok(&["enqueue", "late", "--in", "1h"]);
    fs::write(place.path("go"), "").unwrap();
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let mut events = answer.lines();
    let last = events.pop().unwrap();
    assert_eq!(last["event"], "stopped");
    assert_eq!(last["completed"], 2);
    let count = |name: &str| events.iter().filter(|it| it["event"] == name).count();
    assert_eq!((count("started"), count("ended")), (2, 2), "{answer:?}");
    assert!(
        events
            .iter()
            .all(|it| it["id"].is_string() && it["task"].is_string())
    );
    let mut done: Vec<String> = place.read("done.txt").lines().map(str::to_owned).collect();
    done.sort();
    assert_eq!(done, ["1", "2"]);
    assert!(!place.path("kvjob.redb.sock").exists());
}

#[test]
fn a_second_signal_gives_back_what_runs() {
    let place = Place::new();
    place.ok(&["enqueue", "long"]);
    let mut child = work(&place, &[]);
    let shell = pid(&place, "long");
    signal(child.id(), "INT");
    // Signals that come together may be one: it says that it has heard the first.
    let mut said = String::new();
    let stderr = child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    assert!(said.contains("stopping: what runs is finished"), "{said}");
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(130), "{answer:?}");
    assert!(!is_alive(&shell));
    let job = place.job("long");
    assert_eq!(
        (&job["state"], &job["attempts"]),
        (&"ready".into(), &0.into())
    );
}

#[test]
fn only_the_named_tasks_are_worked_off_and_failures_are_told() {
    let place = Place::new();
    for task in ["a", "b", "c"] {
        place.ok(&["enqueue", task, "--max-attempts", "1"]);
    }
    let exec = "echo no luck >&2; exit 3";
    let args = ["work", "--exec", exec, "--task", "a", "--task", "b"];
    let child = place.command(&args).spawn().unwrap();
    for task in ["a", "b"] {
        wait_for("the job to fail", || {
            (place.job(task)["state"] == "failed").then_some(())
        });
    }
    assert_eq!(place.job("c")["state"], "ready");
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer.out.starts_with("2 jobs: 0 completed, 2 failed; "),
        "{answer:?}"
    );
    assert!(answer.err.contains("exit status 3: no luck"), "{answer:?}");
}

#[test]
fn the_jobs_of_schedules_in_the_store_are_added_where_that_is_said() {
    let place = Place::new();
    place.ok(&["cron", "add", "soon", "--in", "1s"]);
    fs::write(place.path("go"), "").unwrap();
    let child = work(&place, &["--json", "--cron"]);
    wait_for("the job to be done", || {
        let jobs = place.jobs();
        let first = jobs.first()?;
        (first["state"] == "completed").then_some(())
    });
    signal(child.id(), "TERM");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.lines().last().unwrap()["scheduled"], 1);
}

#[test]
fn with_a_crontab_the_jobs_of_schedules_are_added_and_worked_off() {
    let place = Place::new();
    place.ok(&["cron", "add", "soon", "--in", "1s"]);
    place.write("jobs.crontab", "0 0 1 1 * yearly\n");
    fs::write(place.path("go"), "").unwrap();
    let child = work(&place, &["--json", "--crontab", "jobs.crontab"]);
    wait_for("the job to be done", || {
        let jobs = place.jobs();
        let first = jobs.first()?;
        (first["state"] == "completed").then_some(())
    });
    // What the crontab brings along can be paused, as anything the scheduler knows.
    let paused = place.ok(&["cron", "pause", "yearly", "--json"]).json();
    assert_eq!(paused["paused"], true);
    signal(child.id(), "TERM");
    let answer = Answer::from(child);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let events = answer.lines();
    let added = events.iter().find(|it| it["event"] == "scheduled").unwrap();
    assert_eq!(
        (&added["schedule"], &added["done"]),
        (&"soon".into(), &"inserted".into())
    );
    assert_eq!(added["job"], place.job("soon")["id"]);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["scheduled"], &last["completed"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_crontab_that_is_wrong_is_refused_with_line_and_column_and_makes_no_store() {
    let place = Place::new();
    place.write(
        "bad.crontab",
        "# fine\n0 4 * * * report\n0 4 * * * late ?max=0\n",
    );
    for (args, says) in [
        (&["--crontab", "bad.crontab"][..], "line 3, column 21"),
        (&["--crontab", "nowhere"], "nowhere"),
        (&["--time-zone", "Europe/Zurich"], "--crontab"),
    ] {
        let args = [&["work", "--exec", "true"], args].concat();
        let answer = place.kvjob(&args);
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(answer.err.contains(says), "{args:?}: {answer:?}");
    }
    assert!(!place.path("kvjob.redb").exists());
}

#[test]
fn only_the_jobs_of_the_named_tenant_are_worked_off() {
    let place = Place::new();
    fs::write(place.path("go"), "").unwrap();
    for (tenant, others, done) in [("acme", "free", "acme"), ("", "other", "free")] {
        place.ok(&["enqueue", "acme", "--tenant", "acme"]);
        place.ok(&["enqueue", "other", "--tenant", "other"]);
        place.ok(&["enqueue", "free"]);
        let child = work(&place, &["--tenant", tenant]);
        wait_for("the job to be done", || {
            (place.job(done)["state"] == "completed").then_some(())
        });
        signal(child.id(), "INT");
        assert_eq!(Answer::from(child).code, Some(0));
        assert_eq!(place.job(others)["state"], "ready");
        place.ok(&["cancel", "--all"]);
        place.ok(&["purge", "--all"]);
    }
}

#[test]
fn one_process_works_a_file_off_and_a_second_hears_who_does() {
    let place = Place::new();
    let child = work(&place, &[]);
    let second = place.kvjob(&["work", "--exec", "true"]);
    assert_eq!(second.code, Some(2));
    let process = format!("process {}", child.id());
    assert!(second.err.contains(&process), "{second:?}");
    signal(child.id(), "INT");
    assert_eq!(Answer::from(child).code, Some(0));
}

/// A watch, and its lines as they come.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

fn watch(place: &Place, args: &[&str]) -> Watch {
    let args = [&["watch", "--json"], args].concat();
    let mut child = place.command(&args).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Watch { child, lines }
}

impl Watch {
    /// The next line of which this is true.
    fn until(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        for line in &mut self.lines {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if what(&line) {
                return line;
            }
        }
        panic!("the watch ended");
    }

    fn job(&mut self, task: &str, state: &str) -> Value {
        self.until(|it| it["event"] == "job" && it["task"] == task && it["state"] == state)
    }

    fn end(self) {
        signal(self.child.id(), "INT");
        // Its lines are read by nobody any more.
        drop(self.lines);
        assert_eq!(Answer::from(self.child).code, Some(0));
    }
}

#[test]
fn a_watch_sees_what_another_process_does_to_jobs_and_counts_the_queues() {
    let place = Place::new();
    let child = work(&place, &[]);
    let mut watch = watch(&place, &[]);
    watch.until(|it| it["event"] == "queues");
    let id = place.ok(&["enqueue", "seen", "1"]).out;
    let started = watch.job("seen", "running");
    assert_eq!(started["id"], id.trim());
    assert_eq!(started["attempts"], 1);
    let queues = watch.until(|it| it["event"] == "queues" && it["tasks"]["seen"].is_object());
    assert_eq!(queues["tasks"]["seen"]["running"], 1);
    assert_eq!(queues["cut"], serde_json::json!([]));
    fs::write(place.path("go"), "").unwrap();
    watch.job("seen", "completed");
    watch.end();
    signal(child.id(), "INT");
    assert_eq!(Answer::from(child).code, Some(0));
}

#[test]
fn a_watch_keeps_nobody_from_working_and_outlives_who_does() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    let mut watch = watch(&place, &[]);
    // Nobody holds it.
    let queues = watch.until(|it| it["event"] == "queues");
    assert_eq!(queues["tasks"]["t"]["ready"], 1);
    fs::write(place.path("go"), "").unwrap();
    for round in 0..2 {
        let task = format!("round-{round}");
        let child = work(&place, &[]);
        // It looks for a holder once a second: what happens before it found this one is not seen.
        wait_for("it to see something", || {
            place.ok(&["enqueue", &task]);
            let seen = watch.until(|_| true);
            (seen["event"] == "job").then_some(())
        });
        signal(child.id(), "KILL");
        drop(Answer::from(child));
    }
    watch.end();
}

#[test]
fn a_watch_of_one_task_shows_no_other() {
    let place = Place::new();
    let child = work(&place, &[]);
    let mut watch = watch(&place, &["--task", "mine"]);
    watch.until(|it| it["event"] == "queues");
    place.ok(&["enqueue", "other", "--in", "1h"]);
    place.ok(&["enqueue", "mine", "--in", "1h"]);
    let first = watch.until(|it| it["event"] == "job");
    assert_eq!(first["task"], "mine");
    assert_eq!(first["state"], "scheduled");
    watch.end();
    signal(child.id(), "INT");
    assert_eq!(Answer::from(child).code, Some(0));
}
