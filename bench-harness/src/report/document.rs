//! What the report says, independent of how it is written down.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::backing_label;
use crate::cell::{Cell, Params, Subject};
use crate::driver;
use crate::run::journal::{Ending, RunRecord};
use crate::size::{human_bytes, human_ns};
use crate::stats::order::Interval;
use crate::stats::summary::{CellSummary, Ratio, Summary};

/// A table with a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What to know when reading it.
    pub note: String,
    /// Heads of the columns.
    pub columns: Vec<&'static str>,
    /// Texts of the cells.
    pub rows: Vec<Vec<String>>,
}

/// The text of a report, figures aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The heading.
    pub title: String,
    /// What the reader must know first: an early end, errors, a changed layer.
    pub warnings: Vec<String>,
    /// Facts about the host and the run.
    pub facts: Vec<(&'static str, String)>,
    /// Results, one table for each model and backing.
    pub tables: Vec<Table>,
    /// What was not measured.
    pub skips: Table,
    /// Cells that failed, which have no numbers.
    pub errors: Table,
}

const COLUMNS: &[&str] = &[
    "driver",
    "file",
    "layer",
    "of",
    "dirs",
    "cache",
    "n",
    "p50",
    "95 % interval",
    "p90",
    "p99",
    "max",
    "× overlayfs",
    "× plain",
];

impl Document {
    /// What `run` says.
    pub fn of(summary: &Summary, run: &RunRecord) -> Self {
        let host = &run.header.host;
        Self {
            title: format!("Write layers on {}, Linux {}", host.label, host.kernel),
            warnings: warnings(run),
            facts: facts(run),
            tables: tables(summary, run),
            skips: skips(run),
            errors: errors(run),
        }
    }
}

fn warnings(run: &RunRecord) -> Vec<String> {
    let mut warnings = Vec::new();
    let blocks = run.n_complete();
    match run.ending {
        Some(Ending::Complete | Ending::Budget) => {}
        Some(Ending::Interrupted) => {
            warnings.push(format!("The run was interrupted after {blocks} whole blocks."))
        }
        None => warnings.push(format!("The run was cut off after {blocks} whole blocks.")),
    }
    if blocks == 0 {
        warnings.push("No block is whole; the numbers are of the part that was measured.".to_owned());
    }
    let n_errors = run.errors().len();
    if 0 < n_errors {
        warnings.push(format!("{n_errors} cells failed and have no numbers; see Errors."));
    }
    match run.layers_unchanged {
        Some(true) => {}
        Some(false) => warnings.push("A driver wrote into a layer. Trust nothing here.".to_owned()),
        None => warnings.push("The layers were not compared at the end.".to_owned()),
    }
    warnings
}

fn facts(run: &RunRecord) -> Vec<(&'static str, String)> {
    let host = &run.header.host;
    let backing = |it: &crate::host::BackingFacts| format!("{} ({}; {})", it.label(), it.fs_type, it.options);
    let steal: u64 = run.blocks.values().filter_map(|it| it.ended).map(|it| it.1).sum();
    let time: u64 = run.blocks.values().filter_map(|it| it.ended).map(|it| it.0).sum();
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let ending = match run.ending {
        Some(Ending::Complete) => "all blocks",
        Some(Ending::Budget) => "as many as the budget allowed",
        Some(Ending::Interrupted) => "interrupted",
        None => "cut off",
    };
    let mut facts = vec![
        ("kernel", host.kernel.clone()),
        ("processor", format!("{} × {}", host.cpus, host.cpu)),
        ("memory", human_bytes(host.memory_bytes as f64)),
        ("backing", host.backings.iter().map(backing).collect::<Vec<_>>().join("; ")),
        ("overlay module", pairs(&host.overlay_parameters)),
        ("measured programs", pairs(&host.peers)),
        ("matrix", host.matrix.clone()),
        ("seed", host.seed.to_string()),
        ("blocks", format!("{}, {ending}", run.n_complete())),
        (
            "time in blocks",
            format!(
                "{:.1} s, of which stolen by the hypervisor {:.1} s",
                time as f64 / 1e3,
                steal as f64 / 1e3
            ),
        ),
        ("clock", format!("{} ns between two readings, part of each sample", host.clock_ns)),
        ("started", host.started_at.clone()),
    ];
    facts.extend(host.governor.clone().map(|it| ("governor", it)));
    facts.extend(host.git_rev.clone().map(|it| ("commit", it)));
    facts.retain(|it| !it.1.is_empty());
    facts
}

