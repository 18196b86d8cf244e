//! `kvjob backends`: what a store can be.

use std::process::ExitCode;

use kvjob::kv::Ownership;
use kvjob_any::Backend;
use serde_json::{Value, json};

use crate::args::Global;
use crate::error::Result;
use crate::output::Out;

pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let mut out = Out::new();
    for (number, backend) in kvjob_any::backends().iter().enumerate() {
        if global.json {
            out.json_line(&as_json(backend))?;
        } else {
            if number > 0 {
                out.line("")?;
            }
            print(&mut out, backend)?;
        }
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

fn print(out: &mut Out, backend: &Backend) -> Result<()> {
    let missing = if backend.is_enabled() {
        ""
    } else {
        " (not compiled in)"
    };
    out.line(&format!("{}{missing}", backend.name))?;
    out.line(&format!("  URL       {}", backend.url))?;
    if !backend.options.is_empty() {
        out.line(&format!("  options   {}", backend.options.join(", ")))?;
    }
    out.line(&format!("  survives  {}", backend.durability))?;
    let users = if shared(backend) {
        "several processes at a time"
    } else if backend.options.contains(&"shared") {
        "one process at a time, or several that all open it with ?shared"
    } else {
        "one process at a time"
    };
    out.line(&format!("  used by   {users}"))
}
