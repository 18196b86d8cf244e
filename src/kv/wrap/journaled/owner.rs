//! Who has the store: taking it over, finishing what an owner before has left, noticing that
//! another one came.

use futures::FutureExt as _;

use super::hidden::{OWNER, RECORDS};
use super::record::{self, Left, Mark, MarkState, Owner, Unreadable, Write};
use super::shared::{Shared, State};
use crate::clock::{Clock as _, SystemClock};
use crate::kv::{Error, ErrorKind, Key, Object, Result, Scan, Store};

/// A record that was found.
struct Found {
    object: Object,
    owner: Owner,
    number: u64,
    writes: Vec<Write>,
}

impl<S: Store> Shared<S> {
    /// Makes this process the owner, and finishes what an owner before it has left.
    pub(super) async fn take_over(&self, state: &mut State) -> Result<()> {
        self.answer(async { self.inner.start().await }).await?;
        let newest = self.marks().await?.into_iter().max_by_key(Mark::age);
        let left = newest.as_ref().and_then(Mark::left);
        // Before anything is written: what cannot be read is left alone.
        self.records().await?;
        let mut mark = Mark {
            term: newest.map_or(1, |mark| mark.term.saturating_add(1)),
            owner: random(),
            state: MarkState::TakingOver(left),
        };
        self.write_mark(&mark).await?;
        // From here on the owner before reads this mark after it wrote a record, and applies
        // nothing of it: what it may have begun to apply is there to be found.
        let found = self.records().await?;
        let unfinished = self.unfinished(&found, left)?;
        for record in &found {
            let key = &record.object.key;
            if unfinished.is_some_and(|unfinished| unfinished.object.key == *key) {
                tracing::info!(store = self.inner.name(), %key, "finishes a commit that was cut short");
                self.apply(&record.writes).await.map_err(|error| {
                    error.context(format_args!(
                        "{}: a commit that was cut short, whose record is under {key}, could not be finished",
                        self.inner.name()
                    ))
                })?;
            } else {
                tracing::warn!(store = self.inner.name(), %key, "drops the record of a commit that was finished or never begun");
            }
        }
        for record in &found {
            self.insist_on_remove(&record.object).await?;
        }
        if !self.owns(&mark).await? {
            return Err(self.lost());
        }
        mark.state = MarkState::Opened(0);
        self.write_mark(&mark).await?;
        state.mark = Some(mark);
        Ok(())
    }

    /// Of the records that were found the one whose commit may be half applied.
    ///
    /// An owner begins a commit when the one before is finished, so that only its last record
    /// counts; and what another owner wrote after the store was taken over it did not apply.
    fn unfinished<'a>(&self, found: &'a [Found], left: Option<Left>) -> Result<Option<&'a Found>> {
        if let Some(left) = left {
            let own = found.iter().filter(|record| record.owner == left.owner);
            return Ok(own
                .max_by_key(|record| record.number)
                .filter(|record| record.number > left.finished));
        }
        match found {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            [first, ..] => {
                let why = "there are several, and no mark of the owner says which is the last";
                Err(self.unreadable(&first.object.key, Unreadable::Damaged(why)))
            }
        }
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        let key = Key::from(OWNER);
        let marks = self.values(&key).await?;
        marks
            .iter()
            .map(|mark| Mark::decode(&key, mark).map_err(|why| self.unreadable(&key, why)))
            .collect()
    }

    /// Puts the mark in the place of all others.
    pub(super) async fn write_mark(&self, mark: &Mark) -> Result<()> {
        let key = Key::from(OWNER);
        let mark = Object::new(key.clone(), mark.encode(&key));
        self.insist_on_set(&mark).await?;
        if !self.inner.unique_keys() {
            for other in self.values(&key).await? {
                if other != mark.value {
                    self.insist_on_remove(&Object::new(key.clone(), other))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the mark in the store below is this owner's.
    pub(super) async fn owns(&self, mark: &Mark) -> Result<bool> {
        let key = Key::from(OWNER);
        let found = self.insist(|| self.values(&key).boxed()).await?;
        Ok(found == [mark.encode(&key)])
    }

    async fn records(&self) -> Result<Vec<Found>> {
        let mut records: Vec<Found> = Vec::new();
        let mut scan = Scan::prefix(RECORDS);
        loop {
            let page = self
                .read(async { self.inner.scan(scan.clone()).await })
                .await?;
            for object in page.objects {
                let key = &object.key;
                if records.last().is_some_and(|last| last.object.key == *key) {
                    let why = Unreadable::Damaged("there are several values under its key");
                    return Err(self.unreadable(key, why));
                }
                let unreadable = |why| self.unreadable(key, why);
                let (owner, number) = record::record_owner(key).map_err(unreadable)?;
                let writes = record::decode(key, &object.value).map_err(unreadable)?;
                records.push(Found {
                    object,
                    owner,
                    number,
                    writes,
                });
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(records),
            }
        }
    }

    /// Removes everything under a prefix that covers the journal's keys, but for the mark.
    pub(super) async fn delete_around_mark(&self, state: &State, prefix: &Key) -> Result<()> {
        let deleted = self.answer(async { self.inner.delete(prefix).await }).await;
        if let Some(mark) = &state.mark
            && let Err(error) = self.write_mark(mark).await
        {
            return Err(self.in_doubt("the mark of the owner could not be put back", error));
        }
        deleted
    }

    /// Closes the store, for it has another owner now.
    pub(super) fn lost(&self) -> Error {
        self.close("another owner has taken it over, or removed this one's mark".to_owned())
    }

    fn unreadable(&self, key: &Key, why: Unreadable) -> Error {
        let name = self.inner.name();
        match why {
            Unreadable::TooNew(version) => {
                let message = format!(
                    "{name}: what the journal has under {key} is of version {version}, which newer software wrote: use that to open the store"
                );
                Error::new(ErrorKind::TooNew, message)
            }
            Unreadable::Damaged(how) => {
                let message = format!(
                    "{name}: what the journal has under {key} is damaged: {how}. A commit may be half applied. \
                     Nothing was changed; to go on with what is there, remove that key from the store below"
                );
                Error::new(ErrorKind::Corrupt, message)
            }
        }
    }
}

fn random() -> Owner {
    let mut owner = Owner::default();
    let chance = [SystemClock.random(), SystemClock.random()];
    for (to, from) in owner
        .iter_mut()
        .zip(chance.iter().flat_map(|n| n.to_be_bytes()))
    {
        *to = from;
    }
    owner
}
