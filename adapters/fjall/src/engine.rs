//! [`Engine`]: one keyspace of a fjall database. The transaction a user shares with it has a file of
//! its own.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::CompressionPolicy;
use fjall::{
    Iter, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, SingleWriterTxDatabase,
    SingleWriterTxKeyspace, UserKey,
};
use kvjob::kv::{self, Direction, Gaps, Key, Limits, Range, Result, Scan, Transactional, Write};

use crate::Transaction;
use crate::error::{committing, reading, syncing};

/// What the store's keyspace is called.
pub(crate) const KEYSPACE: &str = "kvjob";

/// The largest things a store in fjall takes. fjall itself takes values of 4 GiB; these keep a
/// commit within what it holds in memory anyway.
pub const LIMITS: Limits = Limits {
    // One less than fjall's own, so that the key behind the largest is one, too.
    key_bytes: u16::MAX as usize - 1,
    value_bytes: 64 << 20,
    commit_bytes: 64 << 20,
    commit_changes: 64 << 10,
};

/// What was written lately is held in memory up to this size. A scan passes over what of it was
/// removed or replaced since, one by one: fjall's own 64 MiB make that a hundred milliseconds.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// Tables of this size, in proportion: else a little that is new would have much that is old
/// rewritten.
const TABLE_BYTES: u64 = 8 << 20;

/// How long a scan lets others write beside it.
const SCAN_PATIENCE: Duration = Duration::from_millis(10);

/// How much of a prefix is removed in one batch: so many keys, of so many bytes together.
const REMOVED_KEYS: usize = 1000;
const REMOVED_BYTES: usize = 1 << 20;

/// The keyspace `kvjob` of a fjall database. Users have it inside a [`Fjall`](crate::Fjall).
pub struct Engine {
    // Each of them keeps fjall's files open and its lock held.
    keyspace: SingleWriterTxKeyspace,
    database: SingleWriterTxDatabase,
    /// Shared by scans that take long, had alone by a commit. What is replaced while a snapshot is
    /// open fjall must keep, and every later scan passes over it: if long scans let others write
    /// beside them, each would take longer than the one before.
    commits: RwLock<()>,
    gaps: Gaps,
}

impl Engine {
    /// An engine on this database, whose keyspace it creates if it is not there. Of the database's
    /// other keyspaces it knows nothing. There must be no other engine on it, and nobody else may
    /// write to that keyspace.
    ///
    /// # Errors
    /// What fjall says.
    pub fn new(database: SingleWriterTxDatabase) -> Result<Self> {
        let options = || {
            // The default depends on how fjall was built, and is stored with the keyspace:
            // another build could not read it.
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::disabled())
                .max_memtable_size(MEMTABLE_BYTES)
                .compaction_strategy(Arc::new(
                    Leveled::default().with_table_target_size(TABLE_BYTES),
                ))
        };
        let keyspace = database.keyspace(KEYSPACE, options).map_err(reading)?;
        Ok(Self {
            keyspace,
            database,
            commits: RwLock::new(()),
            gaps: Gaps::new(),
        })
    }

    /// The directory of the database.
    pub(crate) fn directory(&self) -> PathBuf {
        // This one's own is in `keyspaces` there.
        let own = self.keyspace.path();
        own.ancestors().nth(2).unwrap_or(&own).to_path_buf()
    }

    /// Whether this database has the keyspace.
    pub(crate) fn is_in(database: &SingleWriterTxDatabase) -> bool {
        database.keyspace_exists(KEYSPACE)
    }

    /// A batch of so many writes. What it writes stands before a crash of the process in any
    /// case: that costs one call of the operating system.
    fn batch(&self, writes: usize, sync: bool) -> OwnedWriteBatch {
        let mode = if sync {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        };
        OwnedWriteBatch::with_capacity(self.database.inner().clone(), writes).durability(Some(mode))
    }

    /// In batches of their own, so that neither memory nor readers suffer: it may be seen
    /// half-way, and so may a crash leave it.
    fn delete_prefix(&self, prefix: &Key) -> Result<()> {
        let mut range = short(&Scan::prefix(prefix.clone()).range(true));
        loop {
            let objects = self
                .database
                .read_tx()
                .range::<&[u8], _>(&self.keyspace, range.as_bytes());
            let keys = some_keys(objects)?;
            let Some(last) = keys.last() else {
                return Ok(());
            };
            // What was removed need not be passed over again.
            range.start = Bound::Excluded(Key::from(&**last));
            let mut batch = self.batch(keys.len(), false);
            for key in keys {
                batch.remove(self.keyspace.inner(), key);
            }
            self.commit(batch, Vec::new())?;
        }
    }

    fn commit(&self, batch: OwnedWriteBatch, put: Vec<Key>) -> Result<()> {
        self.gaps.write(put, || {
            let _alone = self.commits.write().unwrap_or_else(PoisonError::into_inner);
            batch.commit().map_err(committing)
        })
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        get(&self.database.read_tx(), &self.keyspace, keys)
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let range = &short(range);
        let begin = Instant::now();
        let mut commits_wait = None;
        let mut visit = |key: &[u8], value: &[u8]| {
            if commits_wait.is_none() && begin.elapsed() > SCAN_PATIENCE {
                commits_wait = Some(self.commits.read().unwrap_or_else(PoisonError::into_inner));
            }
            visit(key, value)
        };
        self.gaps.scan(range, &mut visit, |range, visit| {
            scan(&self.database.read_tx(), &self.keyspace, range, visit)
        })
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        let keyspace = self.keyspace.inner();
        let mut batch = self.batch(writes.len(), sync);
        let (mut put, mut deleted) = (Vec::new(), false);
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    batch.insert(keyspace, key.as_bytes(), value.as_ref());
                    put.push((*key).clone());
                }
                Write::Remove(key) | Write::RemovePair { key, .. } => {
                    batch.remove(keyspace, key.as_bytes());
                }
                Write::DeletePrefix(prefix) => {
                    self.commit(batch, std::mem::take(&mut put))?;
                    self.delete_prefix(prefix)?;
                    batch = self.batch(0, sync);
                    deleted = true;
                }
            }
        }
        let empty = batch.is_empty();
        self.commit(batch, put)?;
        // An empty batch syncs nothing.
        if sync && empty && deleted {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let persisted = self.database.persist(PersistMode::SyncData);
        persisted.map_err(syncing)
    }
}

