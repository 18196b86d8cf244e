//! What is pleasant to call, made of what is small to implement.

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::{Key, Object, Result, Scan, Store};

/// Conveniences over every [`Store`].
pub trait StoreExt: Store {
    /// Every object under `prefix`, in key order, fetched page by page as the stream is read.
    /// Each page is consistent in itself; changes made meanwhile may or may not be seen.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures::TryStreamExt;
    /// use kvjob::kv::{Memory, Object, Store, StoreExt};
    ///
    /// let store = Memory::new();
    /// store.set(Object::new("a/1", "x")).await?;
    /// store.set(Object::new("b/1", "y")).await?;
    /// let found: Vec<Object> = store.scan_prefix("a/").try_collect().await?;
    /// assert_eq!(found, [Object::new("a/1", "x")]);
    /// # Ok::<(), kvjob::kv::Error>(()) }).unwrap();
    /// ```
    fn scan_prefix(&self, prefix: impl Into<Key>) -> BoxStream<'_, Result<Object>> {
        self.scan_all(Scan::prefix(prefix))
    }

    /// As [`scan_prefix`](Self::scan_prefix), from a scan whose limit is the size of a page.
    fn scan_all(&self, scan: Scan) -> BoxStream<'_, Result<Object>> {
        stream::try_unfold(Some(scan), move |scan| async move {
            let Some(scan) = scan.filter(|scan| scan.limit > 0) else {
                return Ok(None);
            };
            let page = self.scan(scan.clone()).await?;
            let rest = page.next.map(|next| scan.after(next));
            Ok::<_, super::Error>(Some((stream::iter(page.objects).map(Ok), rest)))
        })
        .try_flatten()
        .boxed()
    }
}

impl<S: Store + ?Sized> StoreExt for S {}
