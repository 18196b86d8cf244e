//! What is wrong is said clearly, with what to do about it, and costs nothing that was stored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{Answer, Place, signal, wait_for};
use kvjob::encoding::tuple::Tuple;
use kvjob::job::JobId;
use kvjob::kv::Object;

/// Fails with status 2 and says all of this, on standard error only.
fn refused(answer: &Answer, parts: &[&str]) {
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert_eq!(answer.out, "", "{answer:?}");
    assert!(answer.err.starts_with("kvjob: "), "{answer:?}");
    for part in parts {
        assert!(answer.err.contains(part), "{part}: {answer:?}");
    }
}

#[test]
fn an_unknown_scheme_lists_the_known_ones() {
    let place = Place::new();
    for (url, why) in [
        ("reddb:x", "there is no backend \"reddb\""),
        ("jobs.redb", "it has no scheme"),
        ("redb:x?sync=off", "redb: takes no option \"sync\""),
    ] {
        let answer = place.kvjob(&["list", "--store", url]);
        refused(&answer, &[url, why, "redb:PATH", "memory:"]);
    }
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_redbs_is_left_as_it_is() {
    let place = Place::new();
    let text = "Dear diary, today I did not feel like a database.\n".repeat(100);
    place.write("diary.txt", &text);
    for args in [&["list"][..], &["enqueue", "t"]] {
        let answer = place.kvjob(&[args, &["--store", "redb:diary.txt"]].concat());
        refused(
            &answer,
            &["diary.txt", "another program", "choose another path"],
        );
    }
    assert_eq!(place.read("diary.txt"), text);
}

#[test]
fn a_store_in_use_names_the_process() {
    let place = Place::new();
    place.write("jobs.jsonl", r#"{"task":"t","payload":0}"#);
    let exec = "touch started; while [ ! -e go ]; do sleep 0.01; done";
    let args = ["run", "jobs.jsonl", "--exec", exec];
    let child = place.command(&args).spawn().unwrap();
    wait_for("the job", || place.path("started").exists().then_some(()));
    let process = format!("process {}", child.id());
    refused(
        &place.kvjob(&args),
        &["kvjob.redb", "in use", &process, "kvjob"],
    );
    // Nobody is let in any more.
    fs::remove_file(place.path("kvjob.redb.sock")).unwrap();
    for args in [&["list"][..], &["enqueue", "t"], &["dump", "x"]] {
        refused(
            &place.kvjob(args),
            &["kvjob.redb", "in use", &process, "kvjob"],
        );
    }
    fs::write(place.path("go"), "").unwrap();
    assert_eq!(Answer::from(child).code, Some(0));
    assert_eq!(place.jobs().len(), 1);
}

#[test]
fn a_store_that_cannot_be_made_says_what_stands_in_the_way() {
    let place = Place::new();
    place.write("file", "");
    place.write("jobs.jsonl", r#"{"task":"t","payload":0}"#);
    let run = |url: &str| {
        let args = ["run", "jobs.jsonl", "--exec", "true", "--store", url];
        place.kvjob(&args)
    };
    refused(
        &run("redb:file/x.redb"),
        &["file/x.redb", "Not a directory"],
    );
    refused(
        &run("redb:none/x.redb"),
        &["none/x.redb", "does not exist", "create it"],
    );
    // No one may make a file there, root included.
    refused(&run("redb:/proc/x.redb"), &["/proc/x.redb"]);
    refused(&run("redb:."), &["directory"]);
}

#[test]
fn a_directory_that_is_read_only_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let directory = place.path("locked");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    let answer = place.kvjob(&["enqueue", "t", "--store", "redb:locked/x.redb"]);
    // Permissions do not stop root.
    if fs::write(directory.join("probe"), "").is_ok() {
        assert_eq!(answer.code, Some(0), "{answer:?}");
    } else {
        refused(&answer, &["locked/x.redb", "Permission denied"]);
    }
}

#[test]
fn a_file_of_jobs_that_cannot_be_read_makes_no_store() {
    let place = Place::new();
    refused(
        &place.kvjob(&["run", "none.jsonl", "--exec", "true"]),
        &["none.jsonl", "No such"],
    );
    refused(
        &place.kvjob(&["run", ".", "--exec", "true"]),
        &["directory"],
    );
    assert!(!place.path("kvjob.redb").exists());
}

#[test]
fn wrong_arguments_say_what_would_be_right() {
    let place = Place::new();
    for (args, parts) in [
        (
            &["run", "x", "--exec", "y", "--timeout", "5"][..],
            &["--timeout", "no unit", "30s"][..],
        ),
        (&["run", "x", "--exec", "y", "-j", "0"], &["0"]),
        (&["run", "x", "--exec", "y", "--max-attempts", "0"], &["0"]),
        (&["run", "x"], &["--exec"]),
        (&["show", "42"], &["\"42\" is not a job id", "0197a2c4"]),
        (
            &["enqueue", "t", "--run-at", "noon"],
            &["2026-11-21T08:30:00Z"],
        ),
        (&["enqueue", "t", "--retain"], &["--key"]),
        (
            &[
                "enqueue",
                "t",
                "--in",
                "1h",
                "--run-at",
                "2026-11-21T08:30:00Z",
            ],
            &["cannot be used"],
        ),
        (
            &["list", "--state", "lost"],
            &["possible values", "timed_out"],
        ),
    ] {
        let answer = place.kvjob(args);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        for part in parts {
            assert!(answer.err.contains(part), "{part}: {answer:?}");
        }
    }
    let long = "t".repeat(129);
    let answer = place.kvjob(&["enqueue", &long]);
    refused(&answer, &["over the limit of 128", "name-too-long"]);
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() {
    let place = Place::new();
    let lines = 3000;
    let mut text = String::new();
    for number in 0..lines {
        writeln!(text, "{{\"task\":\"t\",\"payload\":\"{number:0400}\"}}").unwrap();
    }
    place.write("jobs.jsonl", text);
    // The store may not grow beyond some blocks of 512 or 1024 bytes; the first limit is hit
    // while it is made, the others while it is used.
    let mut full = 0;
    for blocks in [100, 5000, 6500] {
        let limited = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$KVJOB\" run jobs.jsonl --exec true -j 1"
        );
        let mut command = place.program("sh");
        command.args(["-c", &limited]);
        let answer = Answer::of(command);
        if answer.code != Some(0) {
            full += 1;
            refused(&answer, &["File too large"]);
        }
    }
    assert!(full > 0, "the disk was never full");
    let args = ["run", "jobs.jsonl", "--exec", "true", "-j", "8", "--json"];
    let summary = place.ok(&args).json();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    assert_eq!(
        number(&summary["completed"]) + number(&summary["before"]["completed"]),
        lines,
    );
    assert_eq!(place.ok(&["stats", "--json"]).json()["total"], lines);
}

#[test]
fn a_disk_that_fills_up_while_jobs_run_is_told_and_loses_no_job() {
    let place = Place::new();
    let line = |number| format!("{{\"task\":\"t\",\"payload\":{number}}}\n");
    let lines: Vec<String> = (0..200).map(line).collect();
    place.write("jobs.jsonl", lines.concat());
    // What the commands print fills it.
    let exec = "head -c 60000 /dev/zero | tr '\\0' x";
    let limited =
        format!("trap '' XFSZ; ulimit -f 6500; exec \"$KVJOB\" run jobs.jsonl --exec \"{exec}\"");
    let mut command = place.program("sh");
    command.args(["-c", &limited]);
    refused(&Answer::of(command), &["File too large", "goes on"]);
    let summary = place.ok(&["run", "jobs.jsonl", "--exec", "true", "--json"]);
    let summary = summary.json();
    assert_eq!(summary["jobs"], 200, "{summary}");
    assert_eq!(summary["added"], 0, "{summary}");
}

/// Overwrites records below the jobs.
fn spoil(place: &Place, records: &[(Vec<u8>, &[u8])]) {
    let url = format!("redb:{}", place.path("kvjob.redb").display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = kvjob_any::open(&url).await.unwrap();
        for (key, value) in records {
            assert!(store.get(&key.clone().into()).await.unwrap().is_some());
            let object = Object::new(key.clone(), value.to_vec());
            store.set(object).await.unwrap();
        }
        store.stop().await.unwrap();
    });
}

fn key(space: u64) -> Tuple {
    Tuple::new().string("kvjob").uint(space)
}

#[test]
fn a_corrupt_record_in_the_middle_is_put_aside_and_reported_and_the_others_run() {
    let place = Place::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        let answer = place.ok(&["enqueue", "t", &number.to_string()]);
        ids.push(answer.out.trim().parse::<JobId>().unwrap());
    }
    let header = key(2).uuid(ids[2].as_bytes()).finish();
    spoil(&place, &[(header, b"\x01garbage")]);
    let stats = place.ok(&["stats"]).out;
    assert!(
        stats.contains("Cannot be read") && stats.contains(": 1\n"),
        "{stats}"
    );

    let answer = place.fed(
        &["run", "-", "--exec", "cat >> done.txt", "-j", "1"],
        "{\"task\":\"mine\",\"payload\":9,\"priority\":1}",
    );
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.out.contains("4 jobs of others"), "{answer:?}");
    assert_eq!(place.read("done.txt"), "0\n1\n3\n4\n9\n");
    let stats = place.ok(&["stats"]).out;
    assert!(
        stats.contains("Put aside because it could not be read: 1"),
        "{stats}"
    );
    assert_eq!(place.ok(&["stats", "--json"]).json()["quarantined"], 1);
}

