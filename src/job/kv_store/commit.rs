//! Committing a plan, and finding out what became of it where the answer is lost (protocol rule 2).

use super::super::JobId;
use super::super::header::{self, Header};
use super::super::ops::sweep::Walks;
use super::super::plan::{Effect, Plan};
use super::planner::{MOST_TRIES, Planner};
use crate::clock::Timestamp;
use crate::kv::{self, ErrorKind};

/// What became of a commit whose answer was lost.
enum Landed {
    Yes,
    No,
    CannotTell,
}

impl Planner {
    /// Commits; where the answer is lost, finds out what became of it (rule 2).
    pub(super) async fn commit(
        &self,
        atomic: &dyn kv::Atomic,
        plan: &Plan,
        token: u64,
    ) -> kv::Result<()> {
        let mut in_doubt = None;
        for tries in 1.. {
            let Err(mut error) = atomic.commit(plan.changes.clone()).await else {
                break;
            };
            if in_doubt.is_some() && matches!(error.kind(), ErrorKind::ConditionFailed { .. }) {
                // Only this says for certain that the first try landed, or did not.
                match self.landed(plan, token).await {
                    Ok(Landed::Yes) => break,
                    Ok(Landed::No) => return Err(error),
                    // Nobody will ever know more.
                    Ok(Landed::CannotTell) => return Err(in_doubt.unwrap_or(error)),
                    Err(unread) => error = unread,
                }
            }
            if error.maybe_applied() {
                in_doubt = Some(error.clone());
            }
            let Some(unknown) = &in_doubt else {
                return Err(error);
            };
            // In doubt, only these very changes may be tried again: another plan would not know
            // itself in what landed.
            let passes = error.is_retryable() || error.maybe_applied();
            if !passes || tries >= MOST_TRIES {
                return Err(unknown.clone());
            }
            self.pause(tries).await;
        }
        Ok(())
    }

    /// Whether the token is in any header the commit wrote, in a step if the header was written
    /// again since, or in what a sweep wrote.
    ///
    /// A header that the commit removed says nothing any more. But while the lease of the job lasts
    /// nobody else can end, and so remove it; after that, or where there was none, somebody may
    /// have.
    async fn landed(&self, plan: &Plan, token: u64) -> kv::Result<Landed> {
        let mut landed = Landed::No;
        for change in &plan.changes {
            let is_walk = change.key == self.keys.retention();
            let id = self.keys.job_id(&change.key).ok();
            if id.is_none() && !is_walk {
                continue;
            }
            let written = match self.store.get(&change.key).await? {
                Some(object) if is_walk => header::decode::<Walks>(&object.key, &object.value)
                    .is_ok_and(|walks| walks.token == token),
                Some(object) => Header::decode(&object.key, &object.value).is_ok_and(|header| {
                    let mut steps = header.history.steps.iter();
                    header.token == token || steps.any(|step| step.token == token)
                }),
                None => match id.and_then(|id| lease_of_removed(plan, id)) {
                    Some(until) if self.clock.now() < until => true,
                    Some(_) => {
                        landed = Landed::CannotTell;
                        false
                    }
                    None => false,
                },
            };
            if written {
                return Ok(Landed::Yes);
            }
        }
        Ok(landed)
    }
}

/// Until when nobody but its holder could end the job that the plan removed.
fn lease_of_removed(plan: &Plan, id: JobId) -> Option<Timestamp> {
    plan.effects.iter().find_map(|effect| match effect {
        Effect::Removed {
            id: gone,
            lease_until,
        } if *gone == id => Some(*lease_until),
        _ => None,
    })
}
