//! Reading the file, in a thread of its own: standard input may be silent for as long as it
//! likes.

use std::fs::File;
use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::jobs_file::{Batches, Line};

/// How many batches are read ahead.
const AHEAD: usize = 2;

/// A file that is being read.
pub(super) struct Read {
    /// What messages call it.
    pub(super) name: String,
    pub(super) batches: mpsc::Receiver<io::Result<Vec<Line>>>,
}

/// Opens a file, or standard input for `-`, and begins to read.
pub(super) fn start(path: &Path) -> Result<Read> {
    let (to, batches) = mpsc::channel(AHEAD);
    let stdin = path == Path::new("-");
    let name = if stdin {
        "standard input".into()
    } else {
        path.display().to_string()
    };
    let cannot = |error| Error::caused(format!("could not read {name}"), error);
    let input: Box<dyn io::Read + Send> = if stdin {
        Box::new(io::stdin())
    } else {
        let file = File::open(path).map_err(cannot)?;
        if file.metadata().map_err(cannot)?.is_dir() {
            return Err(cannot(io::ErrorKind::IsADirectory.into()));
        }
        Box::new(file)
    };
    // Nobody waits for it: it may be blocked for ever.
    std::thread::Builder::new()
        .name("kvjob-lines".to_owned())
        .spawn(move || {
            let mut reader = Batches::new(input);
            loop {
                match reader.next_batch() {
                    Ok(lines) if lines.is_empty() => return,
                    batch => {
                        let last = batch.is_err();
                        if to.blocking_send(batch).is_err() || last {
                            return;
                        }
                    }
                }
            }
        })
        .map_err(cannot)?;
    Ok(Read { name, batches })
}
