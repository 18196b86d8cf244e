//! Hearing that running jobs were canceled, or taken away by hand.
//!
//! Asks the store at every poll while something runs, and sooner when it has seen something
//! happen. Heartbeats tell as well, so that a failure here only delays it.

use std::convert::Infallible;

use super::shared::{Shared, changed};

/// A poll may come early by this factor.
const SOONER: u32 = 8;

/// Fires the tokens of canceled and lost jobs, for as long as it is polled. Sleeps while nothing
/// runs.
pub(super) async fn listen(shared: &Shared) -> Infallible {
    let clock = &shared.clock;
    let mut activity = shared.store.activity();
    loop {
        shared.leases.wait_until_some().await;
        activity.mark_unchanged();
        let mut last = clock.monotonic();
        while shared.leases.earliest().is_some() {
            let soon = last.saturating_add(shared.poll / SOONER);
            tokio::select! {
                biased;
                () = clock.sleep_until(last.saturating_add(shared.poll)) => {}
                () = changed(&mut activity) => clock.sleep_until(soon).await,
            }
            activity.mark_unchanged();
            last = clock.monotonic();
            let leases = shared.leases.living();
            let store = &shared.store;
            let (canceled, over) = futures::join!(store.canceled(), store.lost(&leases));
            match canceled {
                Ok(ids) => shared.leases.cancel(&ids),
                Err(error) => tracing::warn!(%error, "could not ask for canceled jobs"),
            }
            match over {
                Ok(over) => over.iter().for_each(|lease| shared.leases.lose(lease)),
                Err(error) => tracing::warn!(%error, "could not ask for lost leases"),
            }
        }
    }
}
