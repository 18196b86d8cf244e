//! The commands that look at a store and steer it, plain and in JSON.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader};

use common::{Answer, Place};
use serde_json::Value;

/// A store with one job that completed, two that failed, one that is due and one that is
/// scheduled.
fn furnished() -> Place {
    let place = Place::new();
    let input = r#"{"task":"good","payload":{"n":1}}
{"task":"bad","payload":{"n":2},"max_attempts":1}
{"task":"worse","payload":{"n":3},"max_attempts":1}
"#;
    let exec = r#"[ "$KVJOB_TASK" = good ] && echo fine || { echo "it broke" >&2; exit 1; }"#;
    let answer = place.fed(&["run", "-", "--exec", exec], input);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    place.ok(&["enqueue", "due", "[4]"]);
    place.ok(&["enqueue", "later", "--in", "1h"]);
    place
}

fn tasks(jobs: &[Value]) -> Vec<&str> {
    jobs.iter()
        .map(|job| job["task"].as_str().unwrap())
        .collect()
}

fn id(job: &Value) -> String {
    job["id"].as_str().unwrap().to_owned()
}

#[test]
fn enqueue_prints_the_id_and_keeps_what_was_said() {
    let place = Place::new();
    let id = place.ok(&["enqueue", "plain"]).out;
    let job = place.job("plain");
    assert_eq!(id.trim(), job["id"]);
    assert_eq!(job["payload"], Value::Null);
    assert_eq!(job["state"], "ready");
    assert_eq!(job["max_attempts"], 25);

    place.ok(&[
        "enqueue",
        "full",
        r#"{"a":1}"#,
        "--priority",
        "-3",
        "--run-at",
        "2999-01-01T00:00:00+01:00",
        "--max-attempts",
        "7",
        "--timeout",
        "1m30s",
        "--backoff",
        "2s",
    ]);
    let job = place.job("full");
    assert_eq!(job["payload"]["a"], 1);
    assert_eq!(job["priority"], -3);
    assert_eq!(job["run_at"], "2998-12-31T23:00:00Z");
    assert_eq!(job["state"], "scheduled");
    assert_eq!(job["max_attempts"], 7);
    assert_eq!(job["timeout"]["secs"], 90);
    assert_eq!(job["backoff"]["exponential"]["base"]["secs"], 2);
    assert_eq!(job["backoff"]["exponential"]["max"]["secs"], 30);

    let answer = place.fed(&["enqueue", "piped", "-", "--json"], " {\"b\": 2}\n");
    let answer = answer.json();
    assert_eq!(answer["new"], true);
    assert_eq!(answer["job"]["payload"]["b"], 2);
    assert_eq!(answer["id"], place.job("piped")["id"]);
}

#[test]
fn a_key_is_taken_while_its_job_waits_and_a_retained_one_until_it_is_purged() {
    let place = Place::new();
    let enqueue = |more: &[&str]| place.ok(&[&["enqueue", "t", "1", "--key"], more].concat());
    let first = enqueue(&["k"]);
    let second = enqueue(&["k"]);
    assert_eq!(first.out, second.out);
    assert!(second.err.contains("the key is taken"), "{second:?}");
    assert_eq!(enqueue(&["k", "--json"]).json()["new"], false);
    let kept = enqueue(&["kept", "--retain"]);
    place.fed(
        &["run", "-", "--exec", "true"],
        "{\"task\":\"x\",\"payload\":0}",
    );
    assert_eq!(
        place
            .ok(&["list", "--state", "completed", "--json"])
            .lines()
            .len(),
        3
    );
    assert_ne!(enqueue(&["k"]).out, first.out);
    assert_eq!(enqueue(&["kept"]).out, kept.out);
    place.ok(&["purge", kept.out.trim()]);
    assert_ne!(enqueue(&["kept"]).out, kept.out);
}

#[test]
fn a_queue_is_shown_and_a_queue_key_too_long_refused() {
    let place = Place::new();
    let added = place.ok(&["enqueue", "t", "1", "--queue", "acct-1"]);
    let shown = place.ok(&["show", added.out.trim()]).out;
    assert!(shown.contains("acct-1"), "{shown}");
    let answer = place.kvjob(&["enqueue", "t", "1", "--queue", &"k".repeat(129)]);
    assert!(answer.err.contains("queue-key-too-long"), "{answer:?}");
}

