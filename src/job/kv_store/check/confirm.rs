//! What looked wrong is looked at again within a plan, mended where that was asked for, and told.

use super::Check;
use crate::job::check::{CheckEvent, Damage, Finding};
use crate::job::keys::Space;
use crate::job::ops::mend::{Mend, Mended, Subject};
use crate::job::ops::purge::{Purge, Purged};
use crate::job::{JobId, Result};
use crate::kv::Key;

/// Job keys that were found wrong, remembered so that they are not told twice.
const MOST_TOLD: usize = 10_000;

impl<T: FnMut(CheckEvent) + Send> Check<'_, T> {
    /// Looks again at what looked wrong, mends it where that was asked for, and tells of it.
    pub(super) async fn confirm(&mut self, suspects: Vec<Subject>) -> Result<()> {
        let mut repair = self.repair;
        // With each, what was told of it: what cannot be mended is found in every round.
        let mut suspects: Vec<(Subject, Vec<Finding>)> = suspects
            .into_iter()
            .map(|subject| (subject, Vec::new()))
            .collect();
        while !suspects.is_empty() {
            let mends = suspects.iter().map(|(subject, _)| Mend {
                subject: subject.clone(),
                repair,
                shared_with_newer: self.shared_with_newer,
            });
            let answers = self.jobs.run_each(mends.collect()).await?;
            let (mut again, mut progress, mut waits) = (Vec::new(), false, false);
            for ((subject, mut told), answer) in suspects.into_iter().zip(answers) {
                let Mended {
                    findings,
                    more,
                    purge,
                } = answer?;
                let before = told.clone();
                for mut finding in findings {
                    if let Some(id) = purge {
                        self.purge(id).await?;
                        finding.mended = true;
                        finding.action = Some("removed".to_owned());
                    }
                    progress |= finding.mended;
                    if finding.mended {
                        self.found(finding);
                    } else if !before.contains(&finding) {
                        told.push(finding.clone());
                        self.found(finding);
                    }
                }
                match subject {
                    subject if more => {
                        waits = true;
                        again.push((subject, told));
                    }
                    Subject::Many(space, key) if repair => {
                        let rest = self.rest_of(space, key).await?;
                        again.extend(rest.map(|subject| (subject, told)));
                    }
                    _ => {}
                }
            }
            // What waits for others that do not move is told as it stands.
            repair &= progress || !waits;
            suspects = again;
        }
        Ok(())
    }

    /// What is still to be looked at under a key of a bag from which foreign values were taken.
    async fn rest_of(&self, space: Space, key: Key) -> Result<Option<Subject>> {
        Ok(match (space, self.jobs.0.keys.job_id(&key)) {
            (Space::Format, _) => None,
            (Space::Job, Ok(id)) => Some(Subject::Job(id)),
            _ => {
                let object = self.jobs.0.store.get(&key).await?;
                object.map(|object| Subject::Entry(Some(space), object))
            }
        })
    }

    async fn purge(&self, id: JobId) -> Result<()> {
        // Only what is being removed already.
        let purge = || Purge {
            id,
            states: [].into(),
            ended_before: None,
        };
        while self.jobs.run(purge()).await? == Purged::Partly {}
        Ok(())
    }

    fn found(&mut self, finding: Finding) {
        self.checked.found += 1;
        self.checked.mended += u64::from(finding.mended);
        *self.checked.damages.entry(finding.damage).or_default() += 1;
        if self.told.len() < MOST_TOLD && finding.damage == Damage::CorruptEntry {
            self.told.insert(finding.key.clone());
        }
        (self.tell)(CheckEvent::Found(finding));
    }
}
