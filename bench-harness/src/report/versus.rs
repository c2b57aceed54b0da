//! Which subject all others are shown as ratios to.

use std::collections::BTreeSet;

use crate::cell::Subject;
use crate::driver;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::goals::SubjectName;
use crate::model::is_yardstick;
use crate::stats::summary::{CellSummary, Summary};
use crate::suggest;

/// Subjects of the run, in the order of the drivers.
pub fn subjects(summary: &Summary) -> Vec<Subject> {
    let all: BTreeSet<Subject> = summary.cells.iter().map(|it| it.cell.subject()).collect();
    let mut all: Vec<Subject> = all.into_iter().collect();
    let rank = |name: &str| driver::names().iter().position(|it| *it == name);
    all.sort_by_key(|it| (rank(&it.driver), it.options != "default", it.options.clone()));
    all
}

/// The subject that `wanted` names: `overlayfs`, or `overlayfs/volatile` with an option set.
///
/// # Errors
///
/// `Config`: it is none of `known`; the message names the nearest.
pub fn chosen(wanted: Option<&str>, known: BTreeSet<Subject>) -> Result<Option<Subject>> {
    let Some(text) = wanted else { return Ok(None) };
    let SubjectName(subject) = SubjectName::from(text.to_owned());
    if known.contains(&subject) {
        return Ok(Some(subject));
    }
    let names: Vec<String> = known.iter().map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let unknown = suggest::unknown("driver", text, &names);
    Err(BenchError::new("compare with", text, BenchErrorKind::Config(unknown)))
}

/// `overlayfs/volatile`, as command lines and matrices write it.
fn name(subject: &Subject) -> String {
    if subject.options == "default" {
        subject.driver.clone()
    } else {
        format!("{}/{}", subject.driver, subject.options)
    }
}

/// `wanted` if it has numbers, else overlayfs, else plain, else whoever comes first; none without numbers.
///
/// Yardsticks do not count: they are recorded under `plain` in every run, and no other subject has them.
pub fn base(summary: &Summary, wanted: Option<&Subject>) -> Option<Subject> {
    let has_numbers = |it: &Subject| summary.cells.iter().any(|cell| is_measured(cell, it));
    let usual = ["overlayfs", "plain"].map(|it| SubjectName::from(it.to_owned()).0);
    let all = wanted.cloned().into_iter().chain(usual).chain(subjects(summary));
    all.into_iter().find(has_numbers)
}

/// Whether `cell` is one of `subject` and has numbers that can be compared.
pub fn is_measured(cell: &CellSummary, subject: &Subject) -> bool {
    cell.latency.is_some() && cell.cell.subject() == *subject && !is_yardstick(&cell.cell.params.model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn yardsticks_make_plain_no_base() {
        let cell = |driver, model| (example::cell(driver, "default", model, 4096, 1), 5000);
        let cells = [cell("plain", "reference"), cell("vfs", "copy-up"), cell("reflink", "copy-up")];
        let summary = Summary::of(&example::run(&cells, 6));
        let base = base(&summary, Some(&example::subject("plain", "default"))).unwrap();
        assert_ne!(base.driver, "plain");
        let ratios = summary
            .cells
            .iter()
            .filter(|it| summary.ratio(it, &base).is_some_and(|it| it.interval.is_some()));
        assert_eq!(ratios.count(), 2, "itself, and the other");
    }

    #[test]
    fn names_are_read_back() {
        let subject =
            |driver: &str, options: &str| Subject { driver: driver.into(), options: options.into() };
        let known = BTreeSet::from([
            subject("overlayfs", "default"),
            subject("overlayfs", "volatile"),
            subject("plain", "default"),
        ]);
        for it in &known {
            assert_eq!(chosen(Some(&name(it)), known.clone()).unwrap().as_ref(), Some(it));
        }
        let said = chosen(Some("overlayfs/volatil"), known).unwrap_err().line();
        assert!(said.contains("did you mean \"overlayfs/volatile\"?"), "{said}");
    }
}
