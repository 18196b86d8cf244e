//! [`Redis`]: the store. How its commands reach the server is [`client`](crate::client)'s.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kvjob::kv::{
    Atomic, Change, Error, ErrorKind, Health, Key, Limits, Object, Page, PageBuilder, Result, Scan,
    Store, Watch, Watcher, check_commit,
};
use redis::{Cmd, Value};

use crate::client::{Client, Effect};
use crate::scripts::DELETED_AT_ONCE;
use crate::watch::Watching;
use crate::{LIMITS, error, health};

/// A store in Redis or Valkey, which [`open`](crate::open) opens.
#[derive(Debug)]
pub struct Redis {
    client: Arc<Client>,
    watching: Watching,
}

impl Redis {
    pub(crate) fn new(client: Client) -> Self {
        let client = Arc::new(client);
        Self {
            watching: Watching::new(&client),
            client,
        }
    }

    async fn read(&self, command: Cmd) -> Result<Value> {
        self.one(command, Effect::Read).await
    }

    async fn one(&self, command: Cmd, effect: Effect) -> Result<Value> {
        let mut answers = self.client.run(&[command], effect).await;
        answers
            .pop()
            .unwrap_or_else(|| Err(error::strange("a command")))
    }

    /// Makes changes that were looked at.
    async fn make(&self, changes: &[Change]) -> Result<()> {
        let command = self.client.names.commit(changes);
        self.one(command, Effect::Write).await.and_then(outcome)
    }
}

/// What a commit's script answered.
fn outcome(answer: Value) -> Result<()> {
    let Value::Array(failed) = answer else {
        return Err(error::strange("a commit"));
    };
    if failed.is_empty() {
        return Ok(());
    }
    let positions = failed.into_iter().map(|position| match position {
        Value::Int(position) => usize::try_from(position).ok(),
        _ => None,
    });
    match positions.collect::<Option<Vec<_>>>() {
        Some(indices) => Err(Error::condition_failed(indices)),
        None => Err(error::strange("a commit")),
    }
}

/// The page in what a scan's script answered: keys and values in turn.
fn page(scan: &Scan, answer: Value) -> Result<Page> {
    let Value::Array(answer) = answer else {
        return Err(error::strange("a scan"));
    };
    let mut page = PageBuilder::new(scan);
    let mut answer = answer.into_iter();
    while let Some(key) = answer.next() {
        match (key, answer.next()) {
            (Value::BulkString(key), Some(Value::BulkString(value))) => {
                if !page.offer(&key, &value) {
                    break;
                }
            }
            (Value::BulkString(key), Some(Value::Nil)) => {
                let message = format!(
                    "the server's index has the key {}, and there is no value for it: something \
                     else than kvjob removed it",
                    Key::from(key)
                );
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            _ => return Err(error::strange("a scan")),
        }
    }
    Ok(page.finish())
}

#[async_trait]
impl Store for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn set(&self, object: Object) -> Result<()> {
        LIMITS.check_object(&object)?;
        self.make(&[Change::put(object.key, object.value)]).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let mut objects = self.get_many(std::slice::from_ref(key)).await?;
        Ok(objects.pop().flatten())
    }

    async fn scan(&self, scan: Scan) -> Result<Page> {
        let answer = self.read(self.client.names.scan(&scan)).await?;
        page(&scan, answer)
    }

    async fn remove(&self, object: &Object) -> Result<()> {
        LIMITS.check_key(&object.key)?;
        self.make(&[Change::remove(object.key.clone())]).await
    }

    async fn delete(&self, prefix: &Key) -> Result<()> {
        loop {
            let command = self.client.names.delete(prefix);
            match self.one(command, Effect::Write).await? {
                Value::Int(removed) if usize::try_from(removed) == Ok(DELETED_AT_ONCE) => {}
                Value::Int(_) => return Ok(()),
                _ => return Err(error::strange("a deletion")),
            }
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Object>>> {
        for key in keys {
            LIMITS.check_key(key)?;
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let Value::Array(values) = self.read(self.client.names.get(keys)).await? else {
            return Err(error::strange("a get"));
        };
        if values.len() != keys.len() {
            return Err(error::strange("a get"));
        }
        let objects = keys.iter().zip(values).map(|(key, value)| match value {
            Value::BulkString(value) => Ok(Some(Object::new(key.clone(), Bytes::from(value)))),
            Value::Nil => Ok(None),
            _ => Err(error::strange("a get")),
        });
        objects.collect()
    }

    async fn scan_many(&self, scans: Vec<Scan>) -> Result<Vec<Page>> {
        let commands: Vec<Cmd> = scans.iter().map(|s| self.client.names.scan(s)).collect();
        let answers = self.client.run(&commands, Effect::Read).await;
        let pages = scans.iter().zip(answers);
        pages.map(|(scan, answer)| page(scan, answer?)).collect()
    }

    async fn start(&self) -> Result<()> {
        if self.client.is_stopped() {
            return Err(error::closed());
        }
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.client.stop();
        self.watching.stop();
        Ok(())
    }

    async fn health(&self) -> Result<Health> {
        health::examine(&self.client).await
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }
}

#[async_trait]
impl Atomic for Redis {
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        check_commit(&changes, &LIMITS)?;
        if changes.is_empty() && !self.client.is_stopped() {
            return Ok(());
        }
        self.make(&changes).await
    }

    async fn commit_all(&self, commits: Vec<Vec<Change>>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(commits.len());
        let (mut places, mut commands) = (Vec::new(), Vec::new());
        for changes in commits {
            let checked = check_commit(&changes, &LIMITS);
            if checked.is_ok() && !changes.is_empty() {
                places.push(outcomes.len());
                commands.push(self.client.names.commit(&changes));
            }
            outcomes.push(checked);
        }
        let answers = self.client.run(&commands, Effect::Write).await;
        for (place, answer) in places.into_iter().zip(answers) {
            if let Some(at) = outcomes.get_mut(place) {
                *at = answer.and_then(outcome);
            }
        }
        outcomes
    }
}

#[async_trait]
impl Watch for Redis {
    async fn watch(&self, prefix: &Key) -> Result<Watcher> {
        self.watching.watch(prefix).await
    }
}
