//! The raw engines: one writer, the same changes in phases, in the same batch sizes. One file an
//! engine.

mod fjall;
#[cfg(feature = "full")]
mod lmdb;
mod memory;
mod redb;
#[cfg(feature = "servers")]
mod redis;
#[cfg(feature = "full")]
mod rocksdb;
#[cfg(feature = "servers")]
mod server;
mod sled;
#[cfg(feature = "full")]
mod sqlite;

use std::time::Instant;

use kvjob::kv::Durability;
use tempfile::TempDir;

use crate::shape::Shape;
use crate::stores::Backend;
use crate::{Phases, Result};

/// A bare engine.
trait Engine {
    /// Applies writes as one, durably.
    fn apply(&mut self, writes: &[Write]) -> Result<()>;
}

/// A key and its new value; `None` removes it.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// Makes the changes of so many jobs, `batch` of them a commit.
pub(crate) fn round(
    backend: Backend,
    durability: Durability,
    batch: usize,
    jobs: usize,
    shape: &Shape,
) -> Result<Phases> {
    let folder = TempDir::new()?;
    let mut engine: Box<dyn Engine> = match backend {
        Backend::Memory => Box::new(memory::Raw::default()),
        Backend::Redb => Box::new(redb::Raw::open(
            &folder.path().join("raw.redb"),
            durability,
        )?),
        Backend::Fjall => Box::new(fjall::Raw::open(&folder.path().join("raw"), durability)?),
        Backend::Sled => Box::new(sled::Raw::open(
            &folder.path().join("raw.sled"),
            durability,
        )?),
        #[cfg(feature = "full")]
        Backend::Sqlite => Box::new(sqlite::Raw::open(
            &folder.path().join("raw.db"),
            durability,
        )?),
        #[cfg(feature = "full")]
        Backend::Lmdb => Box::new(lmdb::Raw::open(
            &folder.path().join("raw.lmdb"),
            durability,
        )?),
        #[cfg(feature = "full")]
        Backend::Rocksdb => Box::new(rocksdb::Raw::open(
            &folder.path().join("raw.rocksdb"),
            durability,
        )?),
        #[cfg(feature = "servers")]
        Backend::Redis | Backend::Valkey => Box::new(redis::Raw::open(backend)?),
        #[cfg(feature = "servers")]
        Backend::Etcd | Backend::Postgres => Box::new(server::Raw::open(backend, durability)?),
    };
    let batches = || {
        (0..jobs)
            .step_by(batch)
            .map(|first| first..jobs.min(first + batch))
    };
    let begin = Instant::now();
    for part in batches() {
        let mut writes = Vec::with_capacity(2 * batch);
        for number in part {
            writes.push((
                key(b'j', number, shape.job_key),
                Some(vec![7; shape.enqueued]),
            ));
            writes.push((key(b'r', number, shape.ready_key), Some(Vec::new())));
        }
        engine.apply(&writes)?;
    }
    let enqueue = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for part in batches() {
        let mut claim = Vec::with_capacity(2 * batch + 1);
        for number in part.clone() {
            claim.push((
                key(b'j', number, shape.job_key),
                Some(vec![8; shape.running]),
            ));
            claim.push((key(b'r', number, shape.ready_key), None));
        }
        let record = vec![9; shape.lease * part.len()];
        claim.push((key(b'w', 0, shape.worker_key), Some(record)));
        engine.apply(&claim)?;
        let complete: Vec<Write> = part
            .map(|number| {
                (
                    key(b'j', number, shape.job_key),
                    Some(vec![9; shape.completed]),
                )
            })
            .collect();
        engine.apply(&complete)?;
    }
    let drain = begin.elapsed().as_secs_f64();
    Ok(Phases { enqueue, drain })
}

/// A key of this space and length; keys of a space are in the order of their numbers.
fn key(space: u8, number: usize, length: usize) -> Vec<u8> {
    let mut key = vec![space; length.saturating_sub(8)];
    key.extend_from_slice(&(number as u64).to_be_bytes());
    key
}
