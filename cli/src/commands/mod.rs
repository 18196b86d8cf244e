//! The commands, a file each.

mod backends;
mod bulk;
mod by_hand;
mod cancel;
mod check;
mod clear;
mod copy;
mod cron;
mod dump;
mod enqueue;
mod events;
mod history;
mod lanes;
mod list;
mod log;
mod pages;
mod purge;
mod quarantine;
mod queues;
mod restore;
mod retry;
mod run;
mod show;
mod signals;
mod stats;
mod wait;
mod watch;
mod work;

use std::io;
use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::error::{Error, Result};
use crate::exec;

/// Some of what was asked for was not to be had, or some jobs failed.
const NOT_ALL: u8 = 1;

/// What was waited for did not happen in time.
const NOT_IN_TIME: u8 = 4;

/// It was stopped by a signal.
const STOPPED: u8 = 130;

/// Something in the store is still not as it must be.
const NOT_SOUND: u8 = 3;

/// Runs what was asked for.
pub(crate) fn dispatch(args: Args) -> Result<ExitCode> {
    if matches!(args.command, Command::Guard) {
        exec::watch_over(io::stdin().lock());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::caused("could not start", error))?;
    let global = args.global;
    runtime.block_on(async {
        match args.command {
            Command::Run(args) => run::run(&global, args).await,
            Command::Work(args) => work::run(&global, &args).await,
            Command::Watch(args) => watch::run(&global, &args).await,
            Command::Enqueue(args) => enqueue::run(&global, args).await,
            Command::List(args) => list::run(&global, args).await,
            Command::Show(args) => show::run(&global, &args).await,
            Command::History(args) => history::run(&global, args).await,
            Command::Log(args) => log::run(&global, args).await,
            Command::Wait(args) => wait::run(&global, &args).await,
            Command::Stats(_) => stats::run(&global).await,
            Command::Retry(args) => retry::run(&global, &args).await,
            Command::Cancel(args) => cancel::run(&global, &args).await,
            Command::Complete(args) => by_hand::complete(&global, &args).await,
            Command::Fail(args) => by_hand::fail(&global, &args).await,
            Command::Reschedule(args) => by_hand::reschedule(&global, &args).await,
            Command::Remove(args) => by_hand::remove(&global, &args).await,
            Command::Unlock(args) => by_hand::unlock(&global, &args).await,
            Command::Pause(args) => lanes::pause(&global, &args.which).await,
            Command::Resume(args) => lanes::resume(&global, &args.which).await,
            Command::Limit(args) => lanes::limit(&global, &args).await,
            Command::Lanes(args) => lanes::list(&global, &args).await,
            Command::Queues(args) => queues::run(&global, &args).await,
            Command::Purge(args) => purge::run(&global, &args).await,
            Command::Clear(args) => clear::run(&global, &args).await,
            Command::Quarantine(args) => quarantine::run(&global, &args.action).await,
            Command::Check(args) => check::run(&global, &args).await,
            Command::Copy(args) => copy::run(&global, &args).await,
            Command::Dump(args) => dump::run(&global, &args).await,
            Command::Restore(args) => restore::run(&global, &args).await,
            Command::Cron(args) => cron::run(&global, args.action).await,
            Command::Backends(_) => backends::run(&global),
            Command::Guard => Ok(ExitCode::SUCCESS),
        }
    })
}
