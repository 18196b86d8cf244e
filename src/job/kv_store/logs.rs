//! [`LogStore`] of a [`KvStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KvStore;
use super::request::Request;
use crate::job::header;
use crate::job::log::StoredLine;
use crate::job::ops::settle::Settle;
use crate::job::{Cursor, Error, JobId, Level, LogLine, LogQuery, LogStore, Page, Result};
use crate::kv::{self, Key, Scan};

/// The largest log line, message and fields together.
const MAX_LINE: usize = 256 << 10;

#[async_trait]
impl LogStore for KvStore {
    async fn log(
        &self,
        id: JobId,
        level: Level,
        message: String,
        fields: BTreeMap<String, String>,
    ) -> Result<()> {
        let size: usize = message.len()
            + fields
                .iter()
                .map(|(name, text)| name.len() + text.len())
                .sum::<usize>();
        if size > MAX_LINE.min(self.0.store.limits().value_bytes / 2) {
            return Err(Error::invalid(
                "log-line-too-large",
                format!("a log line of {size} bytes is over the limit of {MAX_LINE}: split it"),
            ));
        }
        let (at, writer) = self.0.stamps.next(self.clock());
        let line = header::encode(&StoredLine {
            level,
            message,
            fields,
        })?;
        self.send(Request::Lines(vec![(
            self.0.keys.log(id, at, writer),
            line,
        )]))
        .await
    }

    async fn logs(&self, query: &LogQuery) -> Result<Page<LogLine>> {
        // What was logged before is read. A store that is stopped has nothing left to store.
        match self.run(Settle).await {
            Ok(()) | Err(Error::Stopped) => {}
            Err(error) => return Err(error),
        }
        let mut scan = Scan::prefix(self.0.keys.logs(query.id));
        if let Some(cursor) = &query.cursor {
            let key = cursor
                .to_bytes()
                .map(Key::from)
                .filter(|key| key.starts_with(&scan.prefix));
            let key = key.ok_or_else(|| {
                Error::invalid("bad-cursor", format!("{cursor} is no cursor of this log"))
            })?;
            scan = scan.after(kv::Cursor::after(key));
        } else if let Some(after) = query.after {
            scan = scan.after(kv::Cursor::after(self.0.keys.log_before(query.id, after)));
        }
        let mut lines = Vec::new();
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for (index, object) in page.objects.iter().enumerate() {
                let at = self.0.keys.read_log(&object.key)?;
                if query.before.is_some_and(|before| at >= before) {
                    return Ok(Page::new(lines, None));
                }
                let line: StoredLine = header::decode(&object.key, &object.value)?;
                if query.levels.is_empty() || query.levels.contains(&line.level) {
                    let StoredLine {
                        level,
                        message,
                        fields,
                    } = line;
                    lines.push(LogLine {
                        at,
                        level,
                        message,
                        fields,
                    });
                }
                if lines.len() >= query.limit {
                    let more = index + 1 < page.objects.len() || page.next.is_some();
                    let next = more.then(|| Cursor::from_bytes(object.key.as_bytes()));
                    return Ok(Page::new(lines, next));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(Page::new(lines, None)),
            }
        }
    }
}
