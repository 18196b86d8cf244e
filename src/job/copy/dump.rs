//! A dump: the records of a job store in a file, and its format, version 1.
//!
//! Numbers are big-endian.
//!
//! | | bytes | |
//! |---|---|---|
//! | head | 11 | `kvjob dump` and a line feed |
//! | | 1 | the version |
//! | block, any number of times | 4 | length of its records, more than 0 |
//! | | | records |
//! | | 8 | the first bytes of the SHA-256 of all records so far |
//! | end | 4 | 0 |
//! | | 8 | number of records |
//! | | 32 | the SHA-256 of all records |
//!
//! A record is the length of its key (4), the length of its value (4), key and value, in the
//! neutral form. The first is that of the format; the others are in order. A block has whole records, as many as
//! come to 256 KiB, one at least. So a dump is written and read in the memory of its largest
//! record, what is damaged is found in its block, and what is cut off has no end.

use std::io;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::{Error, Result};
use super::layout;
use super::transfer::{Changed, Source, Sum, Target, Tell, lengths};
use crate::kv::{self, ErrorKind, Object};

const HEAD: &[u8] = b"kvjob dump\n";
const VERSION: u8 = 1;
/// Bytes after which a block ends.
const BLOCK: usize = 256 << 10;
/// The most bytes of a record, and so of a block: a length that says more is damaged.
const MOST: usize = 1 << 30;
/// Bytes of the digest behind a block.
const SHORT: usize = 8;

/// What the reader said.
pub(super) fn unreadable(error: io::Error) -> Error {
    let message = format!("cannot read the dump: {error}");
    let error = kv::Error::new(ErrorKind::Backend, message).with_source(error);
    Error::Store(error)
}

fn unwritable(error: io::Error) -> Error {
    let message = format!("cannot write the dump: {error}");
    let error = kv::Error::new(ErrorKind::Backend, message).with_source(error);
    Error::Store(error)
}

fn corrupt(message: impl Into<String>) -> Error {
    Error::Store(kv::Error::new(ErrorKind::Corrupt, message))
}

/// A dump that is written.
pub(super) struct DumpTarget<W> {
    to: W,
    block: Vec<u8>,
    hash: Sha256,
    records: u64,
}

