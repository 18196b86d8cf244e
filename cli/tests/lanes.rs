//! The commands that pause and limit jobs, and show what is set.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::Place;
use serde_json::{Value, json};

/// Two jobs of a task, one of them a tenant's, and another's.
fn furnished() -> Place {
    let place = Place::new();
    place.ok(&["enqueue", "mail"]);
    place.ok(&[
        "enqueue", "mail", "--tenant", "acme", "--flag", "slow", "--flag", "big",
    ]);
    place.ok(&["enqueue", "other"]);
    place
}

/// Runs one line of a task of its own, and with it whatever else may run; says which tasks did.
fn run(place: &Place) -> Vec<String> {
    let exec = r#"printf '%s ' "$KVJOB_TASK" >> ran"#;
    let line = r#"{"task":"last","payload":null,"priority":9}"#;
    let answer = place.fed(&["run", "-", "-j", "1", "--exec", exec], line);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    place
        .read("ran")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_paused_task_does_not_run_until_it_is_resumed() {
    let place = furnished();
    assert_eq!(place.ok(&["pause", "mail"]).out, "paused: task mail\n");
    assert_eq!(run(&place), ["other", "last"]);
    let answer = place.ok(&["resume", "mail", "--json"]);
    let expected = json!({"lanes": {"task": "mail"}, "changed": true});
    assert_eq!(answer.json(), expected);
    place.ok(&["purge", "--state", "completed"]);
    let ran = run(&place);
    assert_eq!(ran[2..], ["mail", "mail", "last"]);
}

#[test]
fn resume_says_what_is_still_paused_and_pause_what_was() {
    let place = furnished();
    place.ok(&["pause", "mail", "--tenant", "acme"]);
    place.ok(&["pause", "--all"]);
    let again = place.ok(&["pause", "--all"]);
    assert_eq!(again.out, "");
    assert!(again.err.contains("already paused: all tasks"), "{again:?}");
    let answer = place.ok(&["resume", "mail"]);
    for part in [
        "was not paused: task mail",
        "still paused: all tasks",
        "still paused: task mail of tenant acme",
    ] {
        assert!(answer.err.contains(part), "{answer:?}");
    }
    let answer = place.ok(&["resume", "--all"]);
    assert_eq!(answer.out, "resumed: all tasks\n");
}

#[test]
fn lanes_shows_what_waits_and_what_is_set() {
    let place = furnished();
    place.ok(&["pause", "--tenant", "acme"]);
    let limited = place.ok(&["limit", "mail", "--rate", "10/s", "--burst", "3"]);
    assert_eq!(limited.out, "limited to 10/s (burst 3): task mail\n");
    let shown = place.ok(&["lanes"]).out;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("TASK "), "{shown}");
    assert!(lines[1].starts_with("mail ") && lines[1].ends_with(" 10/s (burst 3)"));
    assert!(lines[2].starts_with("other "), "{shown}");
    assert!(lines[3].contains(" acme ") && lines[3].contains(" big,slow "));
    assert!(lines[3].ends_with(" paused, 10/s (burst 3)"), "{shown}");
    assert!(shown.contains("\n  task mail: 10/s (burst 3)"), "{shown}");
    assert!(shown.contains("\n  all tasks of tenant acme: paused since "));

    let told = place.ok(&["lanes", "--json"]).json();
    assert_eq!(told["settings"].as_array().unwrap().len(), 2);
    assert_eq!(told["lanes"].as_array().unwrap().len(), 3);
    assert_eq!(told["lanes"][2]["paused"], true);
    assert_eq!(told["lanes"][2]["flags"], json!(["big", "slow"]));
    assert_eq!(told["lanes"][0]["ready"], 1);
    assert_eq!(told["more"], false);
    let one = place.ok(&["lanes", "--json", "--limit", "1"]).json();
    assert_eq!(one["lanes"].as_array().unwrap().len(), 1);
    assert_eq!(one["more"], true);

    let free = place.ok(&["limit", "mail", "--none"]);
    assert_eq!(free.out, "not limited: task mail\n");
}

#[test]
fn as_many_jobs_of_a_queue_run_at_a_time_as_its_limit_says() {
    let place = Place::new();
    let limited = |args: &[&str]| place.ok(&[&["limit", "--queue", "q"], args].concat());
    place.ok(&["enqueue", "first", "--queue", "q"]);
    let answer = limited(&["--concurrency", "2"]);
    assert_eq!(answer.out, "limited to 2 at a time: queue q\n");
    let again = limited(&["--concurrency", "2"]);
    assert_eq!(again.out, "");
    assert!(again.err.contains("already limited to 2"), "{again:?}");
    // Each waits for the other: only two at a time get by.
    place.ok(&["enqueue", "second", "--queue", "q"]);
    let exec = r#"touch "$KVJOB_TASK"; n=0; while [ ! -e first ] || [ ! -e second ]; do
        n=$((n+1)); [ $n -lt 3000 ] || exit 1; sleep 0.01; done"#;
    let line = r#"{"task":"third","payload":null,"max_attempts":1}"#;
    let answer = place.fed(&["run", "-", "-j", "3", "--exec", exec], line);
    assert_eq!(answer.code, Some(0), "{answer:?}");

    let told = limited(&["--none", "--json"]).json();
    assert_eq!(
        told,
        json!({"queue": "q", "tenant": "", "concurrency": 1, "changed": true})
    );
    let of_tenant = limited(&["--tenant", "acme", "--concurrency", "3"]);
    assert_eq!(
        of_tenant.out,
        "limited to 3 at a time: queue q of tenant acme\n"
    );
}

