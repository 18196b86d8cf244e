//! Every store that jobs are tested on. A new adapter is a name in [`every_store!`] and the
//! function of that name below it.

use std::sync::Arc;
#[cfg(feature = "servers")]
use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use kvjob::kv::wrap::{Journaled, Prefixed};
use kvjob::kv::{Durability, Memory};
#[cfg(feature = "servers")]
use kvjob_servers::{Server, etcd, postgres, redis};

use crate::{FiveMethods, Fixture};

/// Calls another macro of this crate with the names of all stores behind some tokens.
#[doc(hidden)]
#[macro_export]
macro_rules! every_store {
    ($then:ident $with:tt) => {
        $crate::with_full_stores! { $then $with
            memory
            bag
            prefixed
            five_methods
            five_methods_bag
            redb
            redb_bag
            fjall
            sled
        }
    };
}

#[cfg(not(feature = "full"))]
#[doc(hidden)]
#[macro_export]
macro_rules! with_full_stores {
    ($then:ident $with:tt $($store:ident)*) => {
        $crate::with_servers! { $then $with $($store)* }
    };
}

/// With those that take a C or C++ compiler.
#[cfg(feature = "full")]
#[doc(hidden)]
#[macro_export]
macro_rules! with_full_stores {
    ($then:ident $with:tt $($store:ident)*) => {
        $crate::with_servers! { $then $with $($store)* sqlite lmdb rocksdb }
    };
}

#[cfg(not(feature = "servers"))]
#[doc(hidden)]
#[macro_export]
macro_rules! with_servers {
    ($then:ident $with:tt $($store:ident)*) => {
        $crate::$then! { $with $($store)* }
    };
}

/// With those that are in a server.
#[cfg(feature = "servers")]
#[doc(hidden)]
#[macro_export]
macro_rules! with_servers {
    ($then:ident $with:tt $($store:ident)*) => {
        $crate::$then! { $with $($store)* redis valkey etcd postgres }
    };
}

impl Fixture {
    /// On the reference store.
    pub async fn memory() -> Self {
        Self::on(Arc::new(Memory::new()), None).await
    }

    /// On the reference store of bags.
    pub async fn bag() -> Self {
        Self::on(Arc::new(Memory::bag()), None).await
    }

    /// On a part of the reference store.
    pub async fn prefixed() -> Self {
        let part = Prefixed::new(Memory::new(), b"part\xff");
        Self::on(Arc::new(part), None).await
    }

    /// On a store of five methods, with a journal.
    pub async fn five_methods() -> Self {
        let store = FiveMethods::unique();
        Self::kept(None, move || Arc::new(Journaled::new(store.clone()))).await
    }

    /// On a bag of five methods, with a journal.
    pub async fn five_methods_bag() -> Self {
        let store = FiveMethods::bag();
        Self::kept(None, move || Arc::new(Journaled::new(store.clone()))).await
    }

    /// On a redb file of its own.
    pub async fn redb() -> Self {
        Self::redb_file(kvjob_redb::Options::new()).await
    }

    /// On a redb file of its own, which holds a bag.
    pub async fn redb_bag() -> Self {
        Self::redb_file(kvjob_redb::Options::new().bag()).await
    }

    /// On a directory of fjall's of its own.
    pub async fn fjall() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.fjall");
        let options = kvjob_fjall::Options::new()
            .durability(Durability::Memory)
            .cache_bytes(4 << 20);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }

    /// On a directory of sled's of its own.
    pub async fn sled() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.sled");
        let options = kvjob_sled::Options::new()
            .durability(Durability::Memory)
            .cache_bytes(4 << 20);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }

    /// On a SQLite database of its own.
    #[cfg(feature = "full")]
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.db");
        let options = kvjob_sqlite::Options::new().durability(Durability::Memory);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }

    /// On an LMDB file of its own.
    #[cfg(feature = "full")]
    pub async fn lmdb() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.lmdb");
        let options = kvjob_lmdb::Options::new().durability(Durability::Memory);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }

    /// In a namespace of its own of a Redis that all share.
    #[cfg(feature = "servers")]
    pub async fn redis() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(redis::redis);
        Self::redis_server(&SERVER).await
    }

    /// In a namespace of its own of a Valkey that all share.
    #[cfg(feature = "servers")]
    pub async fn valkey() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(redis::valkey);
        Self::redis_server(&SERVER).await
    }

    #[cfg(feature = "servers")]
    async fn redis_server(server: &Server) -> Self {
        let options = kvjob_redis::Options::new().namespace(unheard_of());
        let url = redis::url(server);
        Self::served(move || {
            let (options, url) = (options.clone(), url.clone());
            Box::pin(async move { Arc::new(options.open(&url).await.unwrap()) as Arc<_> })
        })
        .await
    }

    /// In a table of its own of a PostgreSQL that all share.
    #[cfg(feature = "servers")]
    pub async fn postgres() -> Self {
        static SERVER: LazyLock<Server> =
            LazyLock::new(|| postgres::with(&["fsync=off", "max_connections=500"]));
        let options = kvjob_postgres::Options::new().table(unheard_of());
        let url = postgres::url(&SERVER);
        Self::served(move || {
            let (options, url) = (options.clone(), url.clone());
            Box::pin(async move { Arc::new(options.open(&url).await.unwrap()) as Arc<_> })
        })
        .await
    }

    /// On a directory of RocksDB's of its own.
    #[cfg(feature = "full")]
    pub async fn rocksdb() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.rocksdb");
        let options = kvjob_rocksdb::Options::new()
            .durability(Durability::Memory)
            .cache_bytes(4 << 20);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }

    /// Behind a prefix of its own of an etcd that all share.
    #[cfg(feature = "servers")]
    pub async fn etcd() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(etcd::etcd);
        let options = kvjob_etcd::Options::new().prefix(unheard_of() + "/");
        let url = etcd::url(&SERVER);
        Self::served(move || {
            let (options, url) = (options.clone(), url.clone());
            Box::pin(async move { Arc::new(options.open(&url).await.unwrap()) as Arc<_> })
        })
        .await
    }

    async fn redb_file(options: kvjob_redb::Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.redb");
        let options = options.durability(Durability::Memory).cache_bytes(4 << 20);
        let open = move || Arc::new(options.clone().open(&path).unwrap()) as Arc<_>;
        Self::kept(Some(directory), open).await
    }
}

/// A name that nothing has in any server yet.
#[cfg(feature = "servers")]
fn unheard_of() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A store by its name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// What it is called among them.
    pub name: &'static str,
    /// Opens a fresh one.
    pub open: fn() -> BoxFuture<'static, Fixture>,
}

/// Every store.
pub const STORES: &[Named] = every_store!(table_of_stores());

#[doc(hidden)]
#[macro_export]
macro_rules! table_of_stores {
    (() $($store:ident)*) => {
        &[$(Named {
            name: stringify!($store),
            open: || Box::pin(Fixture::$store()),
        },)*]
    };
}

/// Runs each of these tests, which take a [`Fixture`], on every store.
#[macro_export]
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        $crate::every_store! { modules_of_stores [$($test)+] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! modules_of_stores {
    ($tests:tt $($store:ident)*) => {
        $(
            mod $store {
                $crate::tests_of_store! { $store $tests }
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tests_of_store {
    ($store:ident [$($test:ident)+]) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::within(async {
                    super::$test($crate::Fixture::$store().await).await;
                })
                .await;
            }
        )+
    };
}
