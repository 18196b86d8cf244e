//! Leases live on.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::super::header::{self, Phase};
use super::super::keys::KeySpace;
use super::super::plan::{Context, View, WorkerRecord};
use super::super::transition;
use super::super::{Beat, Lease, Result};
use super::Operation;
use crate::kv::Key;

/// Extends leases in their worker records; headers stay as they are.
pub(in crate::job) struct Heartbeat {
    pub(in crate::job) leases: Vec<Lease>,
    pub(in crate::job) extend: Duration,
}

#[async_trait]
impl Operation for Heartbeat {
    type Output = Vec<Beat>;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        self.leases.iter().map(|lease| keys.job(lease.id)).collect()
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<Vec<Beat>> {
        let deadline = cx.now.after(self.extend);
        let mut records: BTreeMap<Key, WorkerRecord> = BTreeMap::new();
        let mut beats = Vec::with_capacity(self.leases.len());
        for lease in &self.leases {
            let running = transition::read(cx, view, lease.id)
                .await?
                .filter(|header| header.phase == Phase::Running && header.epoch == lease.epoch);
            let Some((running, holder)) =
                running.and_then(|header| header.holder.clone().map(|holder| (header, holder)))
            else {
                beats.push(Beat::Lost);
                continue;
            };
            let key = cx.keys.worker(&holder.incarnation, holder.slot);
            if !records.contains_key(&key) {
                let record = match view.get(&key).await? {
                    Some(value) => header::decode(&key, &value)?,
                    None => WorkerRecord::default(),
                };
                records.insert(key.clone(), record);
            }
            // An expiry rewrites the record in its commit, so that one of the two fails.
            let entry = records.get_mut(&key).and_then(|record| {
                record.lease = record
                    .lease
                    .max(u64::try_from(self.extend.as_micros()).unwrap_or(u64::MAX));
                record
                    .entries
                    .iter_mut()
                    .find(|entry| entry.id() == lease.id && entry.epoch == lease.epoch)
            });
            beats.push(match entry {
                Some(entry) => {
                    entry.deadline = deadline.as_micros();
                    Beat::Extended {
                        deadline,
                        cancel_requested: running.cancel_requested,
                    }
                }
                None => Beat::Lost,
            });
        }
        for (key, record) in records {
            if !record.entries.is_empty() {
                view.replace(key, Some(header::encode(&record)?.into()));
            }
        }
        Ok(beats)
    }
}
