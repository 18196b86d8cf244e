//! Keeping leases alive: all of them together, at every third of the lease.
//!
//! After a failure it is tried again after a twelfth, so that a short outage costs no job. Whose
//! deadline comes without an answer is given up: another worker may have the job by then.

use std::convert::Infallible;
use std::time::Duration;

use super::Event;
use super::shared::Shared;
use crate::job::{Beat, Lease, Result};

/// Looks after the worker's leases for as long as it is polled. Sleeps while there are none.
pub(super) async fn keep(shared: &Shared) -> Infallible {
    let clock = &shared.clock;
    loop {
        shared.leases.wait_until_some().await;
        let mut next = clock.monotonic().saturating_add(shared.lease / 3);
        while let Some(earliest) = shared.leases.earliest() {
            clock.sleep_until(next.min(earliest)).await;
            shared.leases.lapse(clock.monotonic());
            if clock.monotonic() >= next {
                next = beat(shared).await;
            }
        }
    }
}

/// Extends the leases, and says when to do it again.
async fn beat(shared: &Shared) -> Duration {
    let asked = shared.clock.monotonic();
    let next = asked.saturating_add(shared.lease / 3);
    let leases = shared.leases.living();
    if leases.is_empty() {
        return next;
    }
    match answer(shared, &leases, next).await {
        Some(Ok(beats)) => {
            let deadline = asked.saturating_add(shared.lease);
            for (lease, beat) in leases.iter().zip(&beats) {
                shared.leases.note(lease, beat, deadline);
            }
            next
        }
        Some(Err(error)) => {
            failed(shared, &error.to_string());
            let now = shared.clock.monotonic();
            now.saturating_add(shared.lease / 12)
        }
        None => {
            failed(shared, "the store did not answer in time");
            shared.clock.monotonic()
        }
    }
}

/// What the store says, if it says so before `limit`. Meanwhile the leases that end are given up.
async fn answer(shared: &Shared, leases: &[Lease], limit: Duration) -> Option<Result<Vec<Beat>>> {
    let mut answer = shared.store.heartbeat(leases, shared.lease);
    loop {
        let earliest = shared.leases.earliest().unwrap_or(limit);
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = shared.clock.sleep_until(limit.min(earliest)) => {
                let now = shared.clock.monotonic();
                shared.leases.lapse(now);
                if now >= limit {
                    return None;
                }
            }
        }
    }
}

fn failed(shared: &Shared, error: &str) {
    tracing::warn!(error, "could not extend the leases of running jobs");
    shared.emit(|| Event::HeartbeatFailed {
        error: error.to_owned(),
    });
}
