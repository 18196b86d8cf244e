//! `kvjob cron`: what it keeps, adds and refuses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader};

use common::{Answer, Place, signal};
use serde_json::Value;

#[test]
fn a_schedule_is_kept_as_it_was_said() {
    let place = Place::new();
    let args = "cron add nightly --task report --time-zone Europe/Zurich --fill 1d --jitter 1m --priority -3 --max-attempts 4 --key k --key-mode preserve-run-at --queue q --json --schedule";
    let mut args: Vec<&str> = args.split(' ').collect();
    args.extend(["30 4 * * mon-fri", "--payload", r#"{"to":"ada"}"#]);
    let added = place.ok(&args).json();
    let schedule = &added["schedule"];
    assert_eq!(schedule["when"]["cron"]["fields"], "30 4 * * mon-fri");
    assert_eq!(schedule["when"]["cron"]["time_zone"], "Europe/Zurich");
    assert_eq!(schedule["missed"]["all"], "1d");
    assert_eq!(
        (&schedule["task"], &schedule["payload"]["to"]),
        (&"report".into(), &"ada".into())
    );
    assert_eq!(
        (&schedule["key_mode"], &schedule["queue"]),
        (&"preserve_run_at".into(), &"q".into())
    );
    assert_eq!(added["next"].as_array().unwrap().len(), 5);
    assert_eq!(place.ok(&["cron", "list", "--json"]).json(), added);

    let plain = place.ok(&["cron", "list"]).out;
    assert!(plain.contains("30 4 * * mon-fri Europe/Zurich"), "{plain}");
    let again = place.ok(&args[..args.len() - 1]
        .iter()
        .chain([&r#"{"to":"bob"}"#])
        .copied()
        .collect::<Vec<_>>());
    assert_eq!(again.json()["schedule"]["payload"]["to"], "bob");
}

#[test]
fn it_is_paused_resumed_and_removed() {
    let place = Place::new();
    place.ok(&["cron", "add", "tidy", "--every", "10m"]);
    let paused = place.ok(&["cron", "pause", "tidy", "--json"]).json();
    assert_eq!(
        (&paused["paused"], &paused["next"]),
        (&Value::Bool(true), &Value::Array(vec![]))
    );
    assert!(place.ok(&["cron", "list"]).out.contains("paused"));
    let resumed = place.ok(&["cron", "resume", "tidy", "--json"]).json();
    assert_eq!(resumed["paused"], false);
    assert_eq!(
        place.kvjob(&["cron", "remove", "tidy", "other"]).code,
        Some(1)
    );
    let empty = place.ok(&["cron", "list"]);
    assert!(empty.out.is_empty() && empty.err.contains("no schedules"));
    for action in ["pause", "resume", "remove"] {
        let answer = place.kvjob(&["cron", action, "tidy"]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains("no schedule tidy"), "{answer:?}");
    }
}

#[test]
fn what_is_wrong_is_said_and_makes_no_store() {
    let place = Place::new();
    let crontab = place.write("bad.crontab", "# fine\n0 4 * * * report\n0 25 * * * late\n");
    let crontab = crontab.to_str().unwrap();
    for (args, says) in [
        (vec!["add", "x"], "required"),
        (vec!["add", "x", "--schedule", "0 25 * * *"], "hour"),
        (vec!["add", "x", "--schedule", "* * *"], "five"),
        (
            vec!["add", "x", "--schedule", "* * * * *", "--every", "1m"],
            "cannot be used",
        ),
        (vec!["add", "x", "--every", "0s"], "interval"),
        (
            vec!["add", "x", "--every", "1m", "--time-zone", "UTC"],
            "cron fields",
        ),
        (
            vec![
                "add",
                "x",
                "--schedule",
                "* * * * *",
                "--time-zone",
                "Mars/Base",
            ],
            "Mars/Base",
        ),
        (
            vec!["add", "x", "--every", "1m", "--payload", "[1]"],
            "object",
        ),
        (
            vec![
                "add", "x", "--every", "1m", "--missed", "skip", "--fill", "1d",
            ],
            "--fill",
        ),
        (
            vec!["add", "x", "--every", "1m", "--key-mode", "replace"],
            "--key",
        ),
        (vec!["run", "--crontab", crontab], "line 3, column 3"),
        (vec!["run", "--crontab", "nowhere"], "nowhere"),
        (vec!["check", crontab], "line 3, column 3"),
    ] {
        let mut all = vec!["cron"];
        all.extend(&args);
        let answer = place.kvjob(&all);
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(answer.err.contains(says), "{args:?}: {answer:?}");
    }
    assert!(!place.path("kvjob.redb").exists());
}

#[test]
fn a_crontab_is_checked_without_a_store() {
    let place = Place::new();
    let text = "0 4 * * * report ?id=nightly\n*/5 * * * * tidy\n";
    let checked = place.fed(
        &["cron", "check", "-", "--time-zone", "Asia/Tokyo", "--json"],
        text,
    );
    let schedules = checked.lines();
    assert_eq!(schedules.len(), 2);
    assert_eq!(
        schedules[0]["schedule"]["when"]["cron"]["time_zone"],
        "Asia/Tokyo"
    );
    assert!(
        schedules[0]["next"][0]
            .as_str()
            .unwrap()
            .ends_with("T19:00:00Z")
    );
    assert!(!place.path("kvjob.redb").exists());
}

#[test]
fn it_adds_jobs_until_a_signal_stops_it() {
    for name in ["INT", "TERM"] {
        let place = Place::new();
        place.ok(&["cron", "add", "soon", "--in", "1s"]);
        let crontab = place.write("jobs.crontab", "0 0 1 1 * yearly\n");
        let mut command = place.command(&["cron", "run", "--json", "--crontab"]);
        let mut child = command.arg(crontab).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let added: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&added["schedule"], &added["new"], &added["done"]),
            (&"soon".into(), &Value::Bool(true), &"inserted".into())
        );
        signal(child.id(), name);
        let answer = Answer::from(child);
        assert_eq!(answer.code, Some(130), "{answer:?}");
        assert_eq!(place.job("soon")["id"], added["job"]);
        assert_eq!(
            place.shown("soon")["job"]["payload"]["_cron"]["backfilled"],
            false
        );
        let ids: Vec<Value> = place.ok(&["cron", "list", "--json"]).lines();
        assert_eq!(ids.len(), 2);
        assert_eq!(
            (&ids[1]["id"], &ids[1]["schedule"]),
            (&"yearly".into(), &Value::Null)
        );
    }
}
