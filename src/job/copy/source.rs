//! A job store as the source of a copy.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Error, Result};
use super::Namespace;
use super::layout::{self, Layout};
use super::transfer::Source;
use crate::kv::{Key, Object, Scan};

/// The most that is read at once.
const PAGE_OBJECTS: usize = 4096;
const PAGE_BYTES: usize = 1 << 20;

/// Everything in a namespace but the record of its format, as it lies there.
pub(super) struct Walk<'a> {
    from: &'a Namespace,
    format: Key,
    /// `None` at the end.
    scan: Option<Scan>,
    pub(super) page: VecDeque<Object>,
}

impl<'a> Walk<'a> {
    pub(super) fn over(from: &'a Namespace) -> Self {
        let scan = Scan::prefix(from.keys.everything());
        Self {
            from,
            format: from.keys.format(),
            scan: Some(scan.limit(PAGE_OBJECTS).byte_budget(PAGE_BYTES)),
            page: VecDeque::new(),
        }
    }

    /// Reads on where nothing is left of the page.
    pub(super) async fn fill(&mut self) -> Result<()> {
        while self.page.is_empty()
            && let Some(scan) = self.scan.take()
        {
            let page = self.from.store.scan(scan.clone()).await?;
            self.scan = page.next.map(|next| scan.after(next));
            let objects = page.objects.into_iter();
            self.page = objects.filter(|o| o.key != self.format).collect();
        }
        Ok(())
    }
}

/// The records under the key of the format, of which a bag may have more than one.
pub(super) async fn formats(of: &Namespace) -> Result<Vec<Bytes>> {
    let key = of.keys.format();
    let page = of.store.scan(Scan::prefix(key.clone()).limit(2)).await?;
    let objects = page.objects.into_iter().filter(|o| o.key == key);
    let formats: Vec<Bytes> = objects.map(|object| object.value).collect();
    if formats.len() > 1 {
        let message = format!(
            "namespace {:?} has two records of its format: a check with repair puts aside the one that does not belong",
            of.name
        );
        return Err(Error::copy("no-place", message));
    }
    Ok(formats)
}

/// The records of a job store.
pub(super) struct StoreSource<'a> {
    walk: Walk<'a>,
    layout: Layout,
    format: First,
}

/// The record of the format, which comes first.
enum First {
    /// As it is stored.
    Stored,
    /// As it will be.
    Given(Bytes),
    /// It has come.
    Done,
}

impl<'a> StoreSource<'a> {
    pub(super) fn new(from: &'a Namespace) -> Self {
        Self {
            walk: Walk::over(from),
            layout: Layout::of(&from.keys),
            format: First::Stored,
        }
    }

    /// The same as it will be with this record of its format.
    pub(super) fn with_format(self, format: Bytes) -> Self {
        Self {
            format: First::Given(format),
            ..self
        }
    }

    async fn stored_format(&mut self) -> Result<Bytes> {
        let from = self.walk.from;
        if let Some(format) = formats(from).await?.pop() {
            return Ok(format);
        }
        self.walk.fill().await?;
        let message = if self.walk.page.is_empty() {
            format!("there is no job store in namespace {:?}", from.name)
        } else {
            format!(
                "nothing says in which format namespace {:?} is: a check with repair mends that, if it is a job store",
                from.name
            )
        };
        Err(Error::copy("no-job-store", message))
    }
}

#[async_trait]
impl Source for StoreSource<'_> {
    fn name(&self) -> &str {
        &self.walk.from.name
    }

    async fn page(&mut self) -> Result<Vec<Object>> {
        let format = match std::mem::replace(&mut self.format, First::Done) {
            First::Stored => self.stored_format().await?,
            First::Given(format) => format,
            First::Done => {
                self.walk.fill().await?;
                let page = self.walk.page.drain(..);
                return page.map(|object| self.layout.neutral(object)).collect();
            }
        };
        Ok(vec![Object::new(layout::format_key(), format)])
    }
}
