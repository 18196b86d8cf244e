//! Everything that can be read of a store, and what must hold in it.

use kvjob::clock::Timestamp;
use kvjob::job::QueueStore as _;
use kvjob::job::{
    CheckEvent, Error, Job, JobId, LogLine, LogQuery, LogStore as _, Query, StateStore as _,
};

use crate::side::{Side, all_pages};

impl Side {
    pub async fn all_jobs(&self) -> Result<Vec<Job>, Error> {
        let query = Query::new().limit(7);
        let read = async |cursor| self.f.jobs.lookup(&query.clone().cursor(cursor)).await;
        all_pages(read).await
    }

    /// Counts, the queue, what was put aside, and of each job its header and its history, whose
    /// numbers have no gap but where steps were cleared.
    pub async fn state(&self) -> Result<Vec<String>, Error> {
        let jobs = &self.f.jobs;
        let queue = all_pages(async |cursor| jobs.list(3, cursor).await).await?;
        let queue: Vec<_> = queue.iter().map(|job| job.id).collect();
        let aside = all_pages(async |cursor| jobs.quarantine(2, cursor).await).await?;
        let stats = jobs.stats().await?;
        let mut lines = vec![self.said(&queue), self.said(&aside), self.said(&stats)];
        for job in self.all_jobs().await? {
            let history = jobs.history(job.id).await?;
            let unbroken = (0..)
                .zip(&history)
                .all(|(number, step)| step.number == number);
            assert!(unbroken || self.cleared, "a gap in {history:?}");
            lines.push(self.said(&(job, history)));
        }
        Ok(lines)
    }

    /// The state, and every log.
    pub async fn summary(&self) -> Result<Vec<String>, Error> {
        let mut lines = self.state().await?;
        for number in 0..self.ids.len() {
            lines.push(self.said(&self.log(self.id(number), 3).await?));
        }
        Ok(lines)
    }

    /// A job's log.
    pub async fn log(&self, id: JobId, limit: usize) -> Result<Vec<LogLine>, Error> {
        let query = LogQuery::new(id).limit(limit);
        let read = async |cursor| self.f.jobs.logs(&query.clone().cursor(cursor)).await;
        let mut lines = by_milliseconds(all_pages(read).await?);
        for line in &mut lines {
            assert_eq!(line.job, id, "a line of another job");
            // A job may have another id elsewhere.
            line.job = JobId::from_bytes([0; 16]);
        }
        Ok(lines)
    }

    /// What a check finds.
    pub async fn findings(&self, repair: bool) -> Result<Vec<String>, Error> {
        let mut findings = Vec::new();
        let checked = self.f.jobs.check(repair, |event| {
            if let CheckEvent::Found(finding) = event {
                findings.push((finding.damage, finding.job));
            }
        });
        checked.await?;
        Ok(findings.iter().map(|finding| self.said(finding)).collect())
    }
}

/// Two lines never have the same microsecond, so that a line that was tried again may be some
/// later: they are compared by milliseconds.
pub fn by_milliseconds(mut lines: Vec<LogLine>) -> Vec<LogLine> {
    for line in &mut lines {
        let micros = line.at.as_micros();
        line.at = Timestamp::from_micros(micros - micros % 1000);
    }
    lines
}
