//! [`LogStore`] of a [`KvStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KvStore;
use super::request::Request;
use crate::clock::Timestamp;
use crate::encoding::tuple::{DecodeError, Reader, Tuple};
use crate::job::header;
use crate::job::keys::Space;
use crate::job::log::{self, Place, StoredLine};
use crate::job::ops::clear_logs::ClearLogs;
use crate::job::ops::settle::Settle;
use crate::job::{Cursor, Error, JobId, Level, LogLine, LogQuery, LogStore, Page, Result};
use crate::kv::Scan;

/// The largest log line, message and fields together.
const MAX_LINE: usize = 256 << 10;
/// The most lines one page of answers looks at.
const MOST_LOOKED_AT: usize = 10_000;
/// Lines that one commit looks at, and may remove.
const CLEARED_AT_ONCE: usize = 128;

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
        let mut scan = self.lines(query)?;
        let (mut lines, mut looked_at) = (Vec::new(), 0);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for (index, object) in page.objects.iter().enumerate() {
                let Some((line, place)) = log::read_for(query, keys, object)? else {
                    continue;
                };
                if query.is_behind(&line) {
                    return Ok(Page::new(lines, None));
                }
                if query.matches(&line) {
                    lines.push(line);
                }
                looked_at += 1;
                if lines.len() >= query.limit || looked_at >= MOST_LOOKED_AT {
                    let more = index + 1 < page.objects.len() || page.next.is_some();
                    let next = more.then(|| write_cursor(place));
                    return Ok(Page::new(lines, next));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok(Page::new(lines, None)),
            }
        }
    }

    async fn clear_logs(&self, query: &LogQuery) -> Result<Page<LogLine>> {
        let mut scan = self.lines(query)?.limit(CLEARED_AT_ONCE);
        let (mut lines, mut looked_at, mut last) = (Vec::new(), 0, None);
        loop {
            let part = self.run(ClearLogs {
                query: query.clone(),
                scan: scan.clone(),
                most: query.limit.saturating_sub(lines.len()),
            });
            let part = part.await?;
            lines.extend(part.lines);
            looked_at += part.looked_at;
            last = part.last.or(last);
            if !part.more {
                return Ok(Page::new(lines, None));
            }
            if let Some(last) = last
                && (lines.len() >= query.limit || looked_at >= MOST_LOOKED_AT)
            {
                return Ok(Page::new(lines, Some(write_cursor(last))));
            }
            scan = scan.after(part.read_to);
        }
    }
}

impl KvStore {
    /// What is read of the logs for a query.
    fn lines(&self, query: &LogQuery) -> Result<Scan> {
        let keys = &self.0.keys;
        let scan = Scan::prefix(match query.id {
            Some(id) => keys.logs(id),
            None => keys.prefix(Space::Log),
        });
        Ok(if let Some(cursor) = &query.cursor {
            let Place { job, at, writer } = read_cursor(cursor, query.id)?;
            scan.after(keys.log_after(job, at, Some(writer)))
        } else if let (Some(id), Some(after)) = (query.id, query.after) {
            scan.after(keys.log_after(id, after, None))
        } else {
            scan
        })
    }
}

/// The cursor behind a line: the job, and the line's time and writer.
fn write_cursor(behind: Place) -> Cursor {
    let Place { job, at, writer } = behind;
    let line = Tuple::new().uuid(job.as_bytes()).int(at.as_micros());
    Cursor::from_bytes(&line.uint(writer).finish())
}

/// Reads one, of this job if of one.
fn read_cursor(cursor: &Cursor, id: Option<JobId>) -> Result<Place> {
    let bytes = cursor.to_bytes().unwrap_or_default();
    let mut reader = Reader::new(&bytes);
    let read = (|| {
        let place = Place {
            job: JobId::from_bytes(reader.read_uuid()?),
            at: Timestamp::from_micros(reader.read_i64()?),
            writer: reader.read_u64()?,
        };
        reader.finish()?;
        Ok::<_, DecodeError>(place)
    })();
    match read {
        Ok(place) if id.is_none_or(|id| id == place.job) => Ok(place),
        _ => Err(Error::invalid(
            "bad-cursor",
            format!("{cursor} is no cursor of this log"),
        )),
    }
}
