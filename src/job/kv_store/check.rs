//! A walk over everything in a namespace, a page at a time, which finds what is not as it must be.
//!
//! The walk reads beside everything that goes on, so that it holds nobody up. What looks wrong is
//! looked at again by the planner (`confirm`): on a store that others use, most of it has only
//! moved on.

mod confirm;

use std::collections::HashSet;
use std::sync::Arc;

use super::KvStore;
use crate::job::check::{self, CheckEvent, Checked, Fix, Rules, Verdict};
use crate::job::format::Format;
use crate::job::header::Header;
use crate::job::keys::{Space, behind};
use crate::job::ops::mend::Subject;
use crate::job::plan::View;
use crate::job::scheme::Scheme;
use crate::job::{Error, JobId, Result};
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Objects read at once.
const PAGE: usize = 256;
/// Chunks of a job's history that are read along with its header.
const CHUNKS: usize = 16;
/// Bytes of arguments and results that are kept in memory at a time.
const MOST_PAYLOADS: u64 = 4 << 20;
/// Jobs whose removal seems to have been cut off, remembered before they are looked at again.
const MOST_DELETING: usize = 1024;

/// Everything but the format, in the order in which it is mended best: worker records before the
/// jobs that have leases in them, jobs before what follows from them.
const ORDER: [Space; 17] = [
    Space::Worker,
    Space::Job,
    Space::Queue,
    Space::Retention,
    Space::Ready,
    Space::Scheduled,
    Space::Wait,
    Space::Attention,
    Space::Unique,
    Space::Signal,
    Space::Lane,
    Space::Payload,
    Space::Result,
    Space::History,
    Space::Log,
    Space::Cron,
    Space::Quarantine,
];

impl KvStore {
    /// Looks at everything stored, and with `repair` mends what is not as it must be. Each finding
    /// is told as it is made, with what was done about it.
    ///
    /// Safe beside running workers: what is told was true at one moment, and what is mended was
    /// still so when it was. The cost is linear in the store, in time; in memory it is that of a
    /// page, and of the longest history of a job.
    ///
    /// What follows from the jobs' headers is removed and built again from them. A running job
    /// without a lease gets one that runs out now, and is taken back if its worker is dead. What
    /// cannot be read, and arguments, histories and log lines that belong to no job, go to the
    /// [quarantine](crate::job::StateStore::quarantine) as raw bytes. A job whose arguments are
    /// lost goes there, too, as a claim would send it there, unless it runs. Lost steps of a
    /// history are replaced by notes that say so.
    ///
    /// What newer software wrote is counted and left alone, with what belongs to it. So is what
    /// belongs to a job that is in the quarantine.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::sync::Arc;
    /// # use kvjob::job::{CheckEvent, KvStore, Options};
    /// # let jobs = KvStore::open(Arc::new(kvjob::kv::Memory::new()), Options::default()).await?;
    /// let checked = jobs
    ///     .check(true, |event| {
    ///         if let CheckEvent::Found(finding) = event {
    ///             println!("{}: {}", finding.damage, finding.message);
    ///         }
    ///     })
    ///     .await?;
    /// assert_eq!(checked.left(), 0);
    /// # Ok::<(), kvjob::job::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`TooNew`](ErrorKind::TooNew) for a namespace from the future, or what the store says.
    /// What was mended before stays mended.
    pub async fn check(
        &self,
        repair: bool,
        tell: impl FnMut(CheckEvent) + Send,
    ) -> Result<Checked> {
        let mut check = Check {
            jobs: self,
            repair,
            tell,
            checked: Checked::default(),
            shared_with_newer: false,
            told: HashSet::new(),
        };
        let has_format = check.format().await?;
        for space in ORDER {
            check.space(space).await?;
        }
        check.elsewhere().await?;
        // Of an empty namespace nobody needs to know the format.
        if !has_format && check.checked.objects > 0 {
            check.confirm(vec![Subject::Format]).await?;
        }
        Ok(check.checked)
    }
}

struct Check<'a, T> {
    jobs: &'a KvStore,
    repair: bool,
    tell: T,
    checked: Checked,
    shared_with_newer: bool,
    told: HashSet<String>,
}

