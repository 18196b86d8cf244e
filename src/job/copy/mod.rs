//! A job store as a whole: copied into another store, dumped to a file, restored from one.
//!
//! A copy is made of *records* in a neutral form, which does not depend on the kind of store or the
//! namespace; a store and a dump each are a source and a target of them. So there is one way in
//! which everything is moved:
//!
//! | file | what lives there |
//! |---|---|
//! | `layout` | the neutral form of what a store holds |
//! | `transfer` | from any source to any target: the passes, and what they prove |
//! | `source`, `target` | a job store as either |
//! | `dump` | a file as source and target, and its format |
//!
//! Whatever stands in the namespace is a record, be it readable or not: jobs and all that belongs
//! to them, leases and their deadlines, what was put aside, what newer software wrote. The journal
//! of a store without atomic commits lies outside. Nothing here knows what a record says, but for
//! that of the format.

mod dump;
mod layout;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod transfer;

use std::io::SeekFrom;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncSeek, AsyncSeekExt as _, AsyncWrite};

use self::dump::{DumpSource, DumpTarget};
use self::source::StoreSource;
use self::target::StoreTarget;
use self::transfer::{Changed, survey, transfer};
use super::keys::KeySpace;
use super::scheme::Scheme;
use super::{Error, Result};
use crate::kv::wrap::Journaled;
use crate::kv::{self, Atomic, ErrorKind};

/// Everything that one job store keeps in a [`kv::Store`], to be moved as a whole.
///
/// Nobody else may use either side meanwhile. On a store of one process that is seen to; on a
/// shared one, stop the workers first. If the source changes while it is read, the copy fails and
/// says so (it is read twice, and must be the same).
///
/// Everything travels as it is, also leases: a job that runs at the source runs at the target until
/// its lease is over. What was put aside, and what newer software wrote, is not touched.
///
/// The target's kind and namespace may be others. It is made like the source: what is there
/// already is not written again, and what is not in the source is removed. A mark stands in the
/// place of the format's record until everything was read back and its digest compared, so that
/// nobody takes a part for the whole: opening it as a [`KvStore`](super::KvStore) fails. Copying
/// again goes on where it was cut off.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use kvjob::job::{Existing, KvStore, Namespace, NewJob, Options, QueueStore, StateStore};
/// use kvjob::kv::Memory;
///
/// let (here, there) = (Arc::new(Memory::new()), Arc::new(Memory::bag()));
/// let jobs = KvStore::open(here.clone(), Options::default()).await?;
/// let job = jobs.enqueue(NewJob::new("greet", "world")?).await?.job;
///
/// let from = Namespace::open(here, "kvjob").await?;
/// let to = Namespace::open(there.clone(), "shop").await?;
/// let copied = from.copy_to(&to, Existing::Refuse, |_| {}).await?;
/// assert_eq!(copied.jobs, 1);
///
/// let jobs = KvStore::open(there, Options::default().namespace("shop")).await?;
/// assert_eq!(jobs.get(job.id).await?.unwrap().payload, job.payload);
/// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Namespace {
    store: Arc<dyn kv::Store>,
    name: String,
    keys: KeySpace,
}

/// What becomes of a job store that the target already holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: the copy is refused with `target-not-empty`. The rest of a copy that was cut off
    /// is no job store: it is completed, or made like the new source.
    #[default]
    Refuse,
    /// It is made like the source: what is not there is removed for good.
    Replace,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copying {
    /// What is being done.
    pub stage: Stage,
    /// Records done in this stage.
    pub records: u64,
    /// How many there will be, where that is known.
    pub of: Option<u64>,
}

/// The parts of a copy, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The source is read, to know what there is, and that the target can take it.
    Counting,
    /// The source is read again, and the target written.
    Copying,
    /// The target is read back.
    Verifying,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Copied {
    /// Jobs.
    pub jobs: u64,
    /// Records, those of the jobs included.
    pub records: u64,
    /// Bytes of keys and values in the neutral form.
    pub bytes: u64,
    /// Records that were written; the others were there already. That of the format always is.
    pub written: u64,
    /// Records that were in the target, and are not in the source.
    pub removed: u64,
    /// The SHA-256 of all records, in hexadecimal digits. It does not depend on the kind of store
    /// or the namespace: job stores that hold the same have the same digest.
    pub digest: String,
}