fn tables(summary: &Summary, run: &RunRecord) -> Vec<Table> {
    let keys: BTreeSet<(&String, usize)> = run
        .params()
        .into_iter()
        .map(|it| (&it.backing, crate::model::names().iter().position(|name| *name == it.model).unwrap_or(0)))
        .collect();
    let table = |(backing, model): (&String, usize)| {
        let model = crate::model::names()[model];
        let own = |it: &&CellSummary| it.cell.params.model == *model && it.cell.params.backing == *backing;
        let mut cells: Vec<&CellSummary> = summary.cells.iter().filter(own).collect();
        cells.sort_by_key(|it| sort_key(&it.cell));
        Table {
            title: format!("{model} on {}", backing_label(run, backing)),
            note: note_of(model).to_owned(),
            columns: COLUMNS.to_vec(),
            rows: cells.into_iter().map(|it| row(it, summary)).collect(),
        }
    };
    keys.into_iter().map(table).collect()
}

/// Parameters first, so that drivers stand below each other.
fn sort_key(cell: &Cell) -> (Params, usize, String) {
    let rank = driver::names().iter().position(|it| *it == cell.driver).unwrap_or(usize::MAX);
    (cell.params.clone(), rank, cell.options.clone())
}

fn note_of(model: &str) -> &'static str {
    match model {
        "copy-up" => "open(O_RDWR) and one byte written, the first time; plain and vfs have nothing to copy.",
        "chmod" => "The mode of a file changed, the first time.",
        "second-write" => "open(O_RDWR) and one byte written, after the copy-up.",
        "lookup" => "stat of a file: fresh for the first time on this mount, hot again.",
        "lookup-missing" => {
            "stat of a name that no layer has: fresh for the first time on this mount, hot again."
        }
        _ => "From the call until a file of the lowest layer is found; vfs and reflink copy the tree here.",
    }
}

fn row(it: &CellSummary, summary: &Summary) -> Vec<String> {
    let Params { file_bytes, found_at, n_layers, dir_depth, cache, .. } = &it.cell.params;
    let file = if *file_bytes == 0 { String::new() } else { human_bytes(*file_bytes as f64) };
    let mut row = vec![it.cell.subject().label(), file];
    row.extend([found_at, n_layers, dir_depth].map(ToString::to_string));
    row.push(cache.as_str().to_owned());
    let Some(latency) = &it.latency else {
        row.push("0".to_owned());
        row.push(if it.error.is_some() { "error" } else { "" }.to_owned());
        row.resize(COLUMNS.len(), String::new());
        return row;
    };
    let optional = |value: Option<f64>| value.map(human_ns).unwrap_or_default();
    let interval = |it: Interval| format!("{} – {}", human_ns(it.low), human_ns(it.high));
    row.extend([latency.n.to_string(), human_ns(latency.p50)]);
    row.push(latency.p50_interval.map(interval).unwrap_or_default());
    row.extend([optional(latency.p90), optional(latency.p99), human_ns(latency.max)]);
    for base in ["overlayfs", "plain"] {
        let base = Subject { driver: base.to_owned(), options: "default".to_owned() };
        let ratio = if base == it.cell.subject() { None } else { summary.ratio(it, &base) };
        row.push(ratio.map(ratio_text).unwrap_or_default());
    }
    row
}

/// `1.23 (1.20 – 1.27)`.
fn ratio_text(ratio: Ratio) -> String {
    let number = |value: f64| match value {
        // Two significant digits, however small.
        small if small < 0.1 => {
            let digits = (1.0 - small.max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
            format!("{small:.digits$}")
        }
        medium if medium < 10.0 => format!("{medium:.2}"),
        large => format!("{large:.0}"),
    };
    match ratio.interval {
        Some(it) => format!("{} ({} – {})", number(ratio.p50), number(it.low), number(it.high)),
        None => number(ratio.p50),
    }
}

fn skips(run: &RunRecord) -> Table {
    let row = |it: &crate::run::journal::Skip| {
        let model = it.model.clone().unwrap_or_else(|| "all".to_owned());
        vec![it.subject.label(), backing_label(run, &it.backing), model, it.reason.clone()]
    };
    Table {
        title: "Skipped".to_owned(),
        note: "Asked for, but not possible here.".to_owned(),
        columns: vec!["driver", "backing", "models", "reason"],
        rows: run.header.skips.iter().map(row).collect(),
    }
}

fn errors(run: &RunRecord) -> Table {
    let row = |(index, message): (usize, String)| vec![run.header.cells[index].cell.to_string(), message];
    Table {
        title: "Errors".to_owned(),
        note: "A sample failed or its result was wrong. The cell has no numbers, not even those before."
            .to_owned(),
        columns: vec!["cell", "error"],
        rows: run.errors().into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_keep_two_digits() {
        for (p50, expected) in
            [(1.234, "1.23"), (0.1, "0.10"), (0.0234, "0.023"), (0.000_21, "0.00021"), (734.2, "734")]
        {
            assert_eq!(ratio_text(Ratio { p50, interval: None, n_blocks: 1 }), expected);
        }
        let interval = Some(Interval { low: 1.0, high: 1.5 });
        assert_eq!(ratio_text(Ratio { p50: 1.2, interval, n_blocks: 6 }), "1.20 (1.00 – 1.50)");
    }
}
