//! What the processes wrote down, each line as it happened: a killed process has written what it
//! wrote before.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use kvjob::clock::{Clock as _, SystemClock, Timestamp};
use kvjob::job::{Job, JobId, Lease};

/// Where a process writes.
pub(crate) struct Journal(File);

/// One lease of a job, as its holder saw it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) begun: Timestamp,
    pub(crate) deadline: Timestamp,
    /// When its holder knew that it had the lease, and when it was about to complete the job.
    pub(crate) known: Timestamp,
    pub(crate) ending: Option<Timestamp>,
    pub(crate) completed: bool,
}

impl Journal {
    pub(crate) fn create(path: &Path) -> Self {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        Self(opened.unwrap())
    }

    pub(crate) fn began(&mut self, lease: &Lease, length: Duration) {
        let deadline = lease.deadline.as_micros();
        let begun = deadline - i64::try_from(length.as_micros()).unwrap();
        self.begin(lease.id, lease.epoch, (begun, deadline));
    }

    /// A handler began. Its lease has been extended since, perhaps.
    pub(crate) fn handler_began(&mut self, job: &Job, lease: Duration) {
        let begun = job.started_at.unwrap();
        let deadline = begun.after(lease).as_micros();
        self.begin(job.id, job.epoch, (begun.as_micros(), deadline));
    }

    fn begin(&mut self, id: JobId, epoch: u64, (begun, deadline): (i64, i64)) {
        let known = SystemClock.now().as_micros();
        self.write(&format!("began {id} {epoch} {begun} {deadline} {known}\n"));
    }

    pub(crate) fn ending(&mut self, id: JobId, epoch: u64) {
        let now = SystemClock.now().as_micros();
        self.write(&format!("ending {id} {epoch} {now}\n"));
    }

    pub(crate) fn completed(&mut self, lease: &Lease) {
        self.write(&format!("completed {} {}\n", lease.id, lease.epoch));
    }

    fn write(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).unwrap();
    }
}

/// Every attempt of every job, by epoch.
pub(crate) type Journals = BTreeMap<JobId, BTreeMap<u64, Attempt>>;

/// What all of them wrote.
pub(crate) fn read(directory: &Path) -> Journals {
    let (mut completed, mut ending) = (Vec::new(), Vec::new());
    let mut attempts = Journals::new();
    for file in fs::read_dir(directory).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (id, epoch) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            if words[0] == "completed" {
                completed.push((id, epoch));
                continue;
            }
            let time = |word: &str| Timestamp::from_micros(word.parse().unwrap());
            if words[0] == "ending" {
                ending.push((id, epoch, time(words[3])));
                continue;
            }
            let attempt = Attempt {
                begun: time(words[3]),
                deadline: time(words[4]),
                known: time(words[5]),
                ending: None,
                completed: false,
            };
            let twice = attempts.entry(id).or_default().insert(epoch, attempt);
            assert!(twice.is_none(), "epoch {epoch} of {id} was given out twice");
        }
    }
    for (id, epoch, at) in ending {
        let attempts = attempts.get_mut(&id).unwrap();
        attempts.get_mut(&epoch).unwrap().ending = Some(at);
    }
    for (id, epoch) in completed {
        let attempts = attempts.get_mut(&id).unwrap();
        attempts.get_mut(&epoch).unwrap().completed = true;
    }
    attempts
}
