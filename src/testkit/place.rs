//! [`Place`]: any factory, of which only the stores are known to be stores.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::Factory;
use crate::kv::Store;

/// A [`Factory`] whose kind of store is forgotten.
///
/// The cases of the suite take it, so that they are compiled once, with this library, and not
/// again for each adapter and each wrapping of its stores.
pub struct Place {
    stores: Box<dyn Stores>,
    wrapped: bool,
}

impl Place {
    /// The place where this factory's stores live.
    pub fn new(factory: impl Factory + 'static) -> Self {
        Self {
            stores: Box::new(Opened {
                store: Mutex::new(None),
                factory,
            }),
            wrapped: false,
        }
    }

    /// The same, for stores in a wrapper that are tried without it, too: what takes long is then
    /// tried in a smaller size.
    pub(super) fn wrapped(factory: impl Factory + 'static) -> Self {
        Self {
            wrapped: true,
            ..Self::new(factory)
        }
    }

    /// How many to try: `many`, or `few` where the stores are tried in a wrapper. Only for what
    /// is promised of any number.
    pub(super) fn size<T>(&self, many: T, few: T) -> T {
        if self.wrapped { few } else { many }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("wrapped", &self.wrapped)
            .finish_non_exhaustive()
    }
}

impl Factory for Place {
    type Store = Arc<dyn Store>;

    async fn open(&self) -> Self::Store {
        self.stores.open().await
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        self.stores.reopen(store).await
    }
}

/// [`Factory`] without its types.
#[async_trait]
trait Stores: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>>;
}

/// A factory and the store it opened, kept because only what has its own type can be given back.
struct Opened<F: Factory> {
    store: Mutex<Option<Arc<F::Store>>>,
    factory: F,
}

impl<F: Factory> Opened<F> {
    fn keep(&self, store: F::Store) -> Arc<dyn Store> {
        let store = Arc::new(store);
        let mut kept = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&store));
        store
    }
}

#[async_trait]
impl<F: Factory> Stores for Opened<F> {
    async fn open(&self) -> Arc<dyn Store> {
        self.keep(self.factory.open().await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(store);
        let kept = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let store = kept.and_then(Arc::into_inner);
        let store = store.expect("the one store that was opened, in no other hands");
        self.factory
            .reopen(store)
            .await
            .map(|store| self.keep(store))
    }
}
