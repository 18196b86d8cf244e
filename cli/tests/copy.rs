//! `kvjob copy`, `dump` and `restore`: what comes out is what went in, also after kills, and what
//! is refused costs nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::time::Instant;

use common::{Answer, Place, signal, wait_for};
use kvjob::job::{KvStore, NewJob, Options, QueueStore as _, Store as _};
use kvjob::kv::Store as _;
use serde_json::Value;

/// A place with a store of some jobs, one of them failed, with its log, and one put aside.
fn filled() -> Place {
    let place = Place::new();
    place.write(
        "jobs.jsonl",
        "{\"task\":\"good\",\"payload\":1}\n{\"task\":\"bad\",\"payload\":2}\n",
    );
    let exec = "echo said; [ $KVJOB_TASK = good ]";
    let run = [
        "run",
        "jobs.jsonl",
        "--exec",
        exec,
        "--max-attempts",
        "2",
        "--backoff",
        "1ms",
    ];
    assert_eq!(place.kvjob(&run).code, Some(1));
    place.ok(&["enqueue", "later", "--in", "2h", "--key", "k"]);
    place.ok(&["enqueue", "now", &format!("\"{}\"", "x".repeat(2_000))]);
    place
}

/// All that a store says of its jobs.
fn said(place: &Place, store: &str) -> Vec<Value> {
    let jobs = place.ok(&["list", "--all", "--json", "--store", store]);
    let show = |job: Value| {
        let id = job["id"].as_str().unwrap().to_owned();
        place.ok(&["show", &id, "--json", "--store", store]).json()
    };
    jobs.lines().into_iter().map(show).collect()
}

fn is_sound(place: &Place, store: &str) {
    let checked = place.ok(&["check", "--store", store]);
    assert!(checked.out.contains("found nothing wrong"), "{checked:?}");
}

/// Fails with status 2 and says all of this, on standard error only.
fn refused(answer: &Answer, parts: &[&str]) {
    assert_eq!((answer.code, &*answer.out), (Some(2), ""), "{answer:?}");
    for part in parts {
        assert!(answer.err.contains(part), "{part}: {answer:?}");
    }
}

fn digest(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.strip_prefix("digest: "));
    line.unwrap_or_else(|| panic!("no digest: {text}"))
}

#[test]
fn a_copy_a_dump_and_what_is_restored_are_the_same() {
    let place = filled();
    let source = "redb:kvjob.redb";
    let other = "redb:copy.redb?namespace=other";
    let copied = place.ok(&["copy", "--from", source, "--to", other]);
    assert!(copied.out.contains("4 jobs"), "{copied:?}");
    let dumped = place.ok(&["dump", "jobs.kvjob", "--store", other]);
    let restored = place.ok(&["restore", "jobs.kvjob", "--store", "redb:restored.redb"]);
    assert_eq!(digest(&copied.out), digest(&dumped.out));
    assert_eq!(digest(&copied.out), digest(&restored.out));
    for store in [other, "redb:restored.redb"] {
        assert_eq!(said(&place, store), said(&place, source));
        is_sound(&place, store);
    }
    // What becomes of the copy does not concern the source.
    place.ok(&["retry", "--all", "--store", other]);
    assert_ne!(said(&place, other), said(&place, source));
    let leftovers = fs::read_dir(place.path("")).unwrap();
    let mut names = leftovers.map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| !name.to_string_lossy().contains(".part")));
}

#[test]
fn with_json_one_object_says_what_was_copied() {
    let place = filled();
    let args = [
        "copy",
        "--from",
        "redb:kvjob.redb",
        "--to",
        "redb:x",
        "--json",
    ];
    let copied = place.ok(&args).json();
    assert_eq!(
        (&copied["jobs"], &copied["removed"]),
        (&4.into(), &0.into())
    );
    assert_eq!(copied["written"], copied["records"]);
    assert_eq!(copied["digest"].as_str().unwrap().len(), 64);
    let dumped = place.ok(&["dump", "x.kvjob", "--json"]).json();
    let restore = ["restore", "x.kvjob", "--json", "--store", "redb:y"];
    let restored = place.ok(&restore).json();
    for other in [dumped, restored] {
        assert_eq!(other, copied);
    }
}

#[test]
fn a_dump_goes_through_a_pipe() {
    let place = filled();
    let mut pipe = place.program("sh");
    let script = "\"$KVJOB\" dump - | cat | \"$KVJOB\" restore - --store redb:piped.redb";
    pipe.args(["-c", script]);
    let piped = Answer::of(pipe);
    assert_eq!(piped.code, Some(0), "{piped:?}");
    // One says it beside the dump.
    assert_eq!(digest(&piped.out), digest(&piped.err));
    assert_eq!(
        said(&place, "redb:piped.redb"),
        said(&place, "redb:kvjob.redb")
    );
}

