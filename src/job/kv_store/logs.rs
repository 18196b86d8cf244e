//! [`LogStore`] of a [`KvStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KvStore;
use super::request::Request;
use crate::clock::Timestamp;
use crate::encoding::tuple::{DecodeError, Reader, Tuple};
use crate::job::header;
use crate::job::keys::Space;
use crate::job::log::StoredLine;
use crate::job::ops::settle::Settle;
use crate::job::{Cursor, Error, JobId, Level, LogLine, LogQuery, LogStore, Page, Result};
use crate::kv::{Object, Scan};

/// The largest log line, message and fields together.
const MAX_LINE: usize = 256 << 10;
/// The most lines one page of answers looks at.
const MOST_LOOKED_AT: usize = 10_000;

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
        self.send(Request::Line(self.0.keys.log(id, at, writer, &line)))
            .await
    }

    async fn logs(&self, query: &LogQuery) -> Result<Page<LogLine>> {
        // What was logged before is read. A store that is stopped has nothing left to store.
        match self.run(Settle).await {
            Ok(()) | Err(Error::Stopped) => {}
            Err(error) => return Err(error),
        }
        let keys = &self.0.keys;
        let prefix = match query.id {
            Some(id) => keys.logs(id),
            None => keys.prefix(Space::Log),
        };
        let mut scan = Scan::prefix(prefix);
        if let Some(cursor) = &query.cursor {
            let (id, at, writer) = read_cursor(cursor, query.id)?;
            scan = scan.after(keys.log_after(id, at, Some(writer)));
        } else if let (Some(id), Some(after)) = (query.id, query.after) {
            scan = scan.after(keys.log_after(id, after, None));
        }
        let (mut lines, mut looked_at) = (Vec::new(), 0);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for (index, object) in page.objects.iter().enumerate() {
                let (line, writer) = match (self.line(object), query.id) {
                    (Ok(read), _) => read,
                    (Err(error), Some(_)) => return Err(error),
                    (Err(error), None) => {
                        tracing::warn!("left out: {error}");
                        continue;
                    }
                };
                if query.id.is_some() && query.before.is_some_and(|before| line.at >= before) {
                    return Ok(Page::new(lines, None));
                }
                let (id, at) = (line.job, line.at);
                if query.matches(&line) {
                    lines.push(line);
                }
                looked_at += 1;
                if lines.len() >= query.limit || looked_at >= MOST_LOOKED_AT {
                    let more = index + 1 < page.objects.len() || page.next.is_some();
                    let next = more.then(|| write_cursor(id, at, writer));
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

impl KvStore {
    /// A line as it is stored, and its writer.
    fn line(&self, object: &Object) -> Result<(LogLine, u64)> {
        let job = self.0.keys.owner(Space::Log, &object.key)?;
        let (at, writer, body) = self.0.keys.read_log(job, object)?;
        let StoredLine {
            level,
            message,
            fields,
        } = header::decode(&object.key, body)?;
        let line = LogLine {
            job,
            at,
            level,
            message,
            fields,
        };
        Ok((line, writer))
    }
}

/// The cursor behind a line: the job, and the line's time and writer.
fn write_cursor(id: JobId, at: Timestamp, writer: u64) -> Cursor {
    let line = Tuple::new().uuid(id.as_bytes()).int(at.as_micros());
    Cursor::from_bytes(&line.uint(writer).finish())
}

/// Reads one, of this job if of one.
fn read_cursor(cursor: &Cursor, id: Option<JobId>) -> Result<(JobId, Timestamp, u64)> {
    let bytes = cursor.to_bytes().unwrap_or_default();
    let mut reader = Reader::new(&bytes);
    let read = (|| {
        let line = (
            JobId::from_bytes(reader.read_uuid()?),
            Timestamp::from_micros(reader.read_i64()?),
            reader.read_u64()?,
        );
        reader.finish()?;
        Ok::<_, DecodeError>(line)
    })();
    match read {
        Ok(line) if id.is_none_or(|id| id == line.0) => Ok(line),
        _ => Err(Error::invalid(
            "bad-cursor",
            format!("{cursor} is no cursor of this log"),
        )),
    }
}
