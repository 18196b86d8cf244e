//! The signals by which a process is asked to end.

use std::convert::Infallible;
use std::io;

use super::control::Control;
use super::shared::Shared;

/// Stops the worker at the first signal, at once at the second, for as long as it is polled.
pub(super) async fn listen(shared: &Shared) -> Infallible {
    if shared.handle_signals {
        let control = Control::new(shared.stop.clone(), shared.concurrency.clone());
        let Err(error) = obey(&control).await;
        tracing::warn!(%error, "cannot listen to signals");
    }
    std::future::pending().await
}

async fn obey(control: &Control) -> io::Result<Infallible> {
    let mut signals = Signals::new()?;
    // It counts what was heard here: the program, too, may stop the worker at the first one.
    signals.next().await?;
    tracing::info!("asked to end by a signal: finishing what runs");
    control.stop();
    loop {
        signals.next().await?;
        tracing::info!("asked to end by another signal: giving back what runs");
        control.stop_now();
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> io::Result<()> {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        Ok(())
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps)] // As on Unix.
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> io::Result<()> {
        tokio::signal::ctrl_c().await
    }
}