#[test]
fn what_is_there_is_kept_unless_it_may_be_overwritten() {
    let place = filled();
    place.ok(&["enqueue", "mine", "--store", "redb:mine.redb"]);
    place.ok(&["dump", "jobs.kvjob"]);
    let mine = said(&place, "redb:mine.redb");
    let copy = [
        "copy",
        "--from",
        "redb:kvjob.redb",
        "--to",
        "redb:mine.redb",
    ];
    let restore = ["restore", "jobs.kvjob", "--store", "redb:mine.redb"];
    for args in [&copy[..], &restore] {
        let answer = place.kvjob(args);
        refused(&answer, &["not empty", "--overwrite", "kvjob dump"]);
        assert_eq!(said(&place, "redb:mine.redb"), mine);
    }
    let before = fs::read(place.path("jobs.kvjob")).unwrap();
    let answer = place.kvjob(&["dump", "jobs.kvjob"]);
    refused(&answer, &["jobs.kvjob is there already", "--overwrite"]);
    assert_eq!(fs::read(place.path("jobs.kvjob")).unwrap(), before);
    refused(&place.kvjob(&["dump", "."]), &["not a file"]);
    place.ok(&["dump", "jobs.kvjob", "--overwrite"]);

    let copied = place.ok(&[&copy[..], &["--overwrite"]].concat());
    assert!(copied.out.contains("2 removed"), "{copied:?}");
    assert_eq!(
        said(&place, "redb:mine.redb"),
        said(&place, "redb:kvjob.redb")
    );
    // Again, with what has changed since.
    place.ok(&["enqueue", "another"]);
    let copied = place.ok(&[&copy[..], &["--overwrite"]].concat());
    assert!(
        copied.out.contains("3 written, 0 removed"),
        "a header, an entry, and the format: {copied:?}"
    );
    place.ok(&[&restore[..], &["--overwrite"]].concat());
    is_sound(&place, "redb:mine.redb");
}

#[test]
fn a_namespace_is_copied_within_its_store_but_not_onto_itself() {
    let place = filled();
    let source = "redb:kvjob.redb";
    let link = place.path("link.redb");
    std::os::unix::fs::symlink(place.path("kvjob.redb"), link).unwrap();
    for same in [
        source,
        "redb:./kvjob.redb?namespace=kvjob",
        "redb:link.redb",
    ] {
        let args = ["copy", "--from", source, "--to", same, "--overwrite"];
        refused(&place.kvjob(&args), &["the same job store"]);
    }
    let within = "redb:./kvjob.redb?namespace=b";
    place.ok(&["copy", "--from", source, "--to", within]);
    assert_eq!(said(&place, within), said(&place, source));
}

#[test]
fn a_source_or_a_dump_that_is_no_good_is_said_and_makes_nothing() {
    let place = filled();
    let copy = |from| place.kvjob(&["copy", "--from", from, "--to", "redb:new.redb"]);
    refused(&copy("redb:none.redb"), &["there is no store at none.redb"]);
    refused(&copy("nosuch:x"), &["there is no backend", "redb:PATH"]);
    assert!(!place.path("new.redb").exists());
    let wrong = "redb:kvjob.redb?namespace=shop";
    refused(&copy(wrong), &["no job store in namespace \"shop\""]);
    refused(
        &place.kvjob(&["dump", "x.kvjob", "--store", wrong]),
        &["no job store in namespace \"shop\""],
    );
    refused(
        &place.kvjob(&["dump", "none/x.kvjob"]),
        &["could not make the dump none/x.kvjob"],
    );

    place.ok(&["dump", "good"]);
    let good = fs::read(place.path("good")).unwrap();
    place.write("cut", &good[..good.len() / 2]);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    place.write("damaged", damaged);
    let mut newer = good.clone();
    newer[11] = 9;
    place.write("newer", newer);
    place.write("diary", "Dear diary, today I did not feel like a dump.");
    place.write("empty", "");
    for (file, why) in [
        ("cut", "is cut off"),
        ("damaged", "is damaged: bytes 12 to"),
        ("newer", "version 9"),
        ("diary", "no dump of kvjob"),
        ("empty", "it is empty"),
        ("none", "No such file"),
        (".", "directory"),
    ] {
        let answer = place.kvjob(&["restore", file, "--store", "redb:made.redb"]);
        refused(&answer, &[file, why]);
        assert!(!place.path("made.redb").exists(), "{file}");
    }
}

