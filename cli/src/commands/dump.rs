//! `kvjob dump`: a job store into a file. A file has its name once it is whole, on disk, and was
//! read back.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kvjob::clock::{Clock as _, SystemClock};
use kvjob::job::{Copied, Namespace, read_dump};
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio::signal::unix::{SignalKind, signal};

use super::STOPPED;
use super::copy::{Progress, summary, tell};
use crate::args::{Dump, Global};
use crate::error::{Error, Result};
use crate::output::{self, Out};
use crate::store::Whole;

/// Bytes that go to the file at once.
const BUFFER: usize = 1 << 20;

pub(super) async fn run(global: &Global, args: &Dump) -> Result<ExitCode> {
    let to_stdout = args.file == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let error = Error::new("a dump is not for reading: standard output is a terminal");
        return Err(error.advice("Name a file, or send it to one with >."));
    }
    if !to_stdout {
        refuse_existing(args)?;
    }
    let mut interrupts = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(deaf)?;
    let from = Whole::open(&global.store).await?;
    let mut progress = Progress::new();
    let dump = async {
        if to_stdout {
            let to = BufWriter::with_capacity(BUFFER, tokio::io::stdout());
            let dumped = from.namespace.dump(to, |at| progress.show(at));
            Ok(dumped.await?)
        } else {
            to_file(&from.namespace, args, &mut progress).await
        }
    };
    // What was written so far is removed where this ends.
    let dumped = tokio::select! {
        dumped = dump => Some(dumped),
        _ = interrupts.recv() => None,
        _ = terminations.recv() => None,
    };
    progress.finish();
    let done = format!("dumped {} to {}", from.url(), args.file.display());
    let closed = from.close().await;
    let Some(dumped) = dumped else {
        output::note("stopped: there is no dump");
        return Ok(ExitCode::from(STOPPED));
    };
    let dumped = dumped?;
    closed?;
    if !to_stdout {
        tell(global, &mut Out::new(), &done, &dumped)?;
    } else if global.json {
        // Standard output has the dump.
        let line = serde_json::to_string(&dumped).map_err(io::Error::from)?;
        eprint(&format!("{line}\n"));
    } else {
        eprint(&summary(&done, &dumped));
    }
    Ok(ExitCode::SUCCESS)
}

fn eprint(text: &str) {
    use std::io::Write as _;
    // If standard error is gone there is nobody to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn deaf(error: io::Error) -> Error {
    Error::caused("could not listen for signals", error)
}

/// Only a file is replaced, and only if that is wanted.
fn refuse_existing(args: &Dump) -> Result<()> {
    let path = args.file.display();
    match fs::metadata(&args.file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::caused(format!("could not look at {path}"), error)),
        Ok(found) if !found.is_file() => {
            let error = Error::new(format!("{path} is not a file, and was left as it is"));
            Err(error.advice("Name a file, or - for standard output."))
        }
        Ok(_) if args.overwrite => Ok(()),
        Ok(_) => {
            let error = Error::new(format!("{path} is there already, and was left as it is"));
            Err(error.advice("Choose another name, or replace it with --overwrite."))
        }
    }
}

async fn to_file(from: &Namespace, args: &Dump, progress: &mut Progress) -> Result<Copied> {
    let failed = |what: &str, error: io::Error| {
        let message = format!("could not {what} the dump {}", args.file.display());
        Error::caused(message, error)
    };
    let part = Part::of(&args.file);
    let file = tokio::fs::File::create_new(&part.path).await;
    let file = file.map_err(|error| failed("make", error))?;
    let mut to = BufWriter::with_capacity(BUFFER, file);
    let dumped = from.dump(&mut to, |at| progress.show(at)).await?;
    to.shutdown()
        .await
        .map_err(|error| failed("write", error))?;
    let file = to.into_inner();
    file.sync_all()
        .await
        .map_err(|error| failed("sync", error))?;
    drop(file);
    let file = tokio::fs::File::open(&part.path).await;
    let file = file.map_err(|error| failed("read back", error))?;
    let written = read_dump(file, |_| {}).await?;
    if written.digest != dumped.digest {
        let message = "what was read back from the dump is not what was written: there is no dump";
        return Err(Error::new(message));
    }
    refuse_existing(args)?;
    part.finish(&args.file)
        .map_err(|error| failed("name", error))?;
    Ok(dumped)
}

/// A file that is being written, beside the one it will be. Dropped, it is removed.
struct Part {
    path: PathBuf,
}

impl Part {
    fn of(file: &Path) -> Self {
        let mut path = OsString::from(file);
        path.push(format!(".{:016x}.part", SystemClock.random()));
        Self { path: path.into() }
    }

    /// Gives it its name, and notes that on disk.
    fn finish(self, file: &Path) -> io::Result<()> {
        fs::rename(&self.path, file)?;
        let parent = file.parent().filter(|parent| *parent != Path::new(""));
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After it has its name there is none; else nobody can do more about it.
        let _ = fs::remove_file(&self.path);
    }
}
