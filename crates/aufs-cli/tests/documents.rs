//! docs/SEMANTICS.md and docs/REQUIREMENTS.md name a test for each promise, and each of them exists.
#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// The project, and what its documents may refer to.
struct Project {
    root: PathBuf,
    /// All Rust code.
    code: String,
    recipes: String,
}

impl Project {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        for dir in ["crates", "bench-harness"] {
            sources(&root.join(dir), &mut files);
        }
        let code = files.iter().map(|it| fs::read_to_string(it).unwrap()).collect();
        let recipes = fs::read_to_string(root.join("justfile")).unwrap();
        Self { root, code, recipes }
    }

    fn document(&self, name: &str) -> String {
        fs::read_to_string(self.root.join("docs").join(name)).unwrap()
    }

    /// Whether a test or a recorded scenario has this name.
    fn has_test(&self, name: &str) -> bool {
        self.code.contains(&format!("fn {name}("))
            || self.root.join(format!("fixtures/golden/{name}.json")).exists()
    }

    /// Whether a recipe has this name.
    fn has_recipe(&self, name: &str) -> bool {
        self.recipes.lines().any(|it| {
            it.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':']) && rest.contains(':'))
        })
    }
}

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

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Where links lead, without the part of a page.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|it| it.split_once(')'));
    targets.filter_map(|(target, _)| target.split('#').next()).collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let project = Project::read();
    let text = project.document("SEMANTICS.md");
    let named = named_tests(&text);
    assert!(30 < named.len(), "only {} promises name a test", named.len());
    let missing: Vec<_> = named.iter().filter(|it| !project.has_test(it)).collect();
    assert!(missing.is_empty(), "docs/SEMANTICS.md names tests that do not exist: {missing:?}");
    let promised = text.split("## Data modes").next().unwrap();
    let silent: Vec<_> =
        promised.lines().filter(|it| it.starts_with("- ") && !it.trim_end().ends_with('`')).collect();
    assert!(silent.is_empty(), "promises without a test: {silent:#?}");
}

#[test]
fn every_requirement_is_covered_by_what_exists_or_says_why_not() {
    let project = Project::read();
    let text = project.document("REQUIREMENTS.md");
    let rows = text.lines().filter(|it| it.starts_with("| ") && !it.starts_with("| R |"));
    let rows: Vec<Vec<&str>> =
        rows.map(|it| it.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    let numbers: Vec<&str> = rows.iter().filter(|it| it.len() == 3).map(|it| it[0]).collect();
    let wanted: Vec<String> = (1..=114).map(|it| format!("R{it}")).collect();
    assert_eq!(numbers, wanted);
    for row in &rows {
        let (what, by) = (row[0], row[row.len() - 1]);
        let is_excused = ["later: ", "waived: ", "out of scope: "].iter().any(|it| by.contains(it));
        let quoted = quoted(by);
        let refers = quoted.iter().any(|it| it.starts_with("just ") || project.has_test(it));
        assert!(
            is_excused || refers || by == "the next table" || what.starts_with("Docker's"),
            "{what}: {by}"
        );
        for name in quoted {
            match name.strip_prefix("just ") {
                Some(recipe) => assert!(project.has_recipe(recipe), "{what}: no recipe {recipe}"),
                // Tests have several words; options, paths and models do not look like that.
                None if name.contains('_') && !name.ends_with("_bytes") => {
                    assert!(project.has_test(name), "{what}: no test {name}");
                }
                None => {}
            }
        }
        for link in links(by) {
            assert!(project.root.join("docs").join(link).exists(), "{what}: no {link}");
        }
    }
}
