//! The conformance suite and the model test on stores that are reached through a socket, with one
//! value a key and as a bag.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use kvjob::kv::{Memory, Store as _};
use kvjob::testkit::Factory;
use kvjob_socket::{Remote, Socket};
use tempfile::TempDir;

struct Held {
    directory: TempDir,
    new: fn() -> Memory,
    sockets: Mutex<Vec<Socket>>,
}

fn held(new: fn() -> Memory) -> Held {
    Held {
        directory: tempfile::tempdir().unwrap(),
        new,
        sockets: Mutex::default(),
    }
}

impl Held {
    fn path(&self, number: usize) -> std::path::PathBuf {
        self.directory.path().join(format!("{number}.sock"))
    }

    async fn connect(&self) -> Remote {
        let last = self.sockets.lock().unwrap().len() - 1;
        let remote = Remote::connect(self.path(last)).await.unwrap();
        remote.unwrap()
    }
}

impl Factory for Held {
    type Store = Remote;

    async fn open(&self) -> Remote {
        {
            let mut sockets = self.sockets.lock().unwrap();
            let path = self.path(sockets.len());
            sockets.push(Socket::listen(Arc::new((self.new)()), path).unwrap());
        }
        self.connect().await
    }

    async fn reopen(&self, store: Remote) -> Option<Remote> {
        store.stop().await.unwrap();
        Some(self.connect().await)
    }
}

mod unique {
    use super::*;
    kvjob::testkit::conformance!(held(Memory::new));
}

mod bag {
    use super::*;
    kvjob::testkit::conformance!(held(Memory::bag));
}
