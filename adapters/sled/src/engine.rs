//! [`Engine`]: one tree of a sled database.

use std::borrow::Cow;
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::thread;

use bytes::Bytes;
use kvjob::kv::{self, Direction, Key, Limits, Range, Result, Scan, Write};
use sled::{Batch, Db, Tree};

use crate::error::{applying, lost, reading, syncing, torn};
use crate::files::Files;
use crate::layout::{self, PIECE, Stored};

const TREE: &str = "kvjob";

/// The largest things a store in sled takes. sled itself sets no limits; with keys longer than
/// these its inner pages would not fit into its log.
pub const LIMITS: Limits = Limits {
    key_bytes: 1 << 10,
    value_bytes: 4 << 20,
    commit_bytes: 16 << 20,
    commit_changes: 16 << 10,
};

/// About how many objects and pieces of a prefix are removed in one batch.
const REMOVED_AT_ONCE: usize = 1000;

/// The tree `kvjob` of a sled database. Users have it inside a [`Sled`](crate::Sled).
pub struct Engine {
    tree: Tree,
    /// sled's batches are written as one, but read key by key: readers share it, and a batch has
    /// it alone while it is applied in memory. Nobody waits here for the disk, except a reader
    /// for what it reads itself. `false` inside of a batch, and for good if that failed half-way.
    whole: RwLock<bool>,
    /// Behind the tree: see [`drop`](Self::drop).
    closed: Option<mpsc::Sender<()>>,
    /// Behind the tree, for it waits until sled has let go of its files.
    files: Files,
}

impl Engine {
    /// The tree is created if it is not there. Of the database's other trees it knows nothing.
    pub(crate) fn new(database: &Db, files: Files) -> Result<Self> {
        let tree = database.open_tree(TREE).map_err(reading)?;
        let engine = Self {
            tree,
            whole: RwLock::new(true),
            closed: None,
            files,
        };
        kv::Engine::sync(&engine)?;
        Ok(engine)
    }

    /// Keeps batches out while something is read.
    fn shared(&self) -> Result<RwLockReadGuard<'_, bool>> {
        let whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        if *whole { Ok(whole) } else { Err(torn()) }
    }

    fn apply_batch(&self, batch: Batch) -> Result<()> {
        let mut whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        *whole = false;
        self.tree.apply_batch(batch).map_err(applying)?;
        *whole = true;
        Ok(())
    }

    fn get_one(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let stored = self.tree.get(layout::object_key(key)).map_err(reading)?;
        let value = stored.as_deref().map(|stored| self.value(key, stored));
        Ok(value.transpose()?.map(|value| match value {
            Cow::Borrowed(value) => Bytes::copy_from_slice(value),
            Cow::Owned(value) => value.into(),
        }))
    }

    /// The value of an object, with its pieces put together.
    fn value<'s>(&self, key: &[u8], stored: &'s [u8]) -> Result<Cow<'s, [u8]>> {
        let count = match layout::value_of(stored)? {
            Stored::Whole(value) => return Ok(Cow::Borrowed(value)),
            Stored::Cut(count) => count,
        };
        let mut value = Vec::new();
        for piece in layout::piece_keys(key, 0..count) {
            let piece = self.tree.get(piece).map_err(reading)?;
            value.extend_from_slice(&piece.ok_or_else(|| lost(key))?);
        }
        Ok(Cow::Owned(value))
    }

    /// Adds to a batch what replaces an object, also the removal of pieces that it no longer has.
    /// (If one batch gave a key two values, pieces of the first could stay, which nobody reads.)
    fn write(&self, batch: &mut Batch, key: &Key, value: Option<&[u8]>) -> Result<()> {
        let key = key.as_bytes();
        let object_key = layout::object_key(key);
        let old = self.tree.get(&object_key).map_err(reading)?;
        let old = old.as_deref().map(layout::value_of).transpose()?;
        let mut pieces = 0;
        if let Some(value) = value {
            batch.insert(object_key, layout::stored(value));
            pieces = layout::pieces(value);
            for (piece, part) in layout::piece_keys(key, 0..pieces).zip(value.chunks(PIECE)) {
                batch.insert(piece, part);
            }
        } else if old.is_some() {
            batch.remove(object_key);
        }
        if let Some(Stored::Cut(old)) = old {
            layout::piece_keys(key, pieces..old).for_each(|piece| batch.remove(piece));
        }
        Ok(())
    }

    /// In batches of their own, so that neither memory nor readers suffer: it may be seen
    /// half-way, and so may a crash leave it.
    fn delete_prefix(&self, prefix: &Key) -> Result<()> {
        let range = Scan::prefix(prefix.clone()).range(true);
        let bounds = layout::bounds(range.as_bytes());
        loop {
            let mut batch = Batch::default();
            let mut count = 0;
            for object in self.tree.range(bounds.clone()) {
                let (object_key, stored) = object.map_err(reading)?;
                if let Stored::Cut(pieces) = layout::value_of(&stored)? {
                    let key = layout::key_of(&object_key)?;
                    layout::piece_keys(&key, 0..pieces).for_each(|piece| batch.remove(piece));
                    count += pieces as usize;
                }
                batch.remove(object_key);
                count += 1;
                if count >= REMOVED_AT_ONCE {
                    break;
                }
            }
            if count == 0 {
                return Ok(());
            }
            self.apply_batch(batch)?;
        }
    }
}

impl kv::Engine for Engine {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let _shared = self.shared()?;
        keys.iter()
            .map(|key| self.get_one(key.as_bytes()))
            .collect()
    }

    fn scan(&self, range: &Range, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let _shared = self.shared()?;
        let mut objects = self.tree.range(layout::bounds(range.as_bytes()));
        while let Some(object) = match range.direction {
            Direction::Forward => objects.next(),
            Direction::Reverse => objects.next_back(),
        } {
            let (object_key, stored) = object.map_err(reading)?;
            let key = layout::key_of(&object_key)?;
            if !visit(&key, &self.value(&key, &stored)?) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, writes: &[Write<'_>], sync: bool) -> Result<()> {
        let mut batch = Batch::default();
        for write in writes {
            match write {
                Write::Put { key, value } => self.write(&mut batch, key, Some(value))?,
                Write::Remove(key) | Write::RemovePair { key, .. } => {
                    self.write(&mut batch, key, None)?;
                }
                Write::DeletePrefix(prefix) => {
                    self.apply_batch(std::mem::take(&mut batch))?;
                    self.delete_prefix(prefix)?;
                }
            }
        }
        self.apply_batch(batch)?;
        if sync { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<()> {
        self.files.sync_blobs().map_err(syncing)?;
        self.tree.flush().map_err(syncing)?;
        self.files.sync_log().map_err(syncing)
    }
}

impl Drop for Engine {
    /// After a batch that failed half-way sled may wait for ever for the rest of it when it is
    /// closed. Then a thread closes it that nobody waits for: it has the last handle, for it
    /// drops its own when ours is gone.
    fn drop(&mut self) {
        let whole = self.whole.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !*whole {
            let tree = self.tree.clone();
            let (sender, closed) = mpsc::channel();
            self.closed = Some(sender);
            let waits = move || {
                let _ = closed.recv();
                drop(tree);
            };
            // Without a thread there is nothing for it but to wait.
            let _ = thread::Builder::new()
                .name("kvjob-sled-closes".to_owned())
                .spawn(waits);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
