//! What is removed and what is put aside: `kvjob run --keep-...`, `kvjob purge --older-than`,
//! `kvjob clear` and `kvjob quarantine`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Answer, Place};
use kvjob::encoding::tuple::Tuple;
use kvjob::kv::{Key, Object};
use kvjob_any::StoreUrl;
use serde_json::Value;

fn lines(count: u32) -> String {
    let line = |n| format!("{{\"task\":\"t\",\"payload\":{n}}}\n");
    (0..count).map(line).collect()
}

#[test]
fn jobs_that_are_not_kept_are_gone_when_they_have_completed_and_count() {
    let place = Place::new();
    let run = |more: &[&str]| {
        let exec = r#"read n; [ "$n" != 7 ]"#;
        let args = ["run", "-", "--exec", exec, "--max-attempts", "1", "--json"];
        place.fed(&[&args, more].concat(), &lines(100))
    };
    let answer = run(&["--keep-completed", "0s", "--keep-failed", "1h"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let summary = answer.json();
    assert_eq!(summary["completed"], 99, "{summary}");
    assert_eq!(summary["failed"], 1, "{summary}");
    assert_eq!(summary["lost"], 0, "{summary}");
    let left = place.jobs();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["state"], "failed");

    // What was forgotten runs again; what failed is remembered.
    let summary = run(&[]).json();
    assert_eq!(summary["completed"], 99, "{summary}");
    assert_eq!(place.jobs().len(), 100);
}

#[test]
fn jobs_are_kept_for_a_time_that_makes_sense() {
    let place = Place::new();
    for bad in ["7", "-1s", "soon"] {
        let keep = format!("--keep-completed={bad}");
        let answer = place.kvjob(&["run", "-", "--exec", "true", &keep]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
    }
    let keep = ["run", "-", "--exec", "true", "--keep-completed", "7d"];
    assert_eq!(place.fed(&keep, &lines(3)).code, Some(0));
    assert_eq!(place.jobs().len(), 3);
    assert_eq!(
        place.ok(&["purge", "--older-than", "1h"]).out,
        "purged: 0 jobs\n"
    );
    place.ok(&["enqueue", "waiting"]);
    assert_eq!(
        place.ok(&["purge", "--older-than", "0s"]).out,
        "purged: 3 jobs\n"
    );
    assert_eq!(place.jobs().len(), 1);
}

#[test]
fn histories_and_logs_are_cleared_as_they_are_shown_and_the_jobs_stay() {
    let place = Place::new();
    let exec = r#"read n; echo "saw $n" >&2; [ "$n" != 1 ]"#;
    let args = ["run", "-", "--exec", exec, "--max-attempts", "1"];
    place.fed(&args, &lines(2));
    let waits = place.ok(&["enqueue", "waits"]).out.trim().to_owned();
    let jobs = place.jobs();
    let failed = jobs.iter().find(|job| job["state"] == "failed").unwrap();
    let failed = failed["id"].as_str().unwrap();
    let shown = |args: &[&str]| place.ok(&[args, &["--all", "--json"]].concat()).lines();

    let logged = shown(&["log"]);
    assert!(logged.iter().any(|line| line["job"] == failed));
    assert_eq!(
        place.ok(&["clear", "log", "--older-than", "1d"]).out,
        "cleared: 0 lines\n"
    );
    let gone = place.ok(&["clear", "log", failed, "--json"]).lines();
    let of_failed = |line: &&Value| line["job"] == failed;
    assert!(gone.iter().eq(logged.iter().filter(of_failed)), "{gone:?}");
    let count = logged.len() - gone.len();
    let all = place.ok(&["clear", "log", "--after", "2000-01-01T00:00:00Z"]);
    assert_eq!(
        all.out,
        format!(
            "cleared: {count} line{}\n",
            if count == 1 { "" } else { "s" }
        )
    );
    assert!(shown(&["log"]).is_empty());

    let running = shown(&["history", "--state", "running"]);
    let gone = place.ok(&["clear", "history", "--state", "running", "--json"]);
    assert_eq!(gone.lines(), running);
    assert!(
        place
            .ok(&["clear", "history", "--older-than", "0s"])
            .out
            .starts_with("cleared: ")
    );
    let left = shown(&["history"]);
    assert!(
        left.iter().all(|step| step["job"] == waits) && left.len() == 1,
        "{left:?}"
    );
    for (before, after) in jobs.iter().zip(&place.jobs()) {
        for field in ["id", "state", "last_error", "attempts", "ended_at"] {
            assert_eq!(before[field], after[field]);
        }
    }

    // One that lives keeps its history, and one that is not there has none: both are said.
    let nobody = "0197a2c4-7c1e-7d3a-9b6e-3f2a1c5d8e90";
    for (args, why) in [
        (
            ["history", waits.as_str()],
            "is ready: only the history of a job that has ended",
        ),
        (["history", nobody], "there is no job"),
        (["log", nobody], "there is no job"),
    ] {
        let answer = place.kvjob(&[&["clear"], &args[..]].concat());
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains(why), "{answer:?}");
    }
    place.ok(&["clear", "history", failed]);
    assert_eq!(place.ok(&["check"]).code, Some(0));
    place.ok(&["retry", failed]);
    assert_eq!(shown(&["history", failed]).len(), 1);
    assert_eq!(place.ok(&["check"]).code, Some(0));
}

/// Puts this in the place of a record of the store, and says what was there.
fn overwrite(place: &Place, key: &Key, value: Vec<u8>) -> Object {
    let url = format!("redb:{}", place.path("kvjob.redb").display());
    let url: StoreUrl = url.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = url.open().await.unwrap();
        let before = store.get(key).await.unwrap().unwrap();
        let object = Object::new(key.clone(), value);
        store.set(object).await.unwrap();
        store.stop().await.unwrap();
        before
    })
}

