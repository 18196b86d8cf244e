//! The facade for programs without async, on a store that is kept on disk.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use kvjob::blocking::Jobs;
use kvjob::job::{NewJob, Options, State};

#[test]
fn a_store_can_be_opened_again_as_soon_as_it_was_dropped() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("jobs.redb");
    let open = || {
        let store = Arc::new(kvjob_redb::open(&path).unwrap());
        Jobs::open(store, Options::default()).unwrap()
    };
    let id = open()
        .enqueue(NewJob::new("greet", "Ada").unwrap())
        .unwrap();
    let id = id.job.id;
    for _ in 0..20 {
        assert_eq!(open().get(id).unwrap().unwrap().state, State::Ready);
    }
}
