//! The keys of the journal itself: where they are, and how scans and watchers are kept from
//! seeing them.

use futures::StreamExt as _;

use super::shared::Shared;
use crate::kv::{Error, ErrorKind, Event, Key, Page, PageBuilder, Result, Scan, Store, Watcher};

/// What the journal's keys begin with. Keys of the job layer are tuples, which never begin so.
const RESERVED: &[u8] = b"\xff\xffkvjob-journal/";
/// The key of the owner's mark.
pub(super) const OWNER: &[u8] = b"\xff\xffkvjob-journal/owner";
/// What the keys of redo records begin with.
pub(super) const RECORDS: &[u8] = b"\xff\xffkvjob-journal/redo/";

/// Refuses a key of the journal.
pub(super) fn refuse(key: &Key) -> Result<()> {
    if !is_reserved(key) {
        return Ok(());
    }
    let message = format!(
        "the key {key} is not for use: under {} the journal of this store keeps its own",
        RESERVED.escape_ascii()
    );
    Err(Error::new(ErrorKind::InvalidKey, message))
}

/// Whether all keys under this prefix are the journal's.
pub(super) fn is_reserved(prefix: &Key) -> bool {
    prefix.as_bytes().starts_with(RESERVED)
}

/// Whether some keys under this prefix are the journal's, and others are not.
pub(super) fn covers_reserved(prefix: &Key) -> bool {
    RESERVED.starts_with(prefix.as_bytes()) && !is_reserved(prefix)
}

/// A watcher that does not hear of the journal's keys.
pub(super) fn deaf_to_reserved(events: Watcher) -> Watcher {
    events
        .filter(|event| {
            let reserved = matches!(event, Event::Changed(key) if is_reserved(key));
            std::future::ready(!reserved)
        })
        .boxed()
}

impl<S: Store> Shared<S> {
    /// The page of `scan` as it would be without the journal's keys.
    pub(super) async fn scan_around_reserved(&self, scan: &Scan) -> Result<Page> {
        if is_reserved(&scan.prefix) {
            return Ok(Page::default());
        }
        if !covers_reserved(&scan.prefix) {
            return self
                .read(async { self.inner.scan(scan.clone()).await })
                .await;
        }
        // The page is cut here, from a longer one of the store below: long enough to see the
        // object behind it, and asked for at once, so that it is consistent.
        let (mut objects, mut bytes) = (4usize, 64usize << 10);
        loop {
            let below = Scan {
                limit: scan.limit.saturating_add(objects),
                byte_budget: scan.byte_budget.saturating_add(bytes),
                // On a bag the cursor needs the value.
                keys_only: scan.keys_only && self.inner.unique_keys(),
                ..scan.clone()
            };
            let longest = below.limit.min(below.byte_budget) == usize::MAX;
            let found = self.read(async { self.inner.scan(below).await }).await?;
            let mut page = PageBuilder::new(scan);
            let mut visible = found.objects.iter().filter(|o| !is_reserved(&o.key));
            let is_full = visible.any(|object| !page.offer(object.key.as_bytes(), &object.value));
            if is_full || found.next.is_none() {
                return Ok(page.finish());
            }
            if longest {
                let message = format!(
                    "{} cut a page that was asked for without limits: {scan:?}",
                    self.inner.name()
                );
                return Err(Error::new(ErrorKind::Backend, message));
            }
            (objects, bytes) = (objects.saturating_mul(16), bytes.saturating_mul(16));
        }
    }
}