/// A store with a job that was put aside because of its payload, the name it has there, and the
/// right payload.
fn with_a_job_put_aside() -> (Place, String, Object) {
    let place = Place::new();
    let payload = format!("\"{}\"", "x".repeat(600));
    let id = place.ok(&["enqueue", "large", &payload, "--priority", "-1"]);
    let id: kvjob::job::JobId = id.out.trim().parse().unwrap();
    let key = Tuple::new().string("kvjob").uint(3).uuid(id.as_bytes());
    let good = overwrite(&place, &key.finish().into(), b"\x1b[2Jcut".to_vec());
    let answer = place.fed(&["run", "-", "--exec", "true"], &lines(1));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let listed = place.ok(&["quarantine", "list", "--json"]).lines();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let name = listed[0]["id"].as_str().unwrap().to_owned();
    (place, name, good)
}

fn refused(answer: &Answer, why: &str) {
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_eq!(answer.out, "", "{answer:?}");
    assert!(answer.err.contains(why), "{answer:?}");
}

#[test]
fn what_was_put_aside_is_listed_and_shown() {
    let (place, name, _) = with_a_job_put_aside();
    let listed = place.ok(&["quarantine", "list"]).out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(
        listed.lines().nth(1).unwrap().starts_with(&name),
        "{listed}"
    );
    assert!(listed.contains("the payload of job"), "{listed}");
    let stats = place.ok(&["stats"]).out;
    assert!(stats.contains("kvjob quarantine list"), "{stats}");

    let shown = place.ok(&["quarantine", "show", &name]).out;
    assert!(shown.contains(&format!("id:          {name}")), "{shown}");
    assert!(shown.contains("02 6b 76 6a 6f 62 00 15 02 30"), "{shown}");
    assert!(shown.contains(".kvjob...0"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let json = place.ok(&["quarantine", "show", &name, "--json"]).json();
    let (key, value) = (&json["raw_key"], json["raw_value"].as_str().unwrap());
    assert!(key.as_str().unwrap().starts_with("026b766a6f62001502"));
    assert_eq!(Value::from(value.len() / 2), json["bytes"]);
    assert_eq!(json["id"], *name);
}

#[test]
fn a_job_comes_back_once_it_can_be_read_again() {
    let (place, name, good) = with_a_job_put_aside();
    let release = ["quarantine", "release", &name];
    refused(&place.kvjob(&release), "quarantine-still-unreadable");
    overwrite(&place, &good.key, good.value.to_vec());
    let released = place.ok(&release).out;
    assert!(released.starts_with("released: job "), "{released}");
    assert!(released.ends_with(" is ready\n"), "{released}");
    assert_eq!(place.ok(&["quarantine", "list", "--json"]).out, "");
    assert!(
        place
            .ok(&["quarantine", "list"])
            .err
            .contains("nothing was")
    );
    place.fed(&["run", "-", "--exec", "true"], &lines(2));
    assert_eq!(place.job("large")["state"], "completed");
    refused(&place.kvjob(&release), "was not put aside");
}

#[test]
fn a_job_that_cannot_be_read_is_released_if_wanted_or_removed() {
    let (place, name, _) = with_a_job_put_aside();
    let release = ["quarantine", "release", &name, "--unreadable", "--json"];
    let released = place.ok(&release).json();
    assert_eq!(released["record"]["id"], *name);
    assert_eq!(released["job"], Value::Null);

    let (place, name, _) = with_a_job_put_aside();
    let unknown = "00000000000000aa";
    let answer = place.kvjob(&["quarantine", "remove", unknown, &name]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_eq!(answer.out, "removed: 1 record\n");
    assert!(answer.err.contains(unknown), "{answer:?}");
    let gone = place.kvjob(&["quarantine", "show", &name]);
    refused(&gone, "was not put aside");
    let mistake = place.kvjob(&["quarantine", "show", "jobs"]);
    assert_eq!(mistake.code, Some(2), "{mistake:?}");
    assert!(mistake.err.contains("16 digits"), "{mistake:?}");
}
