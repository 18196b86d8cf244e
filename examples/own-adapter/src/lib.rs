//! A store of five methods over an ordered map.
use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{Direction, Key, Object, Page, PageBuilder, Result, Scan, Store};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An ordered map behind a lock.
#[derive(Debug, Default)]
pub struct Ordered(Mutex<BTreeMap<Key, Bytes>>);

impl Ordered {
    fn map(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Ordered {
    fn name(&self) -> &'static str {
        "ordered"
    }

    async fn set(&self, object: Object) -> Result<()> {
        self.limits().check_object(&object)?;
        self.map().insert(object.key, object.value);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.limits().check_key(key)?;
        let value = self.map().get(key).cloned();
        Ok(value.map(|value| Object::new(key.clone(), value)))
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let (range, mut page) = (scan.range(true), PageBuilder::new(&scan));
        let offer = |(key, value): (&Key, &Bytes)| page.offer(key.as_bytes(), value);
        if !range.is_empty() {
            let map = self.map();
            let mut found = map.range::<Key, _>((range.start, range.end));
            match range.direction {
                Direction::Forward => found.all(offer),
                Direction::Reverse => found.rev().all(offer),
            };
        }
        Ok(page.finish())
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        self.limits().check_key(&object.key)?;
        self.map().remove(&object.key);
        Ok(())
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        self.map().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }
}