#[test]
fn queues_show_their_limit_and_what_waits() {
    let place = Place::new();
    place.ok(&["enqueue", "other"]);
    let none = place.ok(&["queues"]);
    assert!(none.out.starts_with("No job runs or is due"), "{none:?}");
    let never = place.ok(&["queues", "q", "--json"]).json();
    assert_eq!(never["queues"][0]["concurrency"], 1);

    place.ok(&["enqueue", "one", "--queue", "q"]);
    place.ok(&["enqueue", "two", "--queue", "q"]);
    place.ok(&[
        "limit",
        "--queue",
        "q",
        "--tenant",
        "acme",
        "--concurrency",
        "3",
    ]);
    let all = place.ok(&["queues"]);
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = all.out.lines().map(row).collect();
    assert_eq!(rows.len(), 3, "{all:?}");
    assert!(rows.contains(&"q 1 0 2".to_owned()), "{all:?}");
    assert!(rows.contains(&"q acme 3 0 0".to_owned()), "{all:?}");
    let one = place.ok(&["queues", "q", "--tenant", "acme"]);
    assert_eq!(one.out.lines().count(), 2, "{one:?}");
    let told = place.ok(&["queues", "q", "--json"]).json();
    assert_eq!(
        told,
        json!({"more": false, "queues": [{
            "queue": "q", "tenant": "", "concurrency": 1, "running": [], "ready": 2, "more": false,
        }]})
    );
    let cut = place.ok(&["queues", "--limit", "1"]);
    assert!(cut.err.contains("--limit"), "{cut:?}");
    assert_eq!(
        place.ok(&["queues", "--limit", "1", "--json"]).json()["more"],
        true
    );
    for args in [&["queues", "--tenant", "acme"][..], &["queues", ""]] {
        assert_eq!(place.kvjob(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn stats_shows_what_is_paused() {
    let place = furnished();
    place.ok(&["pause", "mail", "--flags", ""]);
    let plain = place.ok(&["stats"]).out;
    assert!(
        plain.contains("\nPaused: task mail without flags\n"),
        "{plain}"
    );
    let told = place.ok(&["stats", "--json"]).json();
    assert_eq!(told["total"], 3);
    assert_eq!(
        told["paused"][0]["lanes"],
        json!({"task": "mail", "flags": []})
    );
}

#[test]
fn enqueue_keeps_tenant_and_flags() {
    let place = Place::new();
    place.ok(&[
        "enqueue", "mail", "--tenant", "acme", "--flag", "slow,big", "--flag", "slow",
    ]);
    let job = place.job("mail");
    assert_eq!(job["tenant"], "acme");
    assert_eq!(job["flags"], json!(["big", "slow"]));
}

#[test]
fn a_rate_or_a_choice_that_cannot_be_is_refused() {
    let place = furnished();
    for (args, part) in [
        (&["pause"][..], "--all"),
        (&["pause", "mail", "--all"], "--all"),
        (&["limit", "mail"], "--rate"),
        (&["limit", "mail", "--rate", "10"], "such as 10/s"),
        (&["limit", "mail", "--rate", "0/s"], "kvjob pause"),
        (&["limit", "mail", "--rate", "1/s", "--burst", "0"], "0"),
        (&["limit", "mail", "--none", "--burst", "2"], "--burst"),
        (&["pause", ""], "must not be empty"),
        (&["limit", "--queue", "q"], "--concurrency"),
        (&["limit", "--queue", "q", "--concurrency", "0"], "0"),
        (&["limit", "--queue", "q", "--concurrency", "1025"], "1025"),
        (&["limit", "--queue", "q", "--rate", "1/s"], "--rate"),
        (&["limit", "mail", "--queue", "q", "--none"], "--queue"),
        (&["limit", "mail", "--concurrency", "2"], "--concurrency"),
        (&["limit", "--queue", "", "--none"], "must not be empty"),
    ] {
        let answer = place.kvjob(args);
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(answer.err.contains(part), "{args:?}: {answer:?}");
    }
    let told: Value = place.ok(&["lanes", "--json"]).json();
    assert_eq!(told["settings"], json!([]));
}
