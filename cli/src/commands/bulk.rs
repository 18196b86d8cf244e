//! What `retry`, `cancel` and `purge` share: changing the jobs of a selection, a page at a time.

use std::process::ExitCode;

use kvjob::job::{self, Cursor, Job, JobId, Page, Query};
use serde::Serialize;

use super::NOT_ALL;
use crate::args::{Global, Which};
use crate::error::Result;
use crate::output::{self, Out, counter};
use crate::store::{Missing, Opened};

/// How many jobs are changed at once.
const PAGE: usize = 500;

/// How a change is told.
pub(super) struct Words {
    /// `retried`
    pub(super) done: &'static str,
    /// Why a job was not changed, after `ID is completed:`.
    pub(super) refused: &'static str,
}

/// A line of the answer in JSON, and the id in it.
pub(super) trait Changed: Serialize {
    fn id(&self) -> JobId;
}

impl Changed for Job {
    fn id(&self) -> JobId {
        self.id
    }
}

/// A job that is gone.
#[derive(Serialize)]
pub(super) struct Gone {
    pub(super) id: JobId,
}

impl Changed for Gone {
    fn id(&self) -> JobId {
        self.id
    }
}

/// Some of the jobs that were changed, and where the others begin.
pub(super) struct Part<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Cursor>,
}

impl<T> From<Page<T>> for Part<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            items: page.items,
            next: page.next,
        }
    }
}

/// Changes the jobs of a selection with `change`, which does a page, and tells which ones.
pub(super) async fn run<T: Changed>(
    global: &Global,
    which: &Which,
    query: Query,
    words: &Words,
    change: impl AsyncFn(&dyn job::Store, &Query) -> job::Result<Part<T>>,
) -> Result<ExitCode> {
    let store = Opened::open(global, Missing::Refuse).await?;
    let mut out = Out::new();
    let done = work(global, which, query, words, change, &store, &mut out).await;
    let closed = store.close().await;
    let code = done?;
    closed?;
    Ok(code)
}

async fn work<T: Changed>(
    global: &Global,
    which: &Which,
    query: Query,
    words: &Words,
    change: impl AsyncFn(&dyn job::Store, &Query) -> job::Result<Part<T>>,
    store: &Opened,
    out: &mut Out,
) -> Result<ExitCode> {
    let jobs = &*store.jobs;
    let mut changed = 0;
    let mut code = ExitCode::SUCCESS;
    if which.ids.is_empty() {
        let bar = counter(words.done);
        let mut query = query.limit(PAGE);
        loop {
            let page = change(jobs, &query).await?;
            changed += page.items.len() as u64;
            tell(global, out, &page.items)?;
            bar.set_position(changed);
            match page.next {
                Some(next) => query = query.cursor(next),
                None => break,
            }
        }
        bar.finish_and_clear();
    }
    for id in &which.ids {
        let page = change(jobs, &Query::new().id(*id)).await?;
        changed += page.items.len() as u64;
        tell(global, out, &page.items)?;
        if !page.items.iter().any(|item| item.id() == *id) {
            code = ExitCode::from(NOT_ALL);
            let why = match jobs.get(*id).await? {
                Some(job) => format!("job {id} is {}: {}", job.state, words.refused),
                None => format!("there is no job {id}"),
            };
            output::note(&why);
        }
    }
    if !global.json {
        out.line(&format!(
            "{}: {}",
            words.done,
            output::count(changed, "job")
        ))?;
    }
    out.flush()?;
    Ok(code)
}

fn tell<T: Changed>(global: &Global, out: &mut Out, changed: &[T]) -> Result<()> {
    if global.json {
        for item in changed {
            out.json_line(item)?;
        }
        out.flush()?;
    }
    Ok(())
}
