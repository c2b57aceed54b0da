//! The claims of a run as tables.

use super::document::{Table, ratio_text, words};
use crate::cell::Subject;
use crate::claims::{LEVEL, Row, Verdict};
use crate::stats::summary::Ratio;

/// Claims against drivers, then a table for each claim that the run has cells for.
pub fn tables(rows: &[Row]) -> Vec<Table> {
    if rows.iter().all(|it| it.blocks == 0) {
        return Vec::new();
    }
    let claims: Vec<&[Row]> = rows.chunk_by(|a, b| (a.claim, a.says) == (b.claim, b.says)).collect();
    let measured = claims.iter().filter(|rows| rows.iter().any(|it| 0 < it.blocks));
    let mut tables = vec![overview(&claims)];
    tables.extend(measured.map(|rows| claim_table(rows)));
    tables
}

/// One line for each claim, one column for each driver.
fn overview(claims: &[&[Row]]) -> Table {
    let mut subjects: Vec<&Subject> = Vec::new();
    for it in claims.iter().flat_map(|rows| rows.iter()) {
        if !subjects.contains(&&it.subject) {
            subjects.push(&it.subject);
        }
    }
    let line = |rows: &&[Row]| {
        let mut line = vec![format!("{} {}", rows[0].claim, rows[0].says)];
        line.extend(subjects.iter().map(|subject| verdicts(rows, subject)));
        line.push(why_not(rows));
        line
    };
    let columns = std::iter::once("claim".to_owned()).chain(subjects.iter().map(|it| it.label()));
    Table {
        title: "Claims of the AUFS documentation".to_owned(),
        note:
            "yes: supported; no: refuted; ?: undecided; empty: not about this driver. Several words: several \
               backings or models; see below."
                .to_owned(),
        columns: columns.chain(["not tested because".to_owned()]).collect(),
        rows: claims.iter().map(line).collect(),
    }
}

/// The verdicts on `subject`, equal ones once.
fn verdicts(rows: &[Row], subject: &Subject) -> String {
    let mut words: Vec<&str> = Vec::new();
    for it in rows.iter().filter(|it| it.subject == *subject) {
        let word = match it.verdict {
            Verdict::Supported => "yes",
            Verdict::Refuted => "no",
            Verdict::Undecided => "?",
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

/// Why no row of a claim has values.
fn why_not(rows: &[Row]) -> String {
    if rows.iter().any(|it| 0 < it.blocks) { String::new() } else { rows[0].reason.clone() }
}

fn claim_table(rows: &[Row]) -> Table {
    let first = &rows[0];
    Table {
        title: format!("{} {}", first.claim, first.says),
        note: format!(
            "Holds where the median over blocks is: {}. Exact sign tests both ways, {} % each, corrected by Holm over all \
             rows of {}; the interval is the uncorrected one of the median at 95 %.",
            first.statistic,
            LEVEL * 50.0,
            first.claim
        ),
        columns: words(&["driver", "backing", "cells", "median", "blocks", "verdict", "why"]),
        rows: rows.iter().map(row).collect(),
    }
}

fn row(it: &Row) -> Vec<String> {
    let ratio = it.p50.map(|p50| Ratio { p50, interval: it.interval, n_blocks: it.blocks });
    vec![
        it.subject.label(),
        it.backing.clone(),
        it.what.clone(),
        ratio.map(ratio_text).unwrap_or_default(),
        it.blocks.to_string(),
        it.verdict.as_str().to_owned(),
        it.reason.clone(),
    ]
}
