//! What the harness and the machine took in this run: the cells that measure no driver.

use super::document::{Table, words};
use super::tables::backing_label;
use crate::model;
use crate::run::journal::RunRecord;
use crate::size::human_ns;
use crate::stats::summary::{CellSummary, Summary};

/// One row for each yardstick and backing; `None` for runs that were made before there were any.
pub fn table(summary: &Summary, run: &RunRecord) -> Option<Table> {
    let rows: Vec<_> = summary.cells.iter().filter_map(|it| row(it, run)).collect();
    let note = model::YARDSTICKS.iter().filter_map(|name| model::by_name(name)).map(|it| {
        // The sentence that `list` prints too.
        format!("{}: {}", it.name(), it.about())
    });
    (!rows.is_empty()).then(|| Table {
        title: "null and reference".to_owned(),
        note: note.collect::<Vec<_>>().join(" "),
        columns: words(&["what", "backing", "n", "p50", "95 % interval", "p90", "p99", "max"]),
        rows,
    })
}

fn row(it: &CellSummary, run: &RunRecord) -> Option<Vec<String>> {
    let params = &it.cell.params;
    if !model::is_yardstick(&params.model) {
        return None;
    }
    let mut row = vec![params.model.clone(), backing_label(run, &params.backing)];
    let Some(latency) = &it.latency else {
        let state = if it.error.is_some() { "error" } else { "" };
        row.extend(["0", state, "", "", "", ""].map(str::to_owned));
        return Some(row);
    };
    let interval = latency.p50_interval.map(|it| format!("{} – {}", human_ns(it.low), human_ns(it.high)));
    let optional = |value: Option<f64>| value.map(human_ns).unwrap_or_default();
    row.extend([latency.n.to_string(), human_ns(latency.p50), interval.unwrap_or_default()]);
    row.extend([optional(latency.p90), optional(latency.p99), human_ns(latency.max)]);
    Some(row)
}
