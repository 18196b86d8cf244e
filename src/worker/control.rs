//! Stopping a worker from outside.

use tokio::sync::watch;

/// Whether a worker is to go on. Grows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    No,
    /// Finish what runs.
    Finish,
    /// Give back what runs.
    Now,
}

/// Stops a [`Worker`](super::Worker), from anywhere. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct Control {
    stop: watch::Sender<Stop>,
}

impl Control {
    pub(super) fn new(stop: watch::Sender<Stop>) -> Self {
        Self { stop }
    }

    /// Stop taking jobs, finish and record what runs, and return from
    /// [`run`](super::Worker::run).
    pub fn stop(&self) {
        self.raise(Stop::Finish);
    }

    /// Fire the tokens of what runs, drop it, give its jobs back (the attempt is not counted) and
    /// return from [`run`](super::Worker::run). Jobs that had ended are recorded.
    pub fn stop_now(&self) {
        self.raise(Stop::Now);
    }

    fn raise(&self, to: Stop) {
        self.stop.send_if_modified(|stop| {
            let higher = to > *stop;
            *stop = to.max(*stop);
            higher
        });
    }
}
