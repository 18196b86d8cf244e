//! [`LogStore`] of a [`KvStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KvStore;
use super::request::Request;
use crate::clock::Timestamp;
use crate::encoding::tuple::{DecodeError, Reader, Tuple};
use crate::job::header;
use crate::job::log::StoredLine;
use crate::job::ops::settle::Settle;
use crate::job::{Cursor, Error, JobId, Level, LogLine, LogQuery, LogStore, Page, Result};
use crate::kv::Scan;

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
        self.send(Request::Line(self.0.keys.log(id, at, writer, &line)))
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
            let (at, writer) = read_cursor(cursor, query.id)?;
            scan = scan.after(self.0.keys.log_after(query.id, at, Some(writer)));
        } else if let Some(after) = query.after {
            scan = scan.after(self.0.keys.log_after(query.id, after, None));
        }
        let mut lines = Vec::new();
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for (index, object) in page.objects.iter().enumerate() {
                let (at, writer, body) = self.0.keys.read_log(query.id, object)?;
                if query.before.is_some_and(|before| at >= before) {
                    return Ok(Page::new(lines, None));
                }
                let line: StoredLine = header::decode(&object.key, body)?;
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
                    let next = more.then(|| write_cursor(query.id, at, writer));
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

/// The cursor behind a line: the job, and the line's time and writer.
fn write_cursor(id: JobId, at: Timestamp, writer: u64) -> Cursor {
    let line = Tuple::new().uuid(id.as_bytes()).int(at.as_micros());
    Cursor::from_bytes(&line.uint(writer).finish())
}

fn read_cursor(cursor: &Cursor, id: JobId) -> Result<(Timestamp, u64)> {
    let bytes = cursor.to_bytes().unwrap_or_default();
    let mut reader = Reader::new(&bytes);
    let read = (|| {
        let of = JobId::from_bytes(reader.read_uuid()?);
        let line = (
            Timestamp::from_micros(reader.read_i64()?),
            reader.read_u64()?,
        );
        reader.finish()?;
        Ok::<_, DecodeError>((of, line))
    })();
    match read {
        Ok((of, line)) if of == id => Ok(line),
        _ => Err(Error::invalid(
            "bad-cursor",
            format!("{cursor} is no cursor of this log"),
        )),
    }
}
