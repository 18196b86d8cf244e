//! The table of backends in the README says what the backends say.

#![allow(clippy::unwrap_used, reason = "tests")]

use kvjob::kv::{Limits, Ownership};
use kvjob_any::{Backend, backends};

const HEAD: &str = "\
| backend | URL | an acknowledged change survives | processes | atomic | watch | largest key, value |
|---|---|---|---|---|---|---|
";

fn row(backend: &Backend) -> String {
    let promises = match backend.name {
        "memory" => "src/kv/memory/mod.rs".to_owned(),
        name => format!("adapters/{name}/README.md"),
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    let processes = if backend.ownership == Ownership::Shared {
        "many"
    } else if backend.options.contains(&"shared") {
        "one; several if shared"
    } else {
        "one"
    };
    format!(
        "| [{}]({promises}) | `{}` | {} | {processes} | {} | {} | {} |\n",
        backend.name,
        backend.url,
        backend.durability,
        yes(backend.atomic),
        yes(backend.watch),
        backend.limits.as_ref().map(largest).unwrap_or_default(),
    )
}

fn largest(limits: &Limits) -> String {
    format!("{}, {}", bytes(limits.key_bytes), bytes(limits.value_bytes))
}

fn bytes(count: usize) -> String {
    match count {
        count if count >= 1 << 20 && count % (1 << 20) == 0 => format!("{} MiB", count >> 20),
        count if count >= 1 << 10 && count % (1 << 10) == 0 => format!("{} KiB", count >> 10),
        count => format!("{count} B"),
    }
}

/// Only with all features is everything known that stands in the table.
#[test]
fn the_table_of_backends_in_the_readme_is_what_the_backends_declare() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let backends = backends();
    if backends.iter().all(Backend::is_enabled) {
        let table = HEAD.to_owned() + &backends.iter().map(row).collect::<String>();
        assert!(
            readme.contains(&table),
            "the README should have this table:\n{table}"
        );
    } else {
        for backend in backends.iter().filter(|it| it.is_enabled()) {
            let row = row(backend);
            assert!(readme.contains(&row), "the README should have:\n{row}");
        }
    }
}