impl Transactional for Engine {
    type Transaction<'t> = Transaction<'t>;

    fn transact(
        &self,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<Vec<Key>> {
        let fjall = self.database.write_tx();
        let fjall = fjall.durability(Some(PersistMode::SyncData));
        let mut transaction = Transaction::new(fjall, &self.database, &self.keyspace);
        // Dropping a transaction rolls it back.
        body(&mut transaction)?;
        let (fjall, put) = transaction.into_parts();
        self.gaps.write(put.clone(), || {
            let _alone = self.commits.write().unwrap_or_else(PoisonError::into_inner);
            fjall.commit().map_err(committing)
        })?;
        // fjall does not sync what wrote nothing, and earlier writes are to be synced, too.
        if put.is_empty() {
            kv::Engine::sync(self)?;
        }
        Ok(put)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

pub(crate) fn get(
    moment: &impl Readable,
    keyspace: &SingleWriterTxKeyspace,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>> {
    keys.iter()
        .map(|key| {
            let value = moment.get(keyspace, key.as_bytes()).map_err(reading)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
        .collect()
}

pub(crate) fn scan(
    moment: &impl Readable,
    keyspace: &SingleWriterTxKeyspace,
    range: &Range,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<()> {
    let mut objects = moment.range::<&[u8], _>(keyspace, range.as_bytes());
    while let Some(object) = match range.direction {
        Direction::Forward => objects.next(),
        Direction::Reverse => objects.next_back(),
    } {
        let (key, value) = object.into_inner().map_err(reading)?;
        if !visit(&key, &value) {
            break;
        }
    }
    Ok(())
}

/// The same range for keys within the limits: fjall panics where a bound is longer than a key can
/// be. What is cut off such a bound only makes a difference to longer keys.
pub(crate) fn short(range: &Range) -> Range {
    let cut = |key: &Key| key.as_bytes().get(..LIMITS.key_bytes).map(Key::from);
    let long = |key: &Key| key.len() > LIMITS.key_bytes;
    let start = match &range.start {
        Bound::Included(key) | Bound::Excluded(key) if long(key) => cut(key).map(Bound::Excluded),
        _ => None,
    };
    let end = match &range.end {
        Bound::Included(key) | Bound::Excluded(key) if long(key) => cut(key).map(Bound::Included),
        _ => None,
    };
    Range {
        start: start.unwrap_or_else(|| range.start.clone()),
        end: end.unwrap_or_else(|| range.end.clone()),
        direction: range.direction,
    }
}

/// The first keys of these objects, as many as are removed in one batch.
fn some_keys(objects: Iter) -> Result<Vec<UserKey>> {
    let mut keys = Vec::new();
    let mut bytes = 0;
    for object in objects {
        let key = object.key().map_err(reading)?;
        bytes += key.len();
        keys.push(key);
        if keys.len() >= REMOVED_KEYS || bytes >= REMOVED_BYTES {
            break;
        }
    }
    Ok(keys)
}