#[test]
fn a_store_that_is_worked_off_is_copied_and_dumped_and_nothing_is_copied_into_it() {
    let place = filled();
    // Jobs of its own: a run that finds all of its jobs done need not begin any other.
    place.write("more.jsonl", "{\"task\":\"good\",\"payload\":3}\n");
    let exec = "touch started; while [ ! -e go ]; do sleep 0.01; done";
    let args = ["run", "more.jsonl", "--exec", exec];
    let child = place.command(&args).spawn().unwrap();
    wait_for("the job", || place.path("started").exists().then_some(()));
    place.ok(&["copy", "--from", "redb:kvjob.redb", "--to", "redb:b.redb"]);
    place.ok(&["dump", "x"]);
    let copied = place.ok(&["list", "--json", "--all", "--store", "redb:b.redb"]);
    assert_eq!(copied.lines().len(), place.jobs().len());
    let back = ["copy", "--from", "redb:b.redb", "--to", "redb:kvjob.redb"];
    refused(&place.kvjob(&back), &["kvjob.redb", "in use"]);
    let restore = ["restore", "x", "--overwrite"];
    refused(&place.kvjob(&restore), &["kvjob.redb", "in use"]);
    fs::write(place.path("go"), "").unwrap();
    assert!(matches!(Answer::from(child).code, Some(0 | 1)));
}

/// A store of many jobs, which takes a while to copy.
fn many(place: &Place, jobs: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = place.path("kvjob.redb");
    let url = format!("redb:{}?durability=memory", path.display());
    runtime.block_on(async {
        let below = kvjob_any::open(&url);
        let below = below.await.unwrap();
        let store = KvStore::open(below.clone(), Options::default());
        let store = store.await.unwrap();
        let payload = "x".repeat(1_500);
        for _ in 0..jobs / 100 {
            let batch = (0..100).map(|_| NewJob::new("t", &payload).unwrap());
            store.enqueue_many(batch.collect()).await.unwrap();
        }
        store.stop().await.unwrap();
        below.stop().await.unwrap();
    });
}

#[test]
fn a_copy_that_is_killed_again_and_again_goes_on_and_is_complete_in_the_end() {
    let place = Place::new();
    many(&place, 2_500);
    let args = ["copy", "--from", "redb:kvjob.redb", "--to", "redb:b.redb"];
    let begun = Instant::now();
    place.ok(&[
        "copy",
        "--from",
        "redb:kvjob.redb",
        "--to",
        "redb:whole.redb",
    ]);
    let whole = begun.elapsed();
    let (mut unfinished, mut went_on) = (0, false);
    for part in 1..=12 {
        let mut child = place.command(&args).spawn().unwrap();
        std::thread::sleep(whole * part / 14);
        child.kill().unwrap();
        let answer = Answer::from(child);
        assert!(!answer.err.contains("panicked"), "{answer:?}");
        if answer.code == Some(0) {
            went_on = true;
            break;
        }
        // What is there is either nothing, or no job store, or all of it.
        let list = place.kvjob(&["stats", "--store", "redb:b.redb", "--json"]);
        match list.code {
            Some(2) if list.err.contains("there is no store") => {}
            Some(2) => {
                refused(&list, &["was not finished", "kvjob copy"]);
                unfinished += 1;
            }
            _ if list.json()["total"] == 0 => {}
            _ => {
                assert_eq!(list.json()["total"], 2_500);
                went_on = true;
                break;
            }
        }
    }
    assert!(unfinished > 0, "no kill hit a copy under way");
    if !went_on {
        place.ok(&args);
    }
    is_sound(&place, "redb:b.redb");
    let mut digests = Vec::new();
    for (store, file) in [("redb:kvjob.redb", "a"), ("redb:b.redb", "b")] {
        let dumped = place.ok(&["dump", file, "--store", store]);
        digests.push(digest(&dumped.out).to_owned());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_dump_that_is_stopped_leaves_nothing_behind() {
    let place = Place::new();
    many(&place, 2_500);
    let child = place.command(&["dump", "jobs.kvjob"]).spawn().unwrap();
    let is_part = |name: &str| {
        let path = std::path::Path::new(name);
        path.extension()
            .is_some_and(|extension| extension == "part")
    };
    let parts = || {
        let entries = fs::read_dir(place.path("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        let mut names = names.map(|name| name.to_string_lossy().into_owned());
        names.any(|name| is_part(&name))
    };
    wait_for("the dump", || parts().then_some(()));
    signal(child.id(), "INT");
    let answer = Answer::from(child);
    assert!(!parts());
    // It may have been done just before.
    assert_eq!(
        place.path("jobs.kvjob").exists(),
        answer.code == Some(0),
        "{answer:?}"
    );
    assert!(matches!(answer.code, Some(0 | 130)), "{answer:?}");
}