#[test]
fn a_job_of_the_file_that_cannot_be_read_is_told_and_the_others_run() {
    let place = Place::new();
    let mut text = String::new();
    let mut ids = Vec::new();
    for number in 0..3 {
        writeln!(
            text,
            "{{\"task\":\"t\",\"payload\":{number},\"key\":\"k{number}\"}}"
        )
        .unwrap();
        let (payload, name) = (number.to_string(), format!("k{number}"));
        let answer = place.ok(&["enqueue", "t", &payload, "--retain", "--key", &name]);
        ids.push(answer.out.trim().parse::<JobId>().unwrap());
    }
    let header = key(2).uuid(ids[1].as_bytes()).finish();
    spoil(&place, &[(header, b"\x01garbage")]);
    let args = ["run", "-", "--exec", "cat >> done.txt", "-j", "1", "--json"];
    let answer = place.fed(&args, &text);
    let mut done: Vec<String> = place.read("done.txt").lines().map(str::to_owned).collect();
    done.sort();
    // The worker may put it aside before its line is read; then the line is a new job.
    if answer.code == Some(1) {
        assert_eq!(done, ["0", "2"]);
        assert!(
            answer.err.contains("kvjob: -:2: ") && answer.err.contains("corrupt"),
            "{answer:?}"
        );
    } else {
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(done, ["0", "1", "2"]);
    }
}

