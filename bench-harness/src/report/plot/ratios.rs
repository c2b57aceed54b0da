//! The forest plot of a run: every subject as a ratio to one of them, one cell of each model.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::forest::{Forest, Row, Section, Tone};
use crate::cell::{Params, Subject};
use crate::model;
use crate::report::goals::place_text;
use crate::report::tables::{backing_label, host_of};
use crate::run::journal::RunRecord;
use crate::stats::summary::{CellSummary, Summary};

/// Ratios to `base` on `backing`: for each model the cell that was sampled most, a row for each of `subjects`.
///
/// None where `base` shares no cell with another subject.
pub fn forest(
    summary: &Summary,
    run: &RunRecord,
    backing: &str,
    base: &Subject,
    subjects: &[Subject],
) -> Option<Forest> {
    let sections = model::names().into_iter().filter_map(|model| {
        let params = most_sampled(summary, backing, model, base)?;
        let rows: Vec<Row> = subjects
            .iter()
            .filter(|it| *it != base)
            .filter_map(|it| row(summary, params, base, it))
            .collect();
        let heading = format!("{model}, {}", place_text(params, run));
        (!rows.is_empty()).then_some(Section { heading, rows })
    });
    let sections: Vec<Section> = sections.collect();
    (!sections.is_empty()).then(|| Forest {
        title: format!("Time as a ratio to {}", base.label()),
        subtitle: format!("{}, Linux {}", backing_label(run, backing), host_of(run, backing).kernel),
        x_label: format!("times the time of {} in the same block", base.label()),
        lines: Vec::new(),
        sections,
        note: "median over blocks of the ratio of both medians; bars: exact 95 % interval".to_owned(),
    })
}

/// Of the parameters of `model` that `base` was measured with, those with the most samples.
fn most_sampled<'a>(summary: &'a Summary, backing: &str, model: &str, base: &Subject) -> Option<&'a Params> {
    let samples = |it: &CellSummary| it.latency.as_ref().map_or(0, |it| it.n);
    let own = |it: &&CellSummary| {
        let params = &it.cell.params;
        params.model == model && params.backing == backing && it.cell.subject() == *base && 0 < samples(it)
    };
    // Of equally many a shallow one, and of those the last, which lies lowest and is the largest.
    let key = |it: &&CellSummary| (samples(it), Reverse(it.cell.params.dir_depth));
    summary.cells.iter().filter(own).max_by_key(key).map(|it| &it.cell.params)
}

fn row(summary: &Summary, params: &Params, base: &Subject, subject: &Subject) -> Option<Row> {
    let cell = summary.find(subject, params)?;
    let ratio = summary.ratio(cell, base)?;
    let remark = format!("n {}", cell.latency.as_ref().map_or(0, |it| it.n));
    Some(Row { label: subject.label(), ratio, remark, tone: Tone::of(ratio.interval) })
}

/// Backings of the run, in order.
pub fn backings(run: &RunRecord) -> BTreeSet<&str> {
    run.params().into_iter().map(|it| it.backing.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{cell, run, subject};
    use crate::report::versus::subjects;

    #[test]
    fn of_equally_sampled_cells_a_shallow_one_is_shown() {
        let copy = |driver: &str, depth: u32| {
            let mut cell = cell(driver, "default", "copy-up", 4096, 8);
            cell.params.dir_depth = depth;
            (cell, 5000)
        };
        let run = run(&[copy("plain", 1), copy("vfs", 1), copy("plain", 64), copy("vfs", 64)], 6);
        let summary = Summary::of(&run);
        let plain = subject("plain", "default");
        let forest = forest(&summary, &run, "dir", &plain, &subjects(&summary)).unwrap();
        assert_eq!(forest.sections[0].heading, "copy-up, dir, 8 layers, 4 KiB, fresh");
    }
}
