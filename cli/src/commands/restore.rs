//! `kvjob restore`: a job store out of a file.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::path::Path;
use std::process::ExitCode;

use kvjob::job::{self, read_dump};
use tokio::io::AsyncRead;

use super::copy::{Progress, existing, tell};
use crate::args::{Global, Restore};
use crate::error::{Error, Result};
use crate::output::Out;
use crate::store::Whole;

pub(super) async fn run(global: &Global, args: &Restore) -> Result<ExitCode> {
    let mut progress = Progress::new();
    let dump = Dump::open(&args.file)?;
    // One that is no good makes no store.
    if let Dump::File(file) = &dump
        && !Whole::is_there(&global.store)?
    {
        let mut again = file;
        let reader = tokio::fs::File::from_std(file.try_clone().map_err(unreadable(args))?);
        let read = read_dump(reader, |at| progress.show(at)).await;
        read.map_err(|error| cannot(args, &error))?;
        again.seek(SeekFrom::Start(0)).map_err(unreadable(args))?;
    }
    let to = Whole::open_to_fill(&global.store).await?;
    let existing = existing(args.overwrite);
    let restored = match dump {
        Dump::File(file) => {
            let file = tokio::fs::File::from_std(file);
            let restored = to.namespace.restore(file, existing, |at| progress.show(at));
            restored.await
        }
        Dump::Stream(stream) => {
            let restored = to
                .namespace
                .restore_stream(stream, existing, |at| progress.show(at));
            restored.await
        }
    };
    progress.finish();
    let done = format!("restored {} to {}", args.file.display(), to.url());
    let closed = to.close().await;
    let restored = restored.map_err(|error| cannot(args, &error))?;
    closed?;
    let mut out = Out::new();
    tell(global, &mut out, &done, &restored)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the dump comes from.
enum Dump {
    /// It can be read again.
    File(File),
    /// A pipe, such as standard input.
    Stream(Box<dyn AsyncRead + Unpin + Send>),
}

impl Dump {
    fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stream(Box::new(tokio::io::stdin())));
        }
        let refused =
            |error| Error::caused(format!("could not open the dump {}", path.display()), error);
        let file = File::open(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        if metadata.is_dir() {
            let message = format!("the dump {} is a directory", path.display());
            return Err(Error::new(message));
        }
        Ok(if metadata.is_file() {
            Self::File(file)
        } else {
            Self::Stream(Box::new(tokio::fs::File::from_std(file)))
        })
    }
}

fn unreadable(args: &Restore) -> impl Fn(std::io::Error) -> Error {
    let message = format!("could not read the dump {}", args.file.display());
    move |error| Error::caused(message.clone(), error)
}

fn cannot(args: &Restore, error: &job::Error) -> Error {
    let message = format!("could not restore {}", args.file.display());
    Error::caused(message, error.clone()).advised(error)
}
