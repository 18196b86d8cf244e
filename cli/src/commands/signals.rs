//! Ctrl-C and SIGTERM: once to finish what runs, twice to give it back, thrice to leave.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvjob::worker::Control;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::STOPPED;
use crate::error::{Error, Result};

/// Listens until the command ends.
pub(super) struct Signals {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    came: AtomicU32,
    /// At the first one.
    stopping: CancellationToken,
    control: Mutex<Option<Control>>,
}

impl Shared {
    /// Tells the worker, if there is one, how often we were asked to stop.
    fn pass_on(&self) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = control.as_ref() {
            match self.came.load(Ordering::SeqCst) {
                0 => {}
                1 => control.stop(),
                _ => control.stop_now(),
            }
        }
    }
}

impl Signals {
    /// Tells with `note` what is done about each signal.
    pub(super) fn listen(note: impl Fn(&str) + Send + Sync + 'static) -> Result<Self> {
        let cannot = |error| Error::caused("could not listen for signals", error);
        let mut interrupts = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(cannot)?;
        let shared = Arc::new(Shared::default());
        let heard = shared.clone();
        tokio::spawn(async move {
            loop {
                let came = tokio::select! {
                    came = interrupts.recv() => came,
                    came = terminations.recv() => came,
                };
                if came.is_none() {
                    return;
                }
                match heard.came.fetch_add(1, Ordering::SeqCst) {
                    0 => note(
                        "stopping: what runs is finished first; once more kills it and gives it back",
                    ),
                    1 => note("stopping now: what runs is killed and given back"),
                    // Something hangs. The guard kills what runs, and the leases run out.
                    _ => std::process::exit(STOPPED.into()),
                }
                heard.stopping.cancel();
                heard.pass_on();
            }
        });
        Ok(Self { shared })
    }

    /// What is stopped by a signal, also by one that came before.
    pub(super) fn stops(&self, control: &Control) {
        let mut place = self
            .shared
            .control
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(control.clone());
        drop(place);
        self.shared.pass_on();
    }

    /// Cancelled by the first signal.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.shared.stopping.clone()
    }

    /// Whether a signal came.
    pub(super) fn stopped(&self) -> bool {
        self.shared.came.load(Ordering::SeqCst) > 0
    }
}
