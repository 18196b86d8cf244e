//! What must hold for a job's steps: each is told once, or more often in the same words, and none
//! is missing from the first to the last, but of those that were cleared.

use std::collections::BTreeMap;

use super::super::header::{self, Header, StoredStep};
use super::super::{Error, JobId, Result};
use super::{Damage, Fix, Problem, Read, Rules, read};
use crate::kv::Object;

/// Holds the steps in a job's chunks against those in its header.
pub(super) fn history(
    rules: &Rules<'_>,
    id: JobId,
    header: &Header,
    chunks: Vec<Object>,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let mut told: BTreeMap<u32, StoredStep> = BTreeMap::new();
    for step in &header.history.steps {
        told.insert(step.number, step.clone());
    }
    for object in chunks {
        let problem = |damage, message, fix| Problem {
            damage,
            key: object.key.clone(),
            job: Some(id),
            message,
            fix,
        };
        let steps = match rules.keys.read_history(id, &object) {
            Ok(body) => match read::<Vec<StoredStep>>(&object.key, body) {
                Read::Good(steps) => steps,
                // What it says of the others is for newer software to know.
                Read::TooNew => return Ok(()),
                Read::Bad(error) => {
                    let fix = Fix::PutAside(object.clone());
                    problems.push(problem(Damage::CorruptHistory, error.to_string(), fix));
                    continue;
                }
            },
            Err(Error::Store(error)) => {
                let fix = Fix::PutAside(object.clone());
                problems.push(problem(Damage::CorruptHistory, error.to_string(), fix));
                continue;
            }
            Err(error) => return Err(error),
        };
        let differs = |step: &StoredStep| told.get(&step.number).is_some_and(|one| one != step);
        if let Some(step) = steps.iter().find(|step| differs(step)) {
            let message = format!("step {} of the job is told in two ways", step.number);
            let news: Vec<StoredStep> = steps
                .iter()
                .filter(|step| !told.contains_key(&step.number))
                .cloned()
                .collect();
            let fix = match news.first() {
                Some(first) => Fix::Rewrite {
                    value: rechunked(rules, id, first.number, &news)?,
                    object: object.clone(),
                    put_aside: true,
                },
                None => Fix::PutAside(object.clone()),
            };
            problems.push(problem(Damage::HistoryDisagrees, message, fix));
        }
        for step in steps {
            told.entry(step.number).or_insert(step);
        }
    }
    let counted = told
        .last_key_value()
        .map_or(0, |(last, _)| last.saturating_add(1));
    if counted > header.history.next {
        problems.push(Problem {
            damage: Damage::HeaderDisagrees,
            key: rules.keys.job(id),
            job: Some(id),
            message: format!(
                "the job's history has {counted} steps, its header says {}",
                header.history.next
            ),
            fix: Fix::CountFrom(counted),
        });
    }
    let gaps = gaps(&told, header.history.cleared, header.history.next);
    if !gaps.is_empty() {
        problems.push(gap(rules, id, header, gaps));
    }
    Ok(())
}

/// The value of a chunk that is written again at its place.
fn rechunked(rules: &Rules<'_>, id: JobId, first: u32, steps: &[StoredStep]) -> Result<Vec<u8>> {
    let chunk = header::encode(&steps)?;
    Ok(rules.keys.history(id, first, &chunk).value.to_vec())
}

/// The runs of numbers from `from` on and below `next` that nobody tells of: first and last.
fn gaps(told: &BTreeMap<u32, StoredStep>, from: u32, next: u32) -> Vec<(u32, u32)> {
    let mut gaps = Vec::new();
    let mut expected = from;
    for number in told.keys().copied().chain([next]) {
        if number > expected && expected < next {
            gaps.push((expected, number.min(next) - 1));
        }
        expected = expected.max(number.saturating_add(1));
    }
    gaps
}

/// The most steps that are replaced by notes: more are no damage to a history, but to the number
/// of its steps.
const MOST_NOTES: u32 = 1000;

fn gap(rules: &Rules<'_>, id: JobId, header: &Header, gaps: Vec<(u32, u32)>) -> Problem {
    let missing = gaps.iter().fold(0u32, |sum, (first, last)| {
        sum.saturating_add(last.saturating_sub(*first).saturating_add(1))
    });
    let (first, last) = gaps.first().copied().unwrap_or_default();
    Problem {
        damage: Damage::HistoryGap,
        key: rules.keys.history(id, first, &[]).key,
        job: Some(id),
        message: format!(
            "{missing} of the {} steps of the job's history are gone, first those from {first} to {last}",
            header.history.next
        ),
        fix: if missing > MOST_NOTES {
            Fix::Leave("so many cannot be: look at the job, and purge it when it has ended")
        } else {
            Fix::Fill(gaps)
        },
    }
}

/// The steps that stand in the place of lost ones, and say so. They have the state and time of the
/// earliest step that is left, for want of better.
pub(super) fn notes(header: &Header, first: u32, last: u32) -> Vec<StoredStep> {
    let near = header.history.steps.first();
    (first..=last)
        .map(|number| StoredStep {
            number,
            at: near.map_or(header.created_at, |step| step.at),
            state: near.map_or(super::super::State::Created, |step| step.state),
            attempt: near.map_or(0, |step| step.attempt),
            token: 0,
            cleared: false,
            is_error: false,
            reason: Some("lost: a check found nothing here".to_owned()),
            worker: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(numbers: &[u32]) -> BTreeMap<u32, StoredStep> {
        let step = |number| StoredStep {
            number,
            at: 0,
            state: super::super::super::State::Created,
            attempt: 0,
            token: 0,
            cleared: false,
            is_error: false,
            reason: None,
            worker: None,
        };
        numbers.iter().map(|one| (*one, step(*one))).collect()
    }

    #[test]
    fn gaps_are_found_wherever_they_are() {
        assert!(gaps(&told(&[0, 1, 2]), 0, 3).is_empty());
        assert!(gaps(&told(&[]), 0, 0).is_empty());
        assert_eq!(gaps(&told(&[]), 0, 3), [(0, 2)]);
        assert_eq!(gaps(&told(&[2, 3]), 0, 4), [(0, 1)]);
        assert_eq!(gaps(&told(&[0, 3, 5]), 0, 8), [(1, 2), (4, 4), (6, 7)]);
        assert!(gaps(&told(&[0, 1, 5]), 0, 2).is_empty());
        assert_eq!(gaps(&told(&[9]), 0, 3), [(0, 2)]);
        assert_eq!(gaps(&told(&[0]), 0, u32::MAX), [(1, u32::MAX - 1)]);
        assert!(gaps(&told(&[2]), 3, 3).is_empty());
        assert!(gaps(&told(&[]), 9, 3).is_empty());
        assert_eq!(gaps(&told(&[1, 3, 5]), 3, 6), [(4, 4)]);
    }
}
