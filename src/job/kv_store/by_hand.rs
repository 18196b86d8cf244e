//! Changing jobs by hand: what stands behind the methods of [`QueueStore`](crate::job::QueueStore)
//! that take ids, keys or the names of workers.

use std::collections::HashSet;
use std::sync::Arc;

use super::KvStore;
use super::state::readable;
use crate::job::header::{self, Header, Phase};
use crate::job::ops::Operation;
use crate::job::ops::complete_job::CompleteJob;
use crate::job::ops::fail_job::FailJob;
use crate::job::ops::remove_job::RemoveJob;
use crate::job::ops::reschedule::RescheduleJob;
use crate::job::ops::unlock::Unlock;
use crate::job::plan::WorkerRecord;
use crate::job::{Job, JobId, Lease, Reschedule, Result};
use crate::kv::{Key, Scan};

/// Why a job failed where nobody says.
const MARKED_AS_FAILED: &str = "Manually marked as failed";
/// Jobs that are on their way to the planner at once.
const PAGE: usize = 1024;

impl KvStore {
    pub(super) async fn remove_by_key(&self, tenant: &str, key: &str) -> Result<Option<Job>> {
        let (tenant, key) = (tenant.to_owned(), key.to_owned());
        self.run(RemoveJob { tenant, key }).await
    }

    pub(super) async fn complete_by_hand(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        self.change_each(ids, CompleteJob).await
    }

    pub(super) async fn fail_by_hand(
        &self,
        ids: &[JobId],
        reason: Option<&str>,
    ) -> Result<Vec<Job>> {
        let reason: Arc<str> = reason.unwrap_or(MARKED_AS_FAILED).into();
        let fail = |id| FailJob {
            id,
            reason: Arc::clone(&reason),
        };
        self.change_each(ids, fail).await
    }

    pub(super) async fn reschedule_by_hand(
        &self,
        ids: &[JobId],
        to: Reschedule,
    ) -> Result<Vec<Job>> {
        to.check()?;
        let reschedule = |id| RescheduleJob { id, to: to.clone() };
        self.change_each(ids, reschedule).await
    }

    pub(super) async fn unlock_by_hand(&self, workers: &[String]) -> Result<Vec<Job>> {
        let workers: Arc<[String]> = workers.into();
        let mut jobs = Vec::new();
        loop {
            let taken = self.run(Unlock(Arc::clone(&workers))).await?;
            jobs.extend(taken.jobs);
            if !taken.more {
                return Ok(jobs);
            }
        }
    }

    /// Those of these leases of our own that are over. A job leaves its worker record only when its
    /// lease has ended (rule 6), so that the few records we have tell that most live; of the others
    /// the headers tell.
    pub(super) async fn lost_leases(&self, leases: &[Lease]) -> Result<Vec<Lease>> {
        let mut living = HashSet::new();
        let mut scan = Scan::prefix(self.0.keys.workers_of(&self.0.incarnation));
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for object in &page.objects {
                // One that cannot be read is put aside by whoever claims.
                if let Ok(record) = header::decode::<WorkerRecord>(&object.key, &object.value) {
                    let entries = record.entries.iter();
                    living.extend(entries.map(|entry| (entry.id(), entry.epoch)));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => break,
            }
        }
        let mut doubtful = leases.to_vec();
        doubtful.retain(|lease| !living.contains(&(lease.id, lease.epoch)));
        if doubtful.is_empty() {
            return Ok(doubtful);
        }
        let keys: Vec<Key> = doubtful
            .iter()
            .map(|lease| self.0.keys.job(lease.id))
            .collect();
        let mut headers = self.0.store.get_many(&keys).await?.into_iter();
        doubtful.retain(|lease| match headers.next().flatten() {
            Some(object) => match Header::decode(&object.key, &object.value) {
                Ok(header) => header.phase != Phase::Running || header.epoch != lease.epoch,
                // Nobody knows what it says.
                Err(_) => false,
            },
            None => true,
        });
        Ok(doubtful)
    }

    /// Changes each of these jobs, in few commits, and returns those that were changed (rule 22).
    async fn change_each<O: Operation<Output = Option<Job>>>(
        &self,
        ids: &[JobId],
        change: impl Fn(JobId) -> O,
    ) -> Result<Vec<Job>> {
        let mut changed = Vec::new();
        for page in ids.chunks(PAGE) {
            let operations = page.iter().copied().map(&change).collect();
            let jobs = readable(self.run_each(operations).await?)?;
            changed.extend(jobs.into_iter().flatten());
        }
        Ok(changed)
    }
}