#[test]
fn a_store_from_the_future_is_left_alone() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    // Version 1 of the record, which says that only readers of format 9 may read the rest.
    spoil(&place, &[(key(1).finish(), &[1, 9, 9])]);
    for args in [&["list"][..], &["enqueue", "t"]] {
        refused(&place.kvjob(args), &["format 9", "newer version"]);
    }
}

#[test]
fn a_damaged_file_is_told_and_does_not_crash_the_command() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    let path = place.path("kvjob.redb");
    let mut bytes = fs::read(&path).unwrap();
    // The beginning says that it is redb's; the rest is noise.
    bytes[16..].iter_mut().zip(0u32..).for_each(|(byte, n)| {
        *byte = n.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    });
    fs::write(&path, &bytes).unwrap();
    let answer = place.kvjob(&["list"]);
    refused(&answer, &["kvjob.redb"]);
    assert!(!answer.err.contains("panicked"), "{answer:?}");
}

#[test]
fn a_stale_lock_of_a_killed_kvjob_keeps_nobody_out() {
    let place = Place::new();
    place.write("jobs.jsonl", r#"{"task":"t","payload":0}"#);
    let exec = "touch started; while [ ! -e go ]; do sleep 0.01; done";
    let args = ["run", "jobs.jsonl", "--backoff", "0s", "--exec", exec];
    let child = place.command(&args).spawn().unwrap();
    wait_for("the job", || place.path("started").exists().then_some(()));
    signal(child.id(), "KILL");
    assert_eq!(Answer::from(child).code, None);
    // Its lease is stale, too: the job runs again, and the killed attempt counts.
    fs::write(place.path("go"), "").unwrap();
    place.ok(&args);
    let shown = place.shown("t");
    assert_eq!(shown["job"]["attempts"], 2);
    let reason = shown["history"][2]["reason"].as_str().unwrap();
    assert!(reason.contains("lease"), "{reason}");
}
