//! Where the stores of a test come from. What is done with them lives in `conformance`.

use std::future::Future;

use crate::kv::Store;

/// One place where a store's data can live, such as a temporary directory.
///
/// The suite makes a factory for each test (for each case of the model test), so that a factory
/// may own what the data lives in and let go of it when it is dropped:
///
/// ```
/// # use kvjob::kv::Memory;
/// # struct TempDir;
/// # impl TempDir { fn path(&self) -> &str { "" } }
/// # fn tempdir() -> TempDir { TempDir }
/// # async fn open(_: &str) -> Memory { Memory::new() }
/// use kvjob::kv::Store;
/// use kvjob::testkit::Factory;
///
/// struct OnDisk(TempDir);
///
/// impl Factory for OnDisk {
///     type Store = Memory; // your store
///
///     async fn open(&self) -> Self::Store {
///         open(self.0.path()).await
///     }
///
///     async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
///         store.stop().await.expect("the store stops");
///         drop(store);
///         Some(self.open().await)
///     }
/// }
///
/// kvjob::testkit::conformance!(OnDisk(tempdir()));
/// # fn main() {}
/// ```
///
/// A wrapper is put to the same proof by a factory around a factory, which wraps what the inner
/// one opened, and opens the inner one's data again; the suite does so with its own
/// [wrappings](mod@super::conformance#the-three-wrappings).
pub trait Factory: Send + Sync {
    /// The store to try.
    type Store: Store;

    /// Opens a store in this place: a fresh, empty one. The suite calls it once for each factory,
    /// and then [`start`](Store::start)s the store itself.
    fn open(&self) -> impl Future<Output = Self::Store> + Send;

    /// Closes the store and opens the same data again, or `None` where the data is gone with the
    /// store. The default says `None`.
    fn reopen(&self, store: Self::Store) -> impl Future<Output = Option<Self::Store>> + Send {
        async move {
            drop(store);
            None
        }
    }
}