impl<W: AsyncWrite + Unpin + Send> DumpTarget<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            block: Vec::new(),
            hash: Sha256::new(),
            records: 0,
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).await.map_err(unwritable)
    }

    async fn end_block(&mut self) -> Result<()> {
        let mut block = std::mem::take(&mut self.block);
        if block.is_empty() {
            return Ok(());
        }
        self.hash.update(&block);
        // No block is longer than two records may be.
        let length = u32::try_from(block.len()).map_err(|_| corrupt("a block is too long"))?;
        self.put(&length.to_be_bytes()).await?;
        self.put(&block).await?;
        let digest: [u8; 32] = self.hash.clone().finalize().into();
        self.put(digest.get(..SHORT).unwrap_or_default()).await?;
        block.clear();
        self.block = block;
        Ok(())
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send> Target for DumpTarget<W> {
    fn check(&mut self, record: Object) -> Result<()> {
        let size = record.size().saturating_add(8);
        if size > MOST {
            let error = kv::Error::too_large("bytes of a record in a dump", size, MOST);
            return Err(error.context(layout::name(&record)).into());
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        self.put(HEAD).await?;
        self.put(&[VERSION]).await
    }

    async fn write(&mut self, records: Vec<Object>) -> Result<()> {
        for record in records {
            self.check(record.clone())?;
            let size = record.size().saturating_add(8);
            if self.block.len().saturating_add(size) > BLOCK {
                self.end_block().await?;
            }
            self.block.extend_from_slice(&lengths(&record)?);
            self.block.extend_from_slice(record.key.as_bytes());
            self.block.extend_from_slice(&record.value);
            self.records += 1;
        }
        Ok(())
    }

    async fn finish(&mut self, all: &Sum, _tell: Tell<'_>) -> Result<Changed> {
        self.end_block().await?;
        self.put(&0u32.to_be_bytes()).await?;
        self.put(&all.records.to_be_bytes()).await?;
        self.put(&all.digest()).await?;
        self.to.flush().await.map_err(unwritable)?;
        Ok(Changed {
            written: self.records,
            removed: 0,
        })
    }
}

/// A dump that is read.
pub(super) struct DumpSource<R> {
    from: R,
    /// How many bytes were read.
    at: u64,
    hash: Sha256,
    records: u64,
    ended: bool,
}

impl<R: AsyncRead + Unpin + Send> DumpSource<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            at: 0,
            hash: Sha256::new(),
            records: 0,
            ended: false,
        }
    }

    /// So many bytes, or as many as there are.
    async fn some(&mut self, count: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        // It grows with what is there: a damaged length takes no memory.
        let mut part = (&mut self.from).take(count as u64);
        part.read_to_end(&mut bytes).await.map_err(unreadable)?;
        self.at += bytes.len() as u64;
        Ok(bytes.into())
    }

    async fn exactly(&mut self, count: usize) -> Result<Bytes> {
        let bytes = self.some(count).await?;
        if bytes.len() < count {
            return Err(self.cut_off());
        }
        Ok(bytes)
    }

    fn cut_off(&self) -> Error {
        corrupt(format!(
            "the dump is cut off: it ends after {} bytes, without its end",
            self.at
        ))
    }

    async fn head(&mut self) -> Result<()> {
        let head = self.some(HEAD.len() + 1).await?;
        if head.is_empty() {
            return Err(corrupt("this is no dump of kvjob: it is empty"));
        }
        match head.strip_prefix(HEAD) {
            Some([VERSION]) => Ok(()),
            Some([version]) => {
                let message = format!(
                    "the dump has version {version}, this software reads version {VERSION}: use a newer version of it"
                );
                Err(kv::Error::new(ErrorKind::TooNew, message).into())
            }
            _ if HEAD.starts_with(&head) => Err(self.cut_off()),
            _ => Err(corrupt(
                "this is no dump of kvjob: it does not begin like one",
            )),
        }
    }

    fn damaged(&self, from: u64) -> Error {
        corrupt(format!(
            "the dump is damaged: bytes {from} to {} are not what was written",
            self.at
        ))
    }

    /// The records of a block of this length, which begins here.
    async fn block(&mut self, begins: u64, length: usize) -> Result<Vec<Object>> {
        if length > MOST {
            return Err(self.damaged(begins));
        }
        let block = self.exactly(length).await?;
        self.hash.update(&block);
        let digest: [u8; 32] = self.hash.clone().finalize().into();
        let found = self.exactly(SHORT).await?;
        if digest.get(..SHORT) != Some(&*found) {
            return Err(self.damaged(begins));
        }
        let records = records(block).ok_or_else(|| self.damaged(begins))?;
        self.records += records.len() as u64;
        Ok(records)
    }

    async fn end(&mut self, begins: u64) -> Result<()> {
        let records = self.exactly(8).await?.try_get_u64();
        let digest = self.exactly(32).await?;
        let found: [u8; 32] = self.hash.clone().finalize().into();
        if records != Ok(self.records) || digest != found.as_slice() {
            return Err(self.damaged(begins));
        }
        let end = self.at;
        if !self.some(1).await?.is_empty() {
            let message = format!("the dump ends after {end} bytes, and something follows it");
            return Err(corrupt(message));
        }
        self.ended = true;
        Ok(())
    }
}

/// The records in a block.
fn records(mut block: Bytes) -> Option<Vec<Object>> {
    let mut records = Vec::new();
    while !block.is_empty() {
        let of_key = usize::try_from(block.try_get_u32().ok()?).ok()?;
        let of_value = usize::try_from(block.try_get_u32().ok()?).ok()?;
        if of_key.checked_add(of_value)? > block.len() {
            return None;
        }
        let (key, value) = (block.split_to(of_key), block.split_to(of_value));
        records.push(Object::new(key, value));
    }
    Some(records)
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> Source for DumpSource<R> {
    fn name(&self) -> &'static str {
        "of the dump"
    }

    async fn page(&mut self) -> Result<Vec<Object>> {
        if self.ended {
            return Ok(Vec::new());
        }
        if self.at == 0 {
            self.head().await?;
        }
        let begins = self.at;
        let length = self.exactly(4).await?.try_get_u32().unwrap_or(0);
        match usize::try_from(length) {
            Ok(0) if self.records == 0 => Err(self.damaged(begins)),
            Ok(0) => {
                self.end(begins).await?;
                Ok(Vec::new())
            }
            Ok(length) => self.block(begins, length).await,
            Err(_) => Err(self.damaged(begins)),
        }
    }
}
