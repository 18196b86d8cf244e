//! `kvjob check`: a look changes nothing, a repair says what it did, and the exit status tells.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::Place;
use kvjob::encoding::tuple::Tuple;
use kvjob::kv::{Object, Scan, Store as _};
use serde_json::Value;

/// The prefix of a space of the key space, by its number.
fn space(number: u64) -> Vec<u8> {
    Tuple::new().string("kvjob").uint(number).finish()
}

const FORMAT: u64 = 1;
const JOB: u64 = 2;
const READY: u64 = 4;
const LOG: u64 = 13;

/// Everything in a space, which `change` may change.
fn raw(place: &Place, number: u64, change: impl Fn(Vec<Object>) -> Vec<Object>) -> Vec<Object> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = format!("redb:{}", place.path("kvjob.redb").display());
        let url: kvjob_any::StoreUrl = url.parse().unwrap();
        let store = url.open().await.unwrap();
        let found = store.scan(Scan::prefix(space(number))).await.unwrap();
        let before = found.objects.clone();
        for object in &before {
            store.remove(object).await.unwrap();
        }
        for object in change(found.objects) {
            store.set(object).await.unwrap();
        }
        store.stop().await.unwrap();
        before
    })
}

fn look(place: &Place, number: u64) -> Vec<Object> {
    raw(place, number, |objects| objects)
}

#[test]
fn a_sound_store_is_said_to_be() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    let answer = place.ok(&["check"]);
    assert!(answer.out.contains("looked at 1 job"), "{answer:?}");
    assert!(answer.out.contains("found nothing wrong"), "{answer:?}");
    let answer = place.ok(&["check", "--repair", "--json"]).lines();
    assert_eq!(
        (&answer[0]["jobs"], &answer[0]["found"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn findings_are_told_and_mended_when_asked() {
    let place = Place::new();
    let id = place.ok(&["enqueue", "t"]).out;
    raw(&place, READY, |_| Vec::new());
    for _ in 0..2 {
        let answer = place.kvjob(&["check"]);
        assert_eq!(answer.code, Some(3), "{answer:?}");
        for part in [
            "not-placed",
            id.trim(),
            "nothing would ever run it",
            "--repair",
        ] {
            assert!(answer.out.contains(part), "{part}: {answer:?}");
        }
    }
    assert!(look(&place, READY).is_empty());
    let lines = place.ok(&["check", "--repair", "--json"]).lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["damage"], "not-placed");
    assert_eq!(lines[0]["job"], id.trim());
    assert_eq!(lines[0]["mended"], true);
    assert_eq!(lines[1]["damages"]["not-placed"], 1);
    let answer = place.fed(&["run", "-", "--exec", "true"], "");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    place.ok(&["check"]);
}

#[test]
fn what_is_left_after_a_repair_is_told_with_its_reason() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    // No key of the quarantine, which says more, is long enough for this one.
    let longest = place.ok(&["backends", "--json"]).lines();
    let longest = longest.iter().find(|one| one["name"] == "redb").unwrap();
    let longest = longest["limits"]["key_bytes"].as_u64().unwrap();
    raw(&place, LOG, |_| {
        let mut key = space(LOG);
        key.resize(usize::try_from(longest).unwrap(), b'x');
        vec![Object::new(key, &b"!"[..])]
    });
    let answer = place.kvjob(&["check", "--repair"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    for part in [
        "unknown-key",
        "left: it is too large",
        "1 finding, none mended",
    ] {
        assert!(answer.out.contains(part), "{part}: {answer:?}");
    }
}

#[test]
fn a_store_that_does_not_open_can_be_mended() {
    let place = Place::new();
    place.ok(&["enqueue", "t"]);
    let spoil = |objects: Vec<Object>| vec![Object::new(objects[0].key.clone(), &b"\x01"[..])];
    raw(&place, FORMAT, spoil);
    let answer = place.kvjob(&["list"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("kvjob check"), "{answer:?}");
    assert_eq!(place.kvjob(&["check"]).code, Some(3));
    let answer = place.ok(&["check", "--repair"]);
    assert!(answer.out.contains("corrupt-format"), "{answer:?}");
    assert_eq!(place.jobs().len(), 1);
}

#[test]
fn a_job_that_cannot_be_read_is_put_aside() {
    let place = Place::new();
    place.ok(&["enqueue", "bad"]);
    place.ok(&["enqueue", "good"]);
    raw(&place, JOB, |mut objects| {
        objects[0].value = b"\x01garbage".to_vec().into();
        objects
    });
    let lines = place.ok(&["check", "--repair", "--json"]).lines();
    assert_eq!(lines[0]["damage"], "corrupt-header");
    assert_eq!(lines[0]["action"], "put aside");
    let stats: Value = place.ok(&["stats", "--json"]).json();
    assert_eq!(
        (&stats["total"], &stats["quarantined"]),
        (&1.into(), &1.into())
    );
    place.ok(&["check"]);
}

#[test]
fn a_check_makes_no_store() {
    let place = Place::new();
    let answer = place.kvjob(&["check", "--repair"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(!place.path("kvjob.redb").exists());
}
