//! The guide shows the files of this crate as they are.

use std::fs;
use std::path::Path;

/// The files that the guide names in a line of its own before a block of code, and the blocks.
fn shown(guide: &str) -> Vec<(&str, String)> {
    let mut files = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let name = line
            .strip_prefix('`')
            .and_then(|rest| rest.strip_suffix("`:"));
        let Some(name) = name else { continue };
        let block = lines
            .by_ref()
            .skip_while(|line| !line.starts_with("```"))
            .skip(1);
        let block = block.take_while(|line| !line.starts_with("```"));
        files.push((
            name,
            block.fold(String::new(), |text, line| text + line + "\n"),
        ));
    }
    files
}

#[test]
fn the_guide_shows_the_code_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("README.md")).expect("the guide");
    let shown = shown(&guide);
    let names: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "Cargo.toml",
            "src/lib.rs",
            "tests/conformance.rs",
            "examples/jobs.rs"
        ]
    );
    for (name, block) in shown {
        // The manifest here takes its versions from the workspace.
        if name != "Cargo.toml" {
            let file = fs::read_to_string(root.join(name)).expect(name);
            assert_eq!(
                block, file,
                "{name} in the guide is not the file of the crate"
            );
        }
    }
}

#[test]
fn the_store_of_the_guide_has_at_most_sixty_lines() {
    assert!(include_str!("../src/lib.rs").lines().count() <= 60);
}