#[test]
fn a_payload_that_is_not_json_is_refused_with_advice() {
    let place = Place::new();
    let answer = place.kvjob(&["enqueue", "t", "hello"]);
    assert_eq!(answer.code, Some(2));
    assert!(
        answer.err.starts_with("kvjob: the payload is not JSON"),
        "{answer:?}"
    );
    assert!(answer.err.contains(r#"'"text"'"#), "{answer:?}");
    assert!(!place.path("kvjob.redb").exists());
}

#[test]
fn list_shows_what_is_asked_for() {
    let place = furnished();
    assert_eq!(
        tasks(&place.jobs()),
        ["good", "bad", "worse", "due", "later"]
    );
    let list = |args: &[&str]| {
        let answer = place.ok(&[&["list", "--json"], args].concat());
        let jobs = answer.lines();
        tasks(&jobs).join(" ")
    };
    assert_eq!(list(&["--state", "failed"]), "bad worse");
    assert_eq!(list(&["--state", "ready,scheduled"]), "due later");
    assert_eq!(
        list(&["--state", "ready", "--state", "completed"]),
        "good due"
    );
    assert_eq!(list(&["--task", "worse"]), "worse");
    assert_eq!(list(&["--task", "nobody"]), "");

    let plain = place.ok(&["list"]);
    let lines: Vec<&str> = plain.out.lines().collect();
    assert_eq!(lines.len(), 6, "{plain:?}");
    assert!(lines[0].starts_with("ID "), "{plain:?}");
    assert!(
        lines[2].contains("failed") && lines[2].contains("it broke"),
        "{plain:?}"
    );
    assert_eq!(plain.err, "");
}

#[test]
fn list_goes_on_where_it_ended() {
    let place = furnished();
    let mut seen = Vec::new();
    let mut answer = place.ok(&["list", "--json", "--limit", "2"]);
    loop {
        seen.extend(answer.lines());
        let Some((_, words)) = answer.err.trim().split_once("there may be more: kvjob ") else {
            break;
        };
        let words: Vec<&str> = words.split(' ').chain(["--json"]).collect();
        answer = place.ok(&words);
    }
    assert_eq!(tasks(&seen), ["good", "bad", "worse", "due", "later"]);
}

#[test]
fn history_and_log_tell_of_all_jobs_or_of_one() {
    let place = furnished();
    let bad = id(&place.job("bad"));
    let steps = |args: &[&str]| {
        let answer = place.ok(&[&["history", "--json"], args].concat());
        let steps = answer.lines();
        let text = |step: &Value| step["state"].as_str().unwrap().to_owned();
        steps.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(steps(&[&bad]), "created running failed");
    assert_eq!(
        steps(&["--state", "failed,completed"]),
        "completed failed failed"
    );
    assert_eq!(
        steps(&["--state", "created", "--all"]).split(' ').count(),
        5
    );
    assert_eq!(steps(&["--before", "2000-01-01T00:00:00Z"]), "");

    let logged = place.ok(&["log", "--level", "warn", "--json"]).lines();
    assert!(
        logged
            .iter()
            .any(|line| line["job"] == bad && line["message"] == "it broke")
    );
    assert_eq!(place.ok(&["log", &bad, "--json"]).lines().len(), 1);
    assert!(place.ok(&["log"]).out.contains("it broke"));
    assert!(
        place
            .ok(&["history"])
            .out
            .starts_with(&id(&place.job("good")))
    );
    assert_eq!(place.kvjob(&["log", "--level", "loud"]).code, Some(2));

    // It says how to go on.
    let first = place.ok(&["history", "--state", "failed", "--limit", "1"]);
    let (_, words) = first
        .err
        .trim()
        .split_once("there may be more: kvjob ")
        .unwrap();
    let next = place.ok(&words.split(' ').collect::<Vec<_>>());
    assert!(next.out.starts_with(&id(&place.job("worse"))), "{next:?}");
}

#[test]
fn show_tells_the_whole_story() {
    let place = furnished();
    let job = place.job("bad");
    let shown = place.ok(&["show", &id(&job), "--json"]).json();
    assert_eq!(shown["job"], job);
    let steps = shown["history"].as_array().unwrap();
    let states: Vec<&str> = steps.iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["created", "running", "failed"]);
    assert_eq!(shown["logs"][0]["message"], "it broke");

    let plain = place.ok(&["show", &id(&job)]).out;
    for part in [
        "task:        bad",
        "1 of 1",
        "it broke",
        "History",
        "created",
        "Log",
        "warn",
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
}

#[test]
fn what_a_job_says_does_not_steer_the_terminal() {
    let place = Place::new();
    place.fed(
        &["run", "-", "--exec", r"printf 'a\033[2Jb\n' "],
        "{\"task\":\"t\",\"payload\":0}",
    );
    let id = id(&place.job("t"));
    let plain = place.ok(&["show", &id]).out;
    assert!(plain.contains("a\\u{1b}[2Jb"), "{plain:?}");
    assert!(!plain.contains('\u{1b}'));
}

#[test]
fn stats_count_by_state_and_task() {
    let place = furnished();
    let stats = place.ok(&["stats", "--json"]).json();
    assert_eq!(stats["total"], 5);
    assert_eq!(stats["states"]["failed"], 2);
    assert_eq!(stats["tasks"]["good"]["completed"], 1);
    let plain = place.ok(&["stats"]).out;
    let total = plain.lines().last().unwrap();
    let numbers: Vec<&str> = total.split_whitespace().collect();
    assert_eq!(numbers, ["total", "5", "1", "1", "1", "2"], "{plain}");
}

#[test]
fn retry_lets_what_failed_wait_again() {
    let place = furnished();
    let answer = place.ok(&["retry", "--task", "bad", "--json"]);
    assert_eq!(tasks(&answer.lines()), ["bad"]);
    assert_eq!(place.job("bad")["state"], "ready");
    assert_eq!(place.job("bad")["attempts"], 0);
    assert_eq!(
        place.ok(&["retry", "--state", "failed"]).out,
        "retried: 1 job\n"
    );
    assert_eq!(place.ok(&["retry", "--all"]).out, "retried: 0 jobs\n");
    assert_eq!(place.job("good")["state"], "completed");

    let done = id(&place.job("good"));
    let answer = place.kvjob(&["retry", &done]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.err.contains("is completed: only failed"),
        "{answer:?}"
    );
}

#[test]
fn cancel_calls_off_what_waits() {
    let place = furnished();
    let later = id(&place.job("later"));
    assert_eq!(place.ok(&["cancel", &later]).out, "canceled: 1 job\n");
    assert_eq!(place.job("later")["state"], "canceled");
    let answer = place.kvjob(&["cancel", &later]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.err.contains("is canceled: only waiting"),
        "{answer:?}"
    );
    let answer = place.ok(&["cancel", "--all", "--json"]);
    assert_eq!(tasks(&answer.lines()), ["due"]);
    assert_eq!(place.ok(&["retry", &later, "--json"]).lines().len(), 1);
    assert_eq!(
        place.ok(&["cancel", "--state", "ready"]).out,
        "canceled: 1 job\n"
    );
}

#[test]
fn purge_removes_only_what_ended_and_was_selected() {
    let place = furnished();
    let purge = |args: &[&str]| place.ok(&[&["purge"], args].concat()).out;
    assert_eq!(purge(&["--older-than", "1d"]), "purged: 0 jobs\n");
    assert_eq!(
        purge(&["--state", "failed", "--task", "bad"]),
        "purged: 1 job\n"
    );
    assert_eq!(
        purge(&["--older-than", "0s", "--state", "completed"]),
        "purged: 1 job\n"
    );
    assert_eq!(tasks(&place.jobs()), ["worse", "due", "later"]);

    let due = id(&place.job("due"));
    let answer = place.kvjob(&["purge", &due]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.err.contains("is ready: only jobs that have ended"),
        "{answer:?}"
    );

    let worse = id(&place.job("worse"));
    let answer = place.ok(&["purge", "--all", "--json"]).lines();
    assert_eq!(answer, [serde_json::json!({ "id": worse })]);
    assert_eq!(tasks(&place.jobs()), ["due", "later"]);
}

#[test]
fn nothing_is_changed_without_saying_what() {
    let place = furnished();
    for (command, other) in [
        ("retry", "completed"),
        ("cancel", "completed"),
        ("purge", "running"),
    ] {
        let answer = place.kvjob(&[command]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.err.contains("--all"), "{answer:?}");
        let answer = place.kvjob(&[command, "--state", other]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.err.contains("possible values"), "{answer:?}");
    }
    assert_eq!(place.jobs().len(), 5);
}

#[test]
fn more_jobs_than_a_page_are_listed_and_changed_to_the_last() {
    let place = Place::new();
    let line = |n| format!("{{\"task\":\"t{}\",\"payload\":{n}}}\n", n % 3);
    let lines: Vec<String> = (0..600).map(line).collect();
    let lines = lines.concat();
    let args = [
        "run",
        "-",
        "--exec",
        "exit 1",
        "--max-attempts",
        "1",
        "-j",
        "8",
    ];
    assert_eq!(place.fed(&args, &lines).code, Some(1));
    assert_eq!(place.jobs().len(), 600);
    assert_eq!(place.ok(&["list", "--all"]).out.lines().count(), 601);
    assert_eq!(
        place.ok(&["retry", "--task", "t1"]).out,
        "retried: 200 jobs\n"
    );
    assert_eq!(place.ok(&["retry", "--all"]).out, "retried: 400 jobs\n");
    assert_eq!(place.ok(&["cancel", "--all"]).out, "canceled: 600 jobs\n");
    assert_eq!(place.ok(&["purge", "--all"]).out, "purged: 600 jobs\n");
    assert_eq!(place.jobs().len(), 0);
}

#[test]
fn whoever_reads_only_the_beginning_is_no_reason_to_complain() {
    let place = Place::new();
    for number in 0..60 {
        let payload = format!("\"{}\"", "x".repeat(20_000));
        place.ok(&["enqueue", &format!("t{number}"), &payload]);
    }
    for args in [&["list", "--all", "--json"][..], &["list", "--all"]] {
        let mut child = place.command(args).spawn().unwrap();
        let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
        let mut first = Vec::new();
        out.read_until(b'\n', &mut first).unwrap();
        drop(out);
        let answer = Answer::from(child);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.err, "");
    }
}

#[test]
fn backends_say_what_a_store_can_be() {
    let place = Place::new();
    let plain = place.ok(&["backends"]).out;
    assert!(
        plain.contains("redb:PATH") && plain.contains("memory:"),
        "{plain}"
    );
    let row = plain.lines().find(|line| line.starts_with("redb "));
    let cells: Vec<&str> = row.unwrap().split_whitespace().collect();
    assert_eq!(
        cells.join(" "),
        "redb yes one yes yes 64 KiB 64 MiB 64 MiB, 65536 changes"
    );
    assert!(plain.contains("kill -9 and power loss"), "{plain}");
    let lines = place.ok(&["backends", "--json"]).lines();
    let redb = lines.iter().find(|line| line["name"] == "redb").unwrap();
    assert_eq!(redb["enabled"], true);
    assert_eq!(redb["shared"], false);
    assert!(redb["limits"]["value_bytes"].as_u64().unwrap() >= 1 << 20);
}

#[test]
fn a_backend_is_used_where_it_is_compiled_in_and_else_refused_with_what_to_do() {
    let place = Place::new();
    for backend in place.ok(&["backends", "--json"]).lines() {
        let name = backend["name"].as_str().unwrap();
        if name == "memory" {
            continue;
        }
        let on_disk = backend["url"].as_str().unwrap().ends_with("PATH");
        let store = if on_disk {
            format!("{name}:{name}.store")
        } else {
            let shop = if name == "postgres" { "/shop" } else { "" };
            format!("{name}://ada:secret@127.0.0.1:1{shop}")
        };
        let enqueue = ["enqueue", "a", "--store", &store];
        if backend["enabled"] == true && !on_disk {
            // Nobody serves there, and that is said at once.
            let answer = place.kvjob(&enqueue);
            assert_eq!(answer.code, Some(2), "{answer:?}");
            assert!(answer.err.contains("127.0.0.1:1"), "{answer:?}");
            assert!(!answer.err.contains("secret"), "{answer:?}");
        } else if backend["enabled"] == true {
            place.ok(&enqueue);
            let listed = place.ok(&["list", "--json", "--store", &store]);
            assert_eq!(tasks(&listed.lines()), ["a"], "{name}");
        } else {
            let answer = place.kvjob(&enqueue);
            assert_eq!(answer.code, Some(2), "{answer:?}");
            assert!(
                answer.err.contains(&format!("feature {name}")),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let place = Place::new();
    for command in [
        "run",
        "enqueue",
        "list",
        "show",
        "wait",
        "stats",
        "retry",
        "cancel",
        "purge",
        "clear",
        "clear history",
        "clear log",
        "copy",
        "dump",
        "restore",
        "quarantine",
        "quarantine list",
        "quarantine show",
        "quarantine release",
        "quarantine remove",
        "backends",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = place.ok(&words).out;
        assert!(help.contains("Examples:\n  "), "{help}");
        assert!(help.contains(&format!("kvjob {command}")), "{help}");
        assert!(
            help.contains("--store <URL>") && help.contains("--json"),
            "{help}"
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
    let help = place.ok(&["--help"]).out;
    assert!(help.contains("Exit status:"), "{help}");
    assert!(!help.contains("__guard"), "{help}");
    assert_eq!(place.kvjob(&["list", "--stat", "failed"]).code, Some(2));
    assert_eq!(place.kvjob(&["frobnicate"]).code, Some(2));
}

#[test]
fn the_store_is_named_by_option_or_environment_and_may_have_namespaces() {
    let place = Place::new();
    place.ok(&["enqueue", "a", "--store", "redb:other.redb"]);
    let mut command = place.command(&["list", "--json"]);
    command.env("KVJOB_STORE", "redb:other.redb");
    assert_eq!(tasks(&Answer::of(command).lines()), ["a"]);
    assert!(!place.path("kvjob.redb").exists());

    let shop = "redb:other.redb?namespace=shop";
    place.ok(&["--store", shop, "enqueue", "b"]);
    let listed = place.ok(&["--store", shop, "list", "--json"]).lines();
    assert_eq!(tasks(&listed), ["b"]);
}

#[test]
fn a_look_at_a_store_that_is_not_there_does_not_make_one() {
    let place = Place::new();
    let id = "0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90";
    for args in [
        &["list"][..],
        &["show", id],
        &["stats"],
        &["retry", "--all"],
        &["cancel", "--all"],
        &["purge", "--all"],
        &["clear", "log", "--all"],
        &["quarantine", "list"],
    ] {
        let answer = place.kvjob(args);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(
            answer.err.contains("there is no store at ./kvjob.redb"),
            "{answer:?}"
        );
        assert!(answer.err.contains("`kvjob enqueue`"), "{answer:?}");
    }
    assert!(!place.path("kvjob.redb").exists());
    place.ok(&["enqueue", "t"]);
    let answer = place.kvjob(&["show", id]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.contains("there is no job"), "{answer:?}");
}

#[test]
fn a_keyed_add_replaces_the_waiting_job_if_asked_to() {
    let place = Place::new();
    let add = |payload, more: &[&str]| {
        place.ok(&[&["enqueue", "t", payload, "--key", "k", "--json"], more].concat())
    };
    let first = add("1", &["--in", "1h"]).json();
    assert_eq!(
        (&first["done"], &first["new"]),
        (&"inserted".into(), &true.into())
    );
    let again = add("2", &[]).json();
    assert_eq!(
        (&again["done"], &again["id"]),
        (&"unchanged".into(), &first["id"])
    );
    assert_eq!(again["job"]["payload"], 1);
    let later = add("3", &["--key-mode", "preserve-run-at"]).json();
    assert_eq!(
        (&later["done"], &later["id"]),
        (&"replaced".into(), &first["id"])
    );
    assert_eq!(later["job"]["run_at"], first["job"]["run_at"]);
    let now = add("4", &["--key-mode", "replace"]).json();
    assert_eq!(
        (&now["done"], &now["job"]["state"]),
        (&"replaced".into(), &"ready".into())
    );
    assert_eq!(place.job("t")["payload"], 4);

    let plain = place.ok(&["enqueue", "t", "5", "--key", "k", "--key-mode", "replace"]);
    assert!(plain.err.contains("was replaced"), "{plain:?}");
    let mistake = place.kvjob(&["enqueue", "t", "--key-mode", "replace"]);
    assert_eq!(mistake.code, Some(2));
    let mistake = place.kvjob(&["enqueue", "t", "--key", "k", "--key-mode", "newest"]);
    assert_eq!(mistake.code, Some(2));
}

#[test]
fn jobs_are_changed_by_hand_by_their_ids() {
    let place = furnished();
    let (due, later, bad) = (
        id(&place.job("due")),
        id(&place.job("later")),
        id(&place.job("bad")),
    );
    let sooner = place.ok(&[
        "reschedule",
        &later,
        &bad,
        "--in",
        "0s",
        "--priority",
        "-7",
        "--json",
    ]);
    assert_eq!(tasks(&sooner.lines()), ["later", "bad"]);
    for job in sooner.lines() {
        assert_eq!(
            (&job["state"], &job["priority"]),
            (&"ready".into(), &(-7).into())
        );
    }
    let failed = place.ok(&["fail", &due, "--reason", "the account is closed"]);
    assert_eq!(failed.out.trim(), "failed: 1 job");
    assert_eq!(place.job("due")["last_error"], "the account is closed");

    let done = place.ok(&["complete", &later, &bad]);
    assert_eq!(done.out.trim(), "completed: 2 jobs");
    let nobody = "0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90";
    let not_all = place.kvjob(&["complete", &later, nobody, &due]);
    assert_eq!(
        (not_all.code, not_all.out.trim()),
        (Some(1), "completed: 1 job")
    );
    assert!(
        not_all.err.contains(&format!("{later} is completed")),
        "{not_all:?}"
    );
    assert!(
        not_all.err.contains(&format!("there is no job {nobody}")),
        "{not_all:?}"
    );
    let mistake = place.kvjob(&["reschedule", &due, "--attempts", "3", "--max-attempts", "3"]);
    assert_eq!(mistake.code, Some(2), "{mistake:?}");
}

#[test]
fn jobs_are_removed_by_their_keys() {
    let place = Place::new();
    let first = place.ok(&["enqueue", "t", "--key", "a"]);
    place.ok(&["enqueue", "t", "--key", "b"]);
    let removed = place
        .ok(&["remove", "--key", "a", "--key", "b", "--json"])
        .lines();
    assert_eq!(removed[0]["id"], first.out.trim());
    assert!(
        removed.iter().all(|job| job["state"] == "removed"),
        "{removed:?}"
    );
    let missing = place.kvjob(&["remove", "--key", "a"]);
    assert_eq!(
        (missing.code, missing.out.trim()),
        (Some(1), "removed: 0 jobs")
    );
    assert!(
        missing.err.contains("no job has the key \"a\""),
        "{missing:?}"
    );
    assert_ne!(place.ok(&["enqueue", "t", "--key", "a"]).out, first.out);
    let purged = place.ok(&["purge", "--state", "removed"]);
    assert_eq!(purged.out.trim(), "purged: 2 jobs");
}

#[test]
fn a_worker_that_holds_nothing_is_told_of() {
    let place = furnished();
    let nobody = place.kvjob(&["unlock", "nobody"]);
    assert_eq!(
        (nobody.code, nobody.out.trim()),
        (Some(1), "unlocked: 0 jobs")
    );
    assert!(nobody.err.contains("\"nobody\" holds a job"), "{nobody:?}");
}
