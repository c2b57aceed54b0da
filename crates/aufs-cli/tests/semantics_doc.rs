//! docs/SEMANTICS.md names a test for each promise, and each of them exists.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The names in backquotes at the end of each promise.
fn named_tests(text: &str) -> Vec<&str> {
    let promises = text.split("\n- ").skip(1).map(|it| it.split("\n\n").next().unwrap_or(it).trim_end());
    promises
        .filter(|it| it.ends_with('`'))
        .filter_map(|it| it.trim_end_matches('`').rsplit('`').next())
        .collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let code: String = files.iter().map(|it| fs::read_to_string(it).unwrap()).collect();
    let named = named_tests(&text);
    assert!(30 < named.len(), "only {} promises name a test", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .filter(|name| !root.join(format!("fixtures/golden/{name}.json")).exists())
        .collect();
    assert!(missing.is_empty(), "docs/SEMANTICS.md names tests that do not exist: {missing:?}");
    let promised = text.split("## Data modes").next().unwrap();
    let silent: Vec<_> =
        promised.lines().filter(|it| it.starts_with("- ") && !it.trim_end().ends_with('`')).collect();
    assert!(silent.is_empty(), "promises without a test: {silent:#?}");
}