impl Namespace {
    /// Everything under this namespace, of 1 to 32 bytes, in a store; it need not hold anything
    /// yet. The store is [started](kv::Store::start). One without [`Atomic`](kv::Atomic) is put
    /// under a [journal](Journaled), as [`KvStore::open`](super::KvStore::open) does: to copy
    /// within one, hand in the `Journaled` itself.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a namespace that cannot be, or what the store says.
    pub async fn open(store: Arc<dyn kv::Store>, namespace: &str) -> Result<Self> {
        let keys = KeySpace::new(namespace, Scheme::of(&*store))?;
        let store = if store.atomic().is_some() {
            store
        } else {
            Arc::new(Journaled::new(store))
        };
        store.start().await?;
        Ok(Self {
            store,
            name: namespace.to_owned(),
            keys,
        })
    }

    /// Makes the target like this job store. `tell` hears how far it is.
    ///
    /// # Errors
    /// [`Copy`](Error::Copy) for what stands in the way, or [`Store`](Error::Store) for what
    /// either store says; a record that the target cannot take is
    /// [`TooLarge`](ErrorKind::TooLarge), with its job, before anything is written. With
    /// `source-changed`, `copy-differs`, `copy-taken-over` and failures of a store on the way the
    /// target is left unfinished: copying again goes on. With any other it is as it was.
    pub async fn copy_to(
        &self,
        to: &Namespace,
        existing: Existing,
        mut tell: impl FnMut(Copying) + Send,
    ) -> Result<Copied> {
        if Arc::ptr_eq(&self.store, &to.store) && self.name == to.name {
            let message = "source and target are the same job store; it was left as it is";
            return Err(Error::copy("same-store", message));
        }
        let mut target = StoreTarget::open(to, existing).await?;
        let before = survey(&mut StoreSource::new(self), Some(&mut target), &mut tell).await?;
        let mut source = StoreSource::new(self);
        transfer(&mut source, &mut target, Some(before), &mut tell).await
    }

    /// Writes this job store as a dump. The writer is flushed, but neither synced nor shut down.
    /// Without its end, which is written last, a dump is no dump.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to); what the writer says is
    /// [`Backend`](ErrorKind::Backend).
    pub async fn dump(
        &self,
        to: impl AsyncWrite + Unpin + Send,
        mut tell: impl FnMut(Copying) + Send,
    ) -> Result<Copied> {
        let before = survey(&mut StoreSource::new(self), None, &mut tell).await?;
        let (mut source, mut target) = (StoreSource::new(self), DumpTarget::new(to));
        transfer(&mut source, &mut target, Some(before), &mut tell).await
    }

    /// Makes this namespace like a dump in a file, which is read twice, from where it stands:
    /// nothing is written before all of it was found good.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to) and [`read_dump`].
    pub async fn restore(
        &self,
        mut from: impl AsyncRead + AsyncSeek + Unpin + Send,
        existing: Existing,
        mut tell: impl FnMut(Copying) + Send,
    ) -> Result<Copied> {
        let mut target = StoreTarget::open(self, existing).await?;
        let start = from.stream_position().await.map_err(dump::unreadable)?;
        let mut source = DumpSource::new(&mut from);
        let before = survey(&mut source, Some(&mut target), &mut tell).await?;
        let again = from.seek(SeekFrom::Start(start)).await;
        again.map_err(dump::unreadable)?;
        let mut source = DumpSource::new(&mut from);
        transfer(&mut source, &mut target, Some(before), &mut tell).await
    }

    /// The same with a dump that can be read only once, from a pipe for example: if it turns out to
    /// be cut off or damaged, the namespace is left unfinished, without what it had before.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub async fn restore_stream(
        &self,
        from: impl AsyncRead + Unpin + Send,
        existing: Existing,
        mut tell: impl FnMut(Copying) + Send,
    ) -> Result<Copied> {
        let mut target = StoreTarget::open(self, existing).await?;
        let mut source = DumpSource::new(from);
        transfer(&mut source, &mut target, None, &mut tell).await
    }

    /// Commits of the store.
    fn atomic(&self) -> Result<&dyn Atomic> {
        self.store.atomic().ok_or_else(|| {
            let message = format!("{} has no atomic commits", self.store.name());
            kv::Error::new(ErrorKind::Unsupported, message).into()
        })
    }
}

/// Reads a dump to its end, and says what is in it.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) if it is no dump, cut off or damaged, with the place;
/// [`TooNew`](ErrorKind::TooNew) if it, or the job store in it, is of newer software;
/// [`Backend`](ErrorKind::Backend) for what the reader says.
pub async fn read_dump(
    from: impl AsyncRead + Unpin + Send,
    mut tell: impl FnMut(Copying) + Send,
) -> Result<Copied> {
    let mut source = DumpSource::new(from);
    let sum = survey(&mut source, None, &mut tell).await?;
    Ok(sum.copied(Changed::default()))
}
