//! Steering a worker from outside.

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

impl Stop {
    /// Whether it is not to go on.
    pub(super) fn is_asked(self) -> bool {
        self > Self::No
    }
}

/// Stops a [`Worker`](super::Worker) or changes its size, from anywhere. Clones steer the same
/// one.
#[derive(Clone, Debug)]
pub struct Control {
    stop: watch::Sender<Stop>,
    concurrency: watch::Sender<usize>,
}

impl Control {
    pub(super) fn new(stop: watch::Sender<Stop>, concurrency: watch::Sender<usize>) -> Self {
        Self { stop, concurrency }
    }

    /// Runs this many jobs at a time from now on. If more run, they run to their end. With 0
    /// nothing is claimed until it is resized again.
    pub fn resize(&self, concurrency: usize) {
        self.concurrency.send_replace(concurrency);
    }

    /// How many jobs it may run at a time.
    pub fn concurrency(&self) -> usize {
        *self.concurrency.borrow()
    }

    /// Stop taking jobs, finish and record what runs, and return from
    /// [`run`](super::Worker::run). The tokens of what still runs after the
    /// [shutdown grace](super::Builder::shutdown_grace) fire.
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
