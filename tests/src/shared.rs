//! A store that says that other processes may have it open, too.

use async_trait::async_trait;
use kvjob::kv::{Atomic, Health, Key, Limits, Object, Ownership, Page, Result, Scan, Store, Watch};

/// The store within, shared: what job stores over clones of it do, they do as processes would
/// that share a server.
#[derive(Clone, Debug)]
pub struct Shared<S>(pub S);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for Shared<S> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn unique_keys(&self) -> bool {
        self.0.unique_keys()
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.0.set(object).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.0.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        self.0.scan(scan).await
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.0.remove(object).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.0.delete(prefix).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        self.0.get_many(keys).await
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        self.0.scan_many(scans).await
    }

    async fn start(&self) -> Result<()> {
        self.0.start().await
    }

    async fn stop(&self) -> Result<()> {
        self.0.stop().await
    }

    async fn health(&self) -> Result<Health> {
        self.0.health().await
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn ownership(&self) -> Ownership {
        Ownership::Shared
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        self.0.atomic()
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.0.watch()
    }
}
