//! A server: what its adapter asks of it for the same changes without conditions, one request a
//! commit.

use std::sync::Arc;

use kvjob::kv::{self, Change, Durability};
use tokio::runtime::Handle;

use super::{Engine, Write};
use crate::Result;
use crate::stores::{Backend, Home};

pub(super) struct Raw {
    store: Arc<dyn kv::Store>,
    runtime: Handle,
    _home: Home,
}

impl Raw {
    /// On a blocking thread of a runtime.
    pub(super) fn open(backend: Backend, durability: Durability) -> Result<Self> {
        let (home, runtime) = (backend.home()?, Handle::current());
        let store = runtime.block_on(backend.store(&home, durability))?;
        Ok(Self {
            store,
            runtime,
            _home: home,
        })
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let atomic = self.store.atomic().ok_or("it has no commits")?;
        for part in writes.chunks(self.store.limits().commit_changes) {
            let changes = part.iter().map(|(key, value)| match value {
                Some(value) => Change::put(key.clone(), value.clone()),
                None => Change::remove(key.clone()),
            });
            self.runtime.block_on(atomic.commit(changes.collect()))?;
        }
        Ok(())
    }
}
