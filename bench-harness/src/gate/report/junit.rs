//! `junit.xml`: a test case for each cell.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Row, Said, Summary};
use crate::error::{BenchError, BenchErrorKind, Result};

/// The gate as JUnit XML. What failed apart from any cell is a case called `gate`.
///
/// # Errors
///
/// It cannot be written as XML.
pub fn junit(summary: &Summary<'_>) -> Result<String> {
    let header = &summary.record.header;
    let classname = format!("gate.{}", header.host.matrix);
    let mut suite = TestSuite::new(classname.clone());
    suite.set_time(Duration::from_millis(summary.elapsed_ms()));
    for (name, value) in [
        ("base", header.base.label()),
        ("head", header.head.label()),
        ("seed", header.host.seed.to_string()),
        ("verdict", summary.verdict().to_owned()),
    ] {
        suite.add_property((name, value.as_str()));
    }
    for row in &summary.rows {
        let mut case = TestCase::new(row.cell.name.clone(), status_of(row));
        case.set_classname(classname.clone());
        suite.add_test_case(case);
    }
    for (_, message) in summary.record.errors.iter().filter(|it| it.0.is_none()) {
        let mut case = TestCase::new("gate", non_success(NonSuccessKind::Error, message));
        case.set_classname(classname.clone());
        suite.add_test_case(case);
    }
    let mut report = Report::new("aufs-bench gate");
    report.add_test_suite(suite);
    report
        .to_string()
        .map_err(|error| BenchError::new("write", "junit.xml", BenchErrorKind::Plot(error.to_string())))
}

fn status_of(row: &Row<'_>) -> TestCaseStatus {
    let ratio = format!("{} after {} blocks", row.ratio_text(), row.n_blocks());
    match (row.said, row.error) {
        (Said::Error, error) => non_success(NonSuccessKind::Error, error.unwrap_or("a sample failed")),
        (Said::Slower, _) => non_success(NonSuccessKind::Failure, &format!("slower: {ratio}")),
        (said @ (Said::Undecided | Said::Unconfirmed), _) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{}: {ratio}", said.word()));
            status
        }
        (Said::Cleared | Said::Improved, _) => TestCaseStatus::success(),
    }
}

fn non_success(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message).set_type("gate").set_description(message);
    status
}
