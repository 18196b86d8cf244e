//! A commit: its conditions, its record, its writes.

use bytes::Bytes;
use futures::FutureExt as _;

use super::hidden::OWNER;
use super::record::{self, Mark, MarkState, Takes, Write};
use super::shared::{Shared, State};
use crate::kv::{Change, Cursor, Error, ErrorKind, Expect, Key, Object, Result, Scan, Store};

impl<S: Store> Shared<S> {
    /// Applies changes that were checked for their form, or none.
    pub(super) async fn commit(&self, state: &mut State, changes: &[Change]) -> Result<()> {
        let Some(mark) = &mut state.mark else {
            return Err(self.lost());
        };
        self.check_conditions(mark, changes).await?;
        let unique_keys = self.inner.unique_keys();
        let changes = changes.iter().filter(|change| !change.is_check());
        let writes: Vec<Write> = changes.map(|c| Write::of(c, unique_keys)).collect();
        match writes.as_slice() {
            [] => return Ok(()),
            // The store below does it as one, without a record.
            [write] if write.is_one(unique_keys) => {
                return self.answer(self.apply_one(write)).await;
            }
            _ => {}
        }
        state.number += 1;
        let key = record::record_key(&mark.owner, state.number);
        let value = record::encode(&key, &writes);
        let record = Object::new(key, value);
        let half_done = HalfDone(Some(self));
        let repeated = match self
            .answer(async { self.inner.set(record.clone()).await })
            .await
        {
            Ok(()) => false,
            Err(error) if error.maybe_applied() => true,
            Err(error) => {
                half_done.disarm();
                return Err(error);
            }
        };
        let rolled = async {
            if repeated {
                self.insist_on_set(&record).await?;
            }
            // Whoever takes the store over writes its mark, and looks for records then.
            if !self.owns(mark).await? {
                self.insist_on_remove(&record).await?;
                return Ok(false);
            }
            self.apply(&writes).await?;
            self.insist_on_remove(&record).await?;
            if repeated {
                // The write whose answer was lost may still come.
                if !self.owns(mark).await? {
                    return Ok(false);
                }
                mark.state = MarkState::Opened(state.number);
                self.write_mark(mark).await?;
            }
            Ok(true)
        };
        let rolled = rolled.await;
        half_done.disarm();
        match rolled {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!(
                    "{}: the store was taken over while a commit was under way: it is applied if its new owner found it",
                    self.inner.name()
                );
                Err(Error::new(ErrorKind::Unknown, message).with_source(self.lost()))
            }
            Err::<_, Error>(error) => {
                let what =
                    "a commit could not be finished, and will be when the store is opened again";
                Err(self.in_doubt(what, error))
            }
        }
    }

    /// Checks the mark and all conditions, in one trip where the store below can.
    async fn check_conditions(&self, mark: &Mark, changes: &[Change]) -> Result<()> {
        let owner = Key::from(OWNER);
        let conditions: Vec<(usize, &Change)> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.before != Expect::Any)
            .collect();
        let (marks, held) = if self.inner.unique_keys() {
            let mut keys = vec![owner.clone()];
            keys.extend(conditions.iter().map(|(_, change)| change.key.clone()));
            let found = self
                .read(async { self.inner.get_many(&keys).await })
                .await?;
            self.check_count(keys.len(), found.len())?;
            let mut found = found
                .into_iter()
                .map(|found| found.map(|object| object.value));
            let marks: Vec<Bytes> = found.next().flatten().into_iter().collect();
            let held: Vec<bool> = conditions
                .iter()
                .zip(found)
                .map(|((_, change), value)| change.holds(value.as_deref()))
                .collect();
            (marks, held)
        } else {
            let mut scans = vec![Scan::prefix(owner.clone()).limit(2)];
            scans.extend(conditions.iter().map(|(_, change)| witness(change)));
            let count = scans.len();
            let found = self
                .read(async { self.inner.scan_many(scans).await })
                .await?;
            self.check_count(count, found.len())?;
            let mut found = found.into_iter().map(|page| page.objects);
            let marks = found.next().unwrap_or_default();
            let held = conditions
                .iter()
                .zip(found)
                .map(|((_, change), found)| holds(change, found.first()))
                .collect();
            (marks.into_iter().map(|mark| mark.value).collect(), held)
        };
        if marks != [mark.encode(&owner)] {
            return Err(self.lost());
        }
        let failed = conditions.iter().zip(held).filter(|(_, held)| !held);
        let failed: Vec<usize> = failed.map(|((index, _), _)| *index).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::condition_failed(failed))
    }

    fn check_count(&self, asked: usize, answered: usize) -> Result<()> {
        if asked == answered {
            return Ok(());
        }
        let message = format!(
            "{} was asked for {asked} things at once and answered {answered}",
            self.inner.name()
        );
        Err(Error::new(ErrorKind::Backend, message))
    }

    /// Does these writes, whatever it takes. Doing them again changes nothing.
    pub(super) async fn apply(&self, writes: &[Write]) -> Result<()> {
        for write in writes {
            self.insist(|| self.apply_one(write).boxed()).await?;
        }
        Ok(())
    }

    async fn apply_one(&self, write: &Write) -> Result<()> {
        let object = |value| Object::new(write.key.clone(), value);
        match &write.takes {
            Takes::Nothing => {}
            Takes::Value(value) => self.inner.remove(&object(value.clone())).await?,
            Takes::All if self.inner.unique_keys() => {
                self.inner.remove(&object(Bytes::new())).await?;
            }
            Takes::All => {
                for value in self.values(&write.key).await? {
                    self.inner.remove(&object(value)).await?;
                }
            }
            Takes::Digest(digest) => {
                for value in self.values(&write.key).await? {
                    if record::digest(&[&value]) == *digest {
                        self.inner.remove(&object(value)).await?;
                    }
                }
            }
        }
        match &write.puts {
            Some(value) => self.inner.set(object(value.clone())).await,
            None => Ok(()),
        }
    }
}

/// Closes the store if a commit ends where it may be half applied: with its runtime, or by a
/// panic.
struct HalfDone<'a, S: Store>(Option<&'a Shared<S>>);

impl<S: Store> HalfDone<'_, S> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<S: Store> Drop for HalfDone<'_, S> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.close(
                "a commit was cut short; it will be finished when the store is opened again"
                    .to_owned(),
            );
        }
    }
}

/// The scan of a bag whose first object says whether a condition [holds].
fn witness(change: &Change) -> Scan {
    let scan = Scan::prefix(change.key.clone()).limit(1);
    match &change.before {
        Expect::Any | Expect::Absent => scan,
        // The pair is what comes first, in reverse, from the position just behind it.
        Expect::Value(value) => {
            let behind = [value, [0].as_slice()].concat();
            let behind = Object::new(change.key.clone(), behind);
            scan.after(Cursor::after_object(&behind)).reverse()
        }
    }
}

fn holds(change: &Change, witness: Option<&Object>) -> bool {
    let witness = witness.filter(|object| object.key == change.key);
    match &change.before {
        Expect::Any => true,
        Expect::Absent => witness.is_none(),
        Expect::Value(value) => witness.is_some_and(|object| object.value == *value),
    }
}
