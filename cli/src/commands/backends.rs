//! `kvjob backends`: what a store can be.

use std::process::ExitCode;

use kvjob::kv::{Limits, Ownership};
use kvjob_any::Backend;
use serde_json::{Value, json};

use crate::args::Global;
use crate::error::Result;
use crate::output::Out;

pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let mut out = Out::new();
    let backends = kvjob_any::backends();
    if global.json {
        for backend in &backends {
            out.json_line(&as_json(backend))?;
        }
    } else {
        print(&mut out, &backends)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn shared(backend: &Backend) -> bool {
    backend.ownership == Ownership::Shared
}

fn as_json(backend: &Backend) -> Value {
    json!({
        "name": backend.name,
        "url": backend.url,
        "options": backend.options,
        "enabled": backend.is_enabled(),
        "durability": backend.durability,
        "shared": shared(backend),
        "atomic": backend.atomic,
        "watch": backend.watch,
        "limits": backend.limits.as_ref().map(|limits| json!({
            "key_bytes": limits.key_bytes,
            "value_bytes": limits.value_bytes,
            "commit_bytes": limits.commit_bytes,
            "commit_changes": limits.commit_changes,
        })),
    })
}

const COLUMNS: [&str; 8] = [
    "BACKEND",
    "BUILT IN",
    "PROCESSES",
    "ATOMIC",
    "WATCH",
    "KEY",
    "VALUE",
    "COMMIT",
];

/// What fits a column, and below it what does not.
fn print(out: &mut Out, backends: &[Backend]) -> Result<()> {
    let rows: Vec<[String; 8]> = backends.iter().map(row).collect();
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let header = COLUMNS.map(ToOwned::to_owned);
    for row in std::iter::once(&header).chain(&rows) {
        let cells = widths.iter().zip(row);
        let cells: Vec<String> = cells
            .map(|(width, cell)| format!("{cell:<width$}"))
            .collect();
        out.line(cells.join("  ").trim_end())?;
    }
    out.line("\nKEY, VALUE and COMMIT are the largest it takes.")?;
    for backend in backends {
        out.line("")?;
        out.line(backend.url)?;
        if !backend.options.is_empty() {
            out.line(&format!("  options   {}", backend.options.join(", ")))?;
        }
        out.line(&format!("  survives  {}", backend.durability))?;
    }
    out.line("\nEvery URL also takes ?namespace=NAME.")
}

fn row(backend: &Backend) -> [String; 8] {
    let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
    let limit = |of: fn(&Limits) -> String| backend.limits.as_ref().map_or("-".to_owned(), of);
    [
        backend.name.to_owned(),
        yes(backend.is_enabled()),
        if shared(backend) {
            "several"
        } else if backend.options.contains(&"shared") {
            "one, or several with ?shared"
        } else {
            "one"
        }
        .to_owned(),
        yes(backend.atomic),
        yes(backend.watch),
        limit(|limits| bytes(limits.key_bytes)),
        limit(|limits| bytes(limits.value_bytes)),
        limit(|limits| {
            let commit = bytes(limits.commit_bytes);
            format!("{commit}, {} changes", limits.commit_changes)
        }),
    ]
}

/// In the largest unit of which it is more than one, with as many digits as one cares for.
fn bytes(bytes: usize) -> String {
    let (mut unit, mut rest) = ("B", 0);
    let mut whole = bytes;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (unit, rest, whole) = (larger, whole % 1024, whole / 1024);
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {unit}"),
        tenth => format!("{whole}.{tenth} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_units_that_one_can_read() {
        for (number, text) in [
            (511, "511 B"),
            (1 << 10, "1 KiB"),
            (2704, "2.6 KiB"),
            (3 << 19, "1.5 MiB"),
            (64 << 20, "64 MiB"),
            (5 << 30, "5 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
