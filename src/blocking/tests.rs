//! The promises of the facade.

use std::collections::BTreeMap;

use super::*;
use crate::job::{Level, LogQuery, LogStore as _, State};
use crate::kv::Memory;
use crate::worker::Json;

const LONG: Duration = Duration::from_secs(60);

fn open() -> Jobs {
    Jobs::open(Arc::new(Memory::new()), Options::default()).unwrap()
}

fn new(task: &str) -> NewJob {
    NewJob::new(task, &()).unwrap().max_attempts(1)
}

fn code<T>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Invalid { code, .. }) => code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it should have been refused"),
    }
}

#[test]
fn a_plain_function_runs_a_job_and_its_answer_is_the_result() {
    let jobs = open();
    let id = jobs.enqueue(new("count")).unwrap().job.id;
    let count = handler(|context: &Context| Json(context.job().attempts));
    let worker = jobs.worker().handler("count", count).build().unwrap();
    jobs.run_once(worker).unwrap();
    assert_eq!(jobs.wait(id, LONG).unwrap().value::<u32>().unwrap(), 1);
    let job = jobs.get(id).unwrap().unwrap();
    assert_eq!(job.state, State::Completed);
}

#[test]
fn functions_that_block_run_beside_each_other_and_beside_who_waits() {
    let jobs = open();
    let meeting = Arc::new(std::sync::Barrier::new(3));
    let there = Arc::clone(&meeting);
    let meet = handler(move |_: &Context| {
        there.wait();
    });
    let ids: Vec<JobId> = (0..2)
        .map(|_| jobs.enqueue(new("meet")).unwrap().job.id)
        .collect();
    let worker = jobs.worker().concurrency(2).handler("meet", meet);
    let worker = worker.handle_signals(false).build().unwrap();
    let control = worker.control();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| jobs.run(worker));
        meeting.wait();
        for id in ids {
            let ended = jobs.wait(id, LONG).unwrap();
            assert_eq!(ended.state, State::Completed);
        }
        control.stop();
        working.join().unwrap().unwrap();
    });
}

fn print(_: &Context) {
    panic!("no paper")
}

#[test]
fn a_function_that_panics_is_a_failed_attempt() {
    let jobs = open();
    let id = jobs.enqueue(new("print")).unwrap().job.id;
    let worker = jobs.worker().handler("print", handler(print));
    jobs.run_once(worker.build().unwrap()).unwrap();
    let job = jobs.get(id).unwrap().unwrap();
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.last_error.as_deref(), Some("panicked: no paper"));
}

#[test]
fn a_function_may_add_jobs_and_write_to_its_log() {
    let jobs = open();
    let id = jobs.enqueue(new("parent")).unwrap().job.id;
    let inside = jobs.clone();
    let parent = handler(move |context: &Context| {
        inside.block_on(context.log(Level::Info, "adds a child"))??;
        inside.enqueue(new("child")).map(drop)
    });
    let child = handler(|_: &Context| {});
    let worker = jobs.worker().handler("parent", parent);
    let worker = worker.handler("child", child).build().unwrap();
    jobs.run_once(worker).unwrap();
    let log = jobs.block_on(jobs.store().logs(&LogQuery::new(id)));
    assert_eq!(log.unwrap().unwrap().items.len(), 1);
    let stats = jobs.block_on(jobs.store().stats()).unwrap().unwrap();
    assert_eq!(stats.states[&State::Completed], 2);
}

#[test]
fn in_async_code_all_of_it_is_an_error_and_no_panic() {
    let jobs = open();
    let inside = jobs.clone();
    let refused = jobs.block_on(async move {
        let refused = code(inside.enqueue(new("never")));
        let memory = Arc::new(Memory::new());
        assert_eq!(code(Jobs::open(memory, Options::default())), refused);
        assert_eq!(code(inside.wait(JobId::from_bytes([7; 16]), LONG)), refused);
        assert_eq!(code(inside.block_on(async {})), refused);
        refused
    });
    assert_eq!(refused.unwrap(), "inside-runtime");
}

#[test]
fn in_an_async_handler_it_is_an_error_too() {
    let jobs = open();
    let id = jobs.enqueue(new("async")).unwrap().job.id;
    let inside = jobs.clone();
    let worker = jobs.worker().handler("async", move |_: Context| {
        let added = inside.enqueue(new("child")).map(drop);
        async { added }
    });
    jobs.run_once(worker.build().unwrap()).unwrap();
    let error = jobs.get(id).unwrap().unwrap().last_error.unwrap();
    assert!(error.ends_with("[inside-runtime]"), "{error}");
}

#[test]
fn async_code_inside_of_a_plain_function_may_not_block_either() {
    let jobs = open();
    let id = jobs.enqueue(new("plain")).unwrap().job.id;
    let inside = jobs.clone();
    let plain = handler(move |_: &Context| {
        let refused = inside.block_on(async { inside.enqueue(new("child")) });
        assert_eq!(code(refused?), "inside-runtime");
        inside.enqueue(new("child")).map(drop)
    });
    let worker = jobs.worker().handler("plain", plain).build().unwrap();
    jobs.run_once(worker).unwrap();
    assert_eq!(jobs.get(id).unwrap().unwrap().last_error, None);
}

#[test]
fn it_may_be_dropped_in_async_code() {
    let (jobs, outside) = (open(), open());
    outside.block_on(async { drop(jobs) }).unwrap();
}

#[test]
fn what_was_logged_is_stored_when_it_is_dropped() {
    let memory: Arc<dyn kv::Store> = Arc::new(Memory::new());
    let open = || Jobs::open(Arc::clone(&memory), Options::default()).unwrap();
    let jobs = open();
    let id = jobs.enqueue(new("quiet")).unwrap().job.id;
    let line = jobs
        .store()
        .log(id, Level::Info, "bye".to_owned(), BTreeMap::new());
    jobs.block_on(line).unwrap().unwrap();
    drop(jobs);
    let jobs = open();
    let log = jobs.block_on(jobs.store().logs(&LogQuery::new(id)));
    assert_eq!(log.unwrap().unwrap().items.len(), 1);
}
