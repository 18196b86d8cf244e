//! From any [`Source`] to any [`Target`]: the order of the passes, and what they prove.

use std::fmt::Write as _;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::super::format::Format;
use super::super::{Error, Result};
use super::{Copied, Copying, Stage, layout};
use crate::kv::{self, ErrorKind, Object};

/// Who is told how far it is.
pub(super) type Tell<'a> = &'a mut (dyn FnMut(Copying) + Send);

/// Where the records of a job store come from, in the neutral form: the format's first, then the
/// others in the order of their keys, and of the values of one key.
#[async_trait]
pub(super) trait Source: Send {
    /// The namespace, or what stands for it, in messages.
    fn name(&self) -> &str;
    /// The next records; none at the end.
    async fn page(&mut self) -> Result<Vec<Object>>;
}

/// Where they go.
#[async_trait]
pub(super) trait Target: Send {
    /// Refuses a record that it cannot take. Asked of every record in order, before the copy is
    /// begun.
    fn check(&mut self, record: Object) -> Result<()>;
    /// Begins the copy.
    async fn begin(&mut self) -> Result<()>;
    /// Whether this is what the target itself wrote when the copy was begun.
    fn is_own_mark(&self, _record: &Object) -> bool {
        false
    }
    /// Undoes [`begin`](Self::begin).
    async fn undo(&mut self) -> Result<()> {
        Ok(())
    }
    /// Takes the next records.
    async fn write(&mut self, records: Vec<Object>) -> Result<()>;
    /// Ends the copy of all these records, once it is certain that they are there.
    async fn finish(&mut self, all: &Sum, tell: Tell<'_>) -> Result<Changed>;
}

/// How much of what the target had before was changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    pub(super) written: u64,
    pub(super) removed: u64,
}

/// What a pass over records came to.
#[derive(Clone, Default)]
pub(super) struct Sum {
    pub(super) records: u64,
    pub(super) bytes: u64,
    jobs: u64,
    hash: Sha256,
    last: Option<Object>,
}

impl Sum {
    /// Adds the next record, which must come behind those before it.
    pub(super) fn add(&mut self, record: &Object) -> Result<()> {
        let is_format = record.key == layout::format_key();
        // The format's record comes first, wherever its key would stand.
        let follows = match &self.last {
            None if self.records == 0 => is_format,
            None => !is_format,
            Some(last) => !is_format && last < record,
        };
        if !follows {
            let message = format!(
                "{} does not follow the one before it: a source must be in order",
                layout::name(record)
            );
            return Err(kv::Error::new(ErrorKind::Corrupt, message).into());
        }
        if !is_format {
            self.last = Some(record.clone());
        }
        self.hash.update(lengths(record)?);
        self.hash.update(record.key.as_bytes());
        self.hash.update(&record.value);
        self.records += 1;
        self.bytes = self.bytes.saturating_add(record.size() as u64);
        self.jobs += u64::from(layout::is_job(record));
        Ok(())
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    pub(super) fn copied(&self, changed: Changed) -> Copied {
        let mut digest = String::with_capacity(64);
        for byte in self.digest() {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Copied {
            jobs: self.jobs,
            records: self.records,
            bytes: self.bytes,
            written: changed.written,
            removed: changed.removed,
            digest,
        }
    }
}

/// How many bytes key and value have: what stands before them in a digest, and in a dump.
pub(super) fn lengths(record: &Object) -> Result<[u8; 8]> {
    let mut lengths = [0; 8];
    let (of_key, of_value) = lengths.split_at_mut(4);
    for (to, bytes) in [(of_key, record.key.len()), (of_value, record.value.len())] {
        let length = u32::try_from(bytes).map_err(|_| {
            kv::Error::too_large("bytes of a record", bytes, u32::MAX as usize)
                .context(layout::name(record))
        })?;
        to.copy_from_slice(&length.to_be_bytes());
    }
    Ok(lengths)
}

/// Reads the source once: what it holds, and that the target takes all of it. Changes nothing.
pub(super) async fn survey(
    source: &mut dyn Source,
    mut target: Option<&mut dyn Target>,
    tell: Tell<'_>,
) -> Result<Sum> {
    let mut sum = Sum::default();
    loop {
        let page = source.page().await?;
        if page.is_empty() {
            return Ok(sum);
        }
        for record in page {
            first(source, &sum, &record)?;
            sum.add(&record)?;
            if let Some(target) = &mut target {
                target.check(record)?;
            }
        }
        tell(Copying {
            stage: Stage::Counting,
            records: sum.records,
            of: None,
        });
        // A store that answers at once would let nobody else run.
        tokio::task::yield_now().await;
    }
}

/// Copies everything. With what an earlier pass over the source came to, it must come to the same
/// again: then all that was copied was there at one moment, the one between the two passes.
pub(super) async fn transfer(
    source: &mut dyn Source,
    target: &mut dyn Target,
    before: Option<Sum>,
    tell: Tell<'_>,
) -> Result<Copied> {
    target.begin().await?;
    let mut sum = Sum::default();
    loop {
        let page = match source.page().await {
            Ok(page) => page,
            Err(error) if sum.records == 0 => {
                target.undo().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if page.is_empty() {
            break;
        }
        if page.iter().any(|record| target.is_own_mark(record)) {
            target.undo().await?;
            let message =
                "source and target are the same job store, under two names; it was left as it is";
            return Err(Error::copy("same-store", message));
        }
        for record in &page {
            first(source, &sum, record)?;
            sum.add(record)?;
        }
        target.write(page).await?;
        tell(Copying {
            stage: Stage::Copying,
            records: sum.records,
            of: before.as_ref().map(|before| before.records),
        });
        tokio::task::yield_now().await;
    }
    if before.is_some_and(|before| before.digest() != sum.digest()) {
        let message = "the source changed while it was copied, so that the copy would be of no one moment: \
                       stop what uses it, and copy again";
        return Err(Error::copy("source-changed", message));
    }
    let changed = target.finish(&sum, tell).await?;
    Ok(sum.copied(changed))
}

/// Refuses what this software may not read, as the record of the format says, which comes first.
fn first(source: &dyn Source, before: &Sum, record: &Object) -> Result<()> {
    if before.records == 0 {
        Format::read(source.name(), &record.key, &record.value)?;
    }
    Ok(())
}
