//! The results side by side, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::Results;
use crate::outcome::Outcome;
use crate::subject::{Kind, Subject};

/// One line for each subject: passed/failed/skipped of each suite; then the failures by name.
pub fn as_text(all: &[(Subject, Results)]) -> String {
    let suites: BTreeSet<&String> = all.iter().flat_map(|(_, results)| results.keys()).collect();
    let mut text = format!("{:<22}", "subject");
    for suite in &suites {
        // Writing to a string cannot fail.
        _ = write!(text, " {:>30}", format!("{suite} pass/fail/skip"));
    }
    for (subject, results) in all {
        _ = write!(text, "\n{:<22}", subject.title());
        for suite in &suites {
            let counts = results.get(*suite).map_or_else(String::new, |it| {
                format!("{}/{}/{}", it.passed, it.failed.len(), it.skipped.len())
            });
            _ = write!(text, " {counts:>30}");
        }
    }
    for (subject, results) in all {
        for (suite, outcome) in results {
            let failed: Vec<&str> = outcome.failed.keys().map(String::as_str).collect();
            let skipped: Vec<&str> = outcome.skipped.iter().map(String::as_str).collect();
            for (verb, names) in [("fails", failed), ("cannot run", skipped)] {
                if !names.is_empty() {
                    _ = write!(text, "\n\n{} {verb} of {suite}: {}", subject.title(), names.join(" "));
                }
            }
        }
    }
    text
}

/// The same as one JSON object, by subject and suite.
pub fn as_json(all: &[(Subject, Results)]) -> anyhow::Result<String> {
    let by_title: BTreeMap<String, &Results> =
        all.iter().map(|(it, results)| (it.title(), results)).collect();
    Ok(serde_json::to_string_pretty(&by_title)?)
}

/// Says what fails on our mount and passes on ext4 with the same rights, a line each.
pub fn worse_than_ext4(all: &[(Subject, Results)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (subject, results) in all.iter().filter(|(it, _)| it.is_ours()) {
        let plain = Subject { kind: Kind::Ext4, ..*subject };
        let plain = all.iter().find(|(it, _)| *it == plain).map(|(_, results)| results);
        for (suite, outcome) in results {
            let nothing = Outcome::default();
            let reference = plain.and_then(|it| it.get(suite)).unwrap_or(&nothing);
            for (name, said) in outcome.failed.iter().filter(|(it, _)| !reference.failed.contains_key(*it)) {
                lines.push(format!(
                    "suites: {suite} {name} fails on {} and not on ext4: {said}",
                    subject.title()
                ));
            }
            if outcome.total() != reference.total() {
                lines.push(format!("suites: {suite} has other tests on {} than on ext4", subject.title()));
            }
        }
    }
    lines
}
