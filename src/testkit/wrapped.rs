//! Factories around factories: the stores of another one, in a wrapper. What the wrappers do
//! lives in [`kv::wrap`](crate::kv::wrap).

use super::{Factory, Place};
use crate::kv::wrap;
use crate::kv::{Key, Object, Store};

/// The stores as they are.
#[doc(hidden)]
pub fn plain(factory: impl Factory + 'static) -> Place {
    Place::new(factory)
}

/// The stores under a prefix.
#[doc(hidden)]
pub fn prefixed(factory: impl Factory + 'static) -> Place {
    Place::wrapped(Prefixed(factory))
}

/// The stores with commits made by a journal, whatever commits they can do themselves.
#[doc(hidden)]
pub fn journaled(factory: impl Factory + 'static) -> Place {
    Place::wrapped(Journaled(factory))
}

/// The stores of another factory under a [prefix](wrap::Prefixed), with neighbours on both sides
/// of it, which must neither be seen nor touched.
#[derive(Debug)]
pub struct Prefixed<F>(pub F);

/// What all keys of the store begin with. The last byte makes its end another than itself with a
/// byte appended.
const PREFIX: &[u8] = b"part\xff";

/// Keys of others: before the prefix, a part of it, and right behind what begins with it.
const NEIGHBOURS: [&[u8]; 4] = [b"\x00", b"part", b"part\xfe\xff", b"paru"];

impl<F: Factory> Factory for Prefixed<F> {
    type Store = wrap::Prefixed<F::Store>;

    async fn open(&self) -> Self::Store {
        let store = self.0.open().await;
        store.start().await.expect("the store below starts");
        for key in NEIGHBOURS {
            let neighbour = Object::new(key, "neighbour");
            store.set(neighbour).await.expect("a neighbour is set");
        }
        wrap::Prefixed::new(store, PREFIX)
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        let store = self.0.reopen(store.into_inner()).await?;
        store.start().await.expect("the store below starts again");
        for key in NEIGHBOURS {
            let found = store.get(&Key::from(key)).await;
            let found = found.expect("a neighbour is got").map(|found| found.value);
            assert_eq!(
                found.as_deref(),
                Some(&b"neighbour"[..]),
                "{}: what became of a neighbour",
                store.name()
            );
        }
        Some(wrap::Prefixed::new(store, PREFIX))
    }
}

/// The stores of another factory with a [journal](wrap::Journaled).
#[derive(Debug)]
pub struct Journaled<F>(pub F);

impl<F: Factory> Factory for Journaled<F> {
    type Store = wrap::Journaled<F::Store>;

    async fn open(&self) -> Self::Store {
        wrap::Journaled::new(self.0.open().await)
    }

    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        let stopped = store.stop().await;
        stopped.expect("the store stops");
        let below = store
            .into_inner()
            .expect("a stopped journal lets go of its store");
        self.0.reopen(below).await.map(wrap::Journaled::new)
    }
}
