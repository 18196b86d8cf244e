//! A few connections to read with, beside the one that writes. What is read is not known here.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use kvjob::kv::Result;
use rusqlite::Connection;

use crate::Place;
use crate::error::reading;

/// Connections at most. Beyond, whoever wants to read waits for one: reads are short, and each
/// connection keeps files open and a cache.
const READERS: usize = 8;

/// The pool. Connections are opened when they are wanted, and kept.
pub(crate) struct Readers {
    place: Place,
    /// The one last used is at the end. What is `None` has yet to be opened.
    idle: Mutex<Vec<Option<Connection>>>,
    returned: Condvar,
}

impl Readers {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            idle: Mutex::new((0..READERS).map(|_| None).collect()),
            returned: Condvar::new(),
        }
    }

    /// Reads with one of the connections, which sees everything committed so far. Waits for one
    /// while all are in use.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let mut reader = self.take();
        let connection = match &mut reader.connection {
            Some(connection) => connection,
            unopened => unopened.insert(self.open()?),
        };
        read(connection)
    }

    fn take(&self) -> Reader<'_> {
        let mut idle = self.idle();
        loop {
            if let Some(connection) = idle.pop() {
                return Reader {
                    readers: self,
                    connection,
                };
            }
            idle = self
                .returned
                .wait(idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) -> Result<Connection> {
        let connection = self.place.connect().map_err(reading)?;
        let only_reads = connection.pragma_update(None, "query_only", true);
        only_reads.map_err(reading)?;
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Option<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

/// A connection on loan: it goes back however its use ends.
struct Reader<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.readers.idle().push(self.connection.take());
        self.readers.returned.notify_one();
    }
}