impl<T: FnMut(CheckEvent) + Send> Check<'_, T> {
    fn rules(&self) -> Rules<'_> {
        Rules {
            keys: &self.jobs.0.keys,
            now: self.jobs.clock().now(),
            max_skew: self.jobs.0.max_skew,
            shared_with_newer: self.shared_with_newer,
        }
    }

    fn is_bag(&self) -> bool {
        self.jobs.0.keys.scheme == Scheme::Bag
    }

    /// Reads the record of the format, and says whether there is one.
    async fn format(&mut self) -> Result<bool> {
        let key = self.jobs.0.keys.format();
        if self.is_bag() {
            self.confirm(vec![Subject::Many(Space::Format, key.clone())])
                .await?;
        }
        let values = View::new(&*self.jobs.0.store).read_again(&key).await?;
        let namespace = &self.jobs.0.options.namespace;
        let mut corrupt = false;
        for object in &values {
            self.checked.objects += 1;
            match Format::read(namespace, &key, &object.value) {
                Ok(format) => {
                    self.shared_with_newer = format.is_newer();
                    return Ok(true);
                }
                Err(Error::Store(error)) if *error.kind() == ErrorKind::Corrupt => corrupt = true,
                Err(error) => return Err(error),
            }
        }
        if corrupt {
            self.confirm(vec![Subject::Format]).await?;
        }
        Ok(corrupt)
    }

    /// Walks one space.
    async fn space(&mut self, space: Space) -> Result<()> {
        let shared = matches!(space, Space::History | Space::Log | Space::Quarantine);
        let mut scan = Scan::prefix(self.jobs.0.keys.prefix(space)).limit(PAGE);
        // Their values are looked at with the jobs; which ones a bag has, values tell.
        let by_key = matches!(space, Space::Payload | Space::Result | Space::History);
        if by_key && !self.is_bag() {
            scan = scan.keys_only();
        }
        let mut deleting = Vec::new();
        let mut held_back = Vec::new();
        loop {
            let page = self.jobs.0.store.scan(scan.clone()).await?;
            let count = page.objects.len() as u64;
            let mut objects = std::mem::take(&mut held_back);
            objects.extend(page.objects);
            let mut suspects = Vec::new();
            if self.is_bag() && !shared {
                let (single, many) = grouped(objects, page.next.is_some(), &mut held_back);
                objects = single;
                suspects.extend(many.into_iter().map(|key| Subject::Many(space, key)));
            }
            if space == Space::Job {
                suspects.extend(self.jobs_of(objects, &mut deleting).await?);
            } else {
                suspects.extend(self.entries(space, objects).await?);
            }
            self.confirm(suspects).await?;
            if deleting.len() >= MOST_DELETING {
                self.deleting(&mut deleting).await?;
            }
            self.checked.objects += count;
            (self.tell)(CheckEvent::Looked(self.checked.objects));
            // A store that answers at once would let nobody else run.
            tokio::task::yield_now().await;
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return self.deleting(&mut deleting).await,
            }
        }
    }

    /// The jobs of a page of headers that look wrong.
    async fn jobs_of(
        &mut self,
        objects: Vec<Object>,
        deleting: &mut Vec<Object>,
    ) -> Result<Vec<Subject>> {
        let store = Arc::clone(&self.jobs.0.store);
        let keys = &self.jobs.0.keys;
        let mut suspects = Vec::new();
        let mut batch: Vec<(JobId, Object)> = Vec::new();
        let mut wanted: Vec<Key> = Vec::new();
        let mut payloads = 0;
        let mut batches = Vec::new();
        for object in objects {
            let Ok(id) = keys.job_id(&object.key) else {
                suspects.push(Subject::Entry(Some(Space::Job), object));
                continue;
            };
            self.checked.jobs += 1;
            if let Ok(header) = Header::decode(&object.key, &object.value) {
                wanted.extend(check::reads(&self.rules(), id, &header));
                payloads += header.stored_bytes() + header.result_bytes();
            }
            batch.push((id, object));
            if payloads > MOST_PAYLOADS {
                payloads = 0;
                batches.push((std::mem::take(&mut batch), std::mem::take(&mut wanted)));
            }
        }
        batches.push((batch, wanted));
        for (batch, wanted) in batches {
            let mut view = View::new(&*store);
            view.load(&wanted).await?;
            let scans = batch.iter().map(|(id, _)| {
                let prefix = self.jobs.0.keys.histories(*id);
                Scan::prefix(prefix).limit(CHUNKS)
            });
            let chunks = view.scan_many(scans.collect()).await?;
            for ((id, object), (chunks, all)) in batch.into_iter().zip(chunks) {
                let rules = self.rules();
                let chunks = all.then_some(chunks);
                match check::job(&rules, &mut view, id, &object, chunks).await? {
                    Verdict::Sound => {}
                    Verdict::TooNew => self.checked.too_new += 1,
                    Verdict::Wrong(problems) => {
                        if problems.iter().any(|one| matches!(one.fix, Fix::Purge)) {
                            deleting.push(object);
                        } else {
                            suspects.push(Subject::Job(id));
                        }
                    }
                }
            }
        }
        Ok(suspects)
    }

    /// The objects of a page that look wrong.
    async fn entries(&mut self, space: Space, objects: Vec<Object>) -> Result<Vec<Subject>> {
        let store = Arc::clone(&self.jobs.0.store);
        let mut view = View::new(&*store);
        let rules = self.rules();
        let jobs: Vec<Key> = objects
            .iter()
            .filter_map(|object| check::job_of(&rules, space, object))
            .map(|id| rules.keys.job(id))
            .collect();
        view.load(&jobs).await?;
        let (mut suspects, mut too_new) = (Vec::new(), 0);
        for object in objects {
            match check::entry(&rules, &mut view, Some(space), &object).await? {
                Verdict::Sound => {}
                Verdict::TooNew => too_new += 1,
                // Its job has told of it.
                Verdict::Wrong(_)
                    if space == Space::Unique && self.told.contains(&object.key.to_string()) => {}
                Verdict::Wrong(_) => suspects.push(Subject::Entry(Some(space), object)),
            }
        }
        self.checked.too_new += too_new;
        Ok(suspects)
    }

    /// Objects of the namespace that lie in no space.
    async fn elsewhere(&mut self) -> Result<()> {
        let keys = &self.jobs.0.keys;
        let spaces: Vec<(Space, Key)> = Space::ALL
            .into_iter()
            .map(|space| (space, keys.prefix(space)))
            .collect();
        let mut scan = Scan::prefix(keys.everything()).limit(1);
        loop {
            let page = self.jobs.0.store.scan(scan.clone()).await?;
            let Some(object) = page.objects.into_iter().next() else {
                return Ok(());
            };
            let known = spaces.iter().find(|(space, prefix)| match space {
                Space::Format => object.key == *prefix,
                _ => object.key.starts_with(prefix),
            });
            let mut next = Cursor::after_object(&object);
            if let Some((space, prefix)) = known {
                // What else begins like the key of the format is in no space.
                let end = behind(prefix.as_bytes());
                if *space != Space::Format && *end.key() > object.key {
                    next = end;
                }
            } else {
                self.checked.objects += 1;
                let rules = self.rules();
                let store = Arc::clone(&self.jobs.0.store);
                let mut view = View::new(&*store);
                match check::entry(&rules, &mut view, None, &object).await? {
                    Verdict::Sound => {}
                    Verdict::TooNew => self.checked.too_new += 1,
                    Verdict::Wrong(_) => {
                        self.confirm(vec![Subject::Entry(None, object)]).await?;
                    }
                }
            }
            scan = scan.after(next);
        }
    }

    /// A removal that is under way goes on while the walk does; one that stands still was cut off.
    async fn deleting(&mut self, deleting: &mut Vec<Object>) -> Result<()> {
        if deleting.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = deleting.iter().map(|object| object.key.clone()).collect();
        let now = self.jobs.0.store.get_many(&keys).await?;
        let mut suspects = Vec::new();
        for (before, now) in deleting.drain(..).zip(now) {
            if now.as_ref() == Some(&before)
                && let Ok(id) = self.jobs.0.keys.job_id(&before.key)
            {
                suspects.push(Subject::Job(id));
            }
        }
        self.confirm(suspects).await
    }
}

/// Parts the objects of a bag's page into those that have their key alone, and the keys of the
/// others. What may go on in the next page is held back.
fn grouped(
    objects: Vec<Object>,
    goes_on: bool,
    held_back: &mut Vec<Object>,
) -> (Vec<Object>, Vec<Key>) {
    let (mut single, mut many) = (Vec::new(), Vec::new());
    let mut objects = objects.into_iter().peekable();
    while let Some(object) = objects.next() {
        let key = object.key.clone();
        let mut group = vec![object];
        while let Some(same) = objects.next_if(|next| next.key == key) {
            group.push(same);
        }
        if goes_on && objects.peek().is_none() {
            *held_back = group;
        } else if group.len() == 1 {
            single.extend(group);
        } else {
            many.push(key);
        }
    }
    (single, many)
}
