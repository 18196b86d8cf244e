//! Answers that come page by page.

use kvjob::job::{Cursor, Page, Result as JobResult};

use crate::args::{Global, Pages};
use crate::error::Result;
use crate::output::{self, Out};
use crate::store;

/// How many are asked for at once.
const PAGE: usize = 500;

/// Prints what is asked for. Says how to go on, in these words, where there may be more, and that
/// there are none of `what`.
pub(super) async fn print<T>(
    global: &Global,
    pages: &Pages,
    (what, words): (&str, String),
    ask: impl AsyncFn(usize, Option<Cursor>) -> JobResult<Page<T>>,
    mut one: impl FnMut(&mut Out, &T, bool) -> Result<()>,
) -> Result<()> {
    let mut out = Out::new();
    let mut cursor = pages.cursor.clone();
    let mut left = if pages.all {
        usize::MAX
    } else {
        pages.limit.get()
    };
    let mut is_first = true;
    loop {
        let page = ask(left.min(PAGE), cursor).await?;
        for item in &page.items {
            one(&mut out, item, is_first)?;
            is_first = false;
        }
        out.flush()?;
        left = left.saturating_sub(page.items.len());
        cursor = page.next;
        if cursor.is_none() || left == 0 {
            break;
        }
    }
    if let Some(cursor) = cursor {
        let words = format!("{words} --limit {} --cursor {cursor}", pages.limit);
        let more = store::command(global, &words);
        output::note(&format!("there may be more: {more}"));
    } else if is_first && !global.json {
        output::note(&format!("no such {what}"));
    }
    Ok(())
}
