//! What the report says, independent of how it is written down.

use std::collections::{BTreeMap, BTreeSet};

use super::conclusions::Conclusions;
use super::goals::{Judged, place_text};
use super::headline::headline;
use super::reproduce::commands;
use super::tables::backing_label;
use super::yardsticks;
use crate::cell::{Cache, Cell, Params, Subject};
use crate::driver;
use crate::host::HostFacts;
use crate::run::cold::Cooling;
use crate::run::journal::{Ending, Metric, RunRecord};
use crate::size::{human_bytes, human_ns};
use crate::stats::order::Interval;
use crate::stats::summary::{CellSummary, MetricSummary, Ratio, Summary};

/// A table with a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What to know when reading it.
    pub note: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
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
    /// What a reader wants first, in sentences.
    pub headline: Vec<String>,
    /// Facts about the host and the run.
    pub facts: Vec<(&'static str, String)>,
    /// Results, one table for each model and backing.
    pub tables: Vec<Table>,
    /// What was not measured.
    pub skips: Table,
    /// Cells that failed, which have no numbers.
    pub errors: Table,
    /// How the run is made again: what a command does, and the command.
    pub commands: Vec<(String, String)>,
    /// How numbers were made, for the foot of the page.
    pub method: String,
}

const METHOD: &str = "Times are service times. Intervals are order-statistic intervals of the median at 95 %: of the \
    medians of the blocks where a block has several samples, since those of one block are alike, and of all samples where it \
    has one; below six blocks of several samples they are of all samples, and too narrow. \
    Ratios are medians over blocks of the ratio of both medians in the block. A p90 needs 100 samples, a p99 1000; else \
    the field is empty. Nothing is discarded as an outlier.";

/// Columns that say where a number was measured.
pub const PLACE_COLUMNS: &[&str] = &["driver", "file", "layer", "of", "dirs", "files", "cache"];

/// Columns of results, after those of the place.
const COLUMNS: &[&str] = &["n", "p50", "95 % interval", "p90", "p99", "max"];

impl Document {
    /// What `run` says, with ratios to `base`.
    pub fn of(
        summary: &Summary,
        run: &RunRecord,
        base: Option<&Subject>,
        goals: Option<&Judged>,
        conclusions: &Conclusions,
    ) -> Self {
        let host = &run.header.host;
        let mut all = tables(summary, run, base);
        all.extend(metrics(summary, run));
        all.extend(yardsticks::table(summary, run));
        all.extend(super::quality::tables(run));
        all.extend(conclusions.tables(run));
        all.extend(goals.into_iter().flat_map(|it| it.tables(run)));
        Self {
            title: format!("Write layers on {}, Linux {}", host.label, host.kernel),
            headline: headline(summary, run, base),
            warnings: warnings(run),
            facts: facts(run),
            commands: commands(run),
            tables: all,
            skips: skips(run),
            errors: errors(run),
            method: METHOD.to_owned(),
        }
    }
}

impl Table {
    /// Whether its rows come in groups of equal parameters, as those of results do.
    pub fn is_grouped(&self) -> bool {
        self.columns.starts_with(&words(PLACE_COLUMNS))
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
    warnings.extend(super::quality::warnings(run));
    let n_errors = run.errors().len();
    if 0 < n_errors {
        warnings.push(format!("{n_errors} cells failed and have no numbers; see Errors."));
    }
    match run.layers_unchanged {
        Some(true) => {}
        Some(false) => warnings.push("A driver wrote into a layer. Trust nothing here.".to_owned()),
        None => warnings.push("The layers were not compared at the end.".to_owned()),
    }
    if !run.header.origin.missing.is_empty() {
        let missing: Vec<String> = run.header.origin.missing.iter().map(ToString::to_string).collect();
        warnings.push(format!("A part of the matrix is missing: shards {}.", missing.join(", ")));
    }
    if !run.header.cuts.is_empty() {
        let cuts = run.header.cuts.join("; ");
        warnings.push(format!("A short run. Left out of runs with a budget {cuts}."));
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
    let cold = run.params().iter().any(|it| it.cache == Cache::Cold).then_some(
        match run.header.method.cache_policy {
            Cooling::Host => "all caches of the host were dropped before each cold sample",
            Cooling::Files => {
                "the data of its files was dropped before each cold sample, names stayed cached"
            }
        },
    );
    let mut facts = vec![
        ("kernel", host.kernel.clone()),
        ("processor", format!("{} × {}", host.cpus, host.cpu)),
        ("memory", human_bytes(host.memory_bytes as f64)),
        ("backing", host.backings.iter().map(backing).collect::<Vec<_>>().join("; ")),
        ("overlay module", pairs(&host.overlay_parameters)),
        ("measured programs", pairs(&host.peers)),
        ("matrix", host.matrix.clone()),
        ("seed", host.seed.to_string()),
        ("blocks", format!("{} in {} sessions, {ending}", run.n_complete(), run.n_sessions())),
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
    facts.extend(cold.map(|it| ("cold", it.to_owned())));
    let machine = |it: &HostFacts| format!("{}, Linux {}, {} × {}", it.label, it.kernel, it.cpus, it.cpu);
    if let hosts @ [_, _, ..] = run.header.origin.hosts.as_slice() {
        let all: Vec<String> =
            (1..).zip(hosts).map(|(number, it)| format!("@{number}: {}", machine(it))).collect();
        facts.insert(0, ("machines", all.join("; ")));
    }
    facts.extend(host.governor.clone().map(|it| ("governor", it)));
    facts.extend(super::quality::facts(run));
    facts.extend(host.git_rev.clone().map(|it| ("commit", it)));
    facts.retain(|it| !it.1.is_empty());
    facts
}

/// The subjects that tables show ratios to.
fn bases(base: Option<&Subject>) -> Vec<Subject> {
    let plain = Subject { driver: "plain".to_owned(), options: "default".to_owned() };
    let chosen = base.filter(|it| **it != plain).cloned();
    chosen.into_iter().chain([plain]).collect()
}

fn tables(summary: &Summary, run: &RunRecord, base: Option<&Subject>) -> Vec<Table> {
    let bases = bases(base);
    let heads = || bases.iter().map(|it| format!("× {}", it.label()));
    // A model that this program does not know comes last, in a table of its own.
    let rank = |model: &str| crate::model::names().iter().position(|it| *it == model).unwrap_or(usize::MAX);
    let keys: BTreeSet<(&String, usize, &String)> = run
        .params()
        .into_iter()
        .filter(|it| !crate::model::is_yardstick(&it.model))
        .map(|it| (&it.backing, rank(&it.model), &it.model))
        .collect();
    let table = |(backing, _, model): (&String, usize, &String)| {
        let own = |it: &&CellSummary| it.cell.params.model == *model && it.cell.params.backing == *backing;
        let mut cells: Vec<&CellSummary> = summary.cells.iter().filter(own).collect();
        cells.sort_by_key(|it| sort_key(&it.cell));
        Table {
            title: format!("{model} on {}", backing_label(run, backing)),
            note: crate::model::by_name(model).map(|it| it.about()).unwrap_or_default().to_owned(),
            columns: words(PLACE_COLUMNS).into_iter().chain(words(COLUMNS)).chain(heads()).collect(),
            rows: cells.into_iter().map(|it| row(it, summary, &bases)).collect(),
        }
    };
    keys.into_iter().map(table).collect()
}

/// Parameters first, so that drivers stand below each other.
pub fn sort_key(cell: &Cell) -> (Params, usize, String) {
    let rank = driver::names().iter().position(|it| *it == cell.driver).unwrap_or(usize::MAX);
    (cell.params.clone(), rank, cell.options.clone())
}

/// Where `cell` was measured, as [`PLACE_COLUMNS`].
pub fn place_columns(cell: &Cell) -> Vec<String> {
    let Params { file_bytes, found_at, n_layers, dir_depth, cache, entries, threads, .. } = &cell.params;
    let file = if *file_bytes == 0 { String::new() } else { human_bytes(*file_bytes as f64) };
    let mut row = vec![cell.subject().label(), file];
    row.extend([found_at, n_layers, dir_depth].map(ToString::to_string));
    row.push(match (*entries, *threads) {
        (0, _) => String::new(),
        (entries, 0) => entries.to_string(),
        (entries, threads) => format!("{entries} by {threads} threads"),
    });
    row.push(cache.as_str().to_owned());
    row
}

fn row(it: &CellSummary, summary: &Summary, bases: &[Subject]) -> Vec<String> {
    let mut row = place_columns(&it.cell);
    let Some(latency) = &it.latency else {
        row.push("0".to_owned());
        row.push(if it.error.is_some() { "error" } else { "" }.to_owned());
        row.resize(PLACE_COLUMNS.len() + COLUMNS.len() + bases.len(), String::new());
        return row;
    };
    let optional = |value: Option<f64>| value.map(human_ns).unwrap_or_default();
    let interval = |it: Interval| format!("{} – {}", human_ns(it.low), human_ns(it.high));
    row.extend([latency.n.to_string(), human_ns(latency.p50)]);
    row.push(latency.p50_interval.map(interval).unwrap_or_default());
    row.extend([optional(latency.p90), optional(latency.p99), human_ns(latency.max)]);
    for base in bases {
        let ratio = if *base == it.cell.subject() { None } else { summary.ratio(it, base) };
        row.push(ratio.map(ratio_text).unwrap_or_default());
    }
    row
}

/// A ratio with two digits after the point, or two significant ones where it is small.
pub fn number_text(ratio: f64) -> String {
    match ratio {
        0.0 => "0".to_owned(),
        // Two significant digits, however small.
        small if small < 0.1 => {
            let digits = (1.0 - small.max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
            format!("{small:.digits$}")
        }
        medium if medium < 10.0 => format!("{medium:.2}"),
        large => format!("{large:.0}"),
    }
}

/// `1.23 (1.20 – 1.27)`.
pub fn ratio_text(ratio: Ratio) -> String {
    match ratio.interval {
        Some(it) => {
            format!("{} ({} – {})", number_text(ratio.p50), number_text(it.low), number_text(it.high))
        }
        None => number_text(ratio.p50),
    }
}

/// What models measured besides time, where that is what they are for.
fn metrics(summary: &Summary, run: &RunRecord) -> Option<Table> {
    let row = |it: &MetricSummary| {
        let shown = |value: f64| match it.metric {
            Metric::Scaling => format!("{:.2}", value / 1e3),
            Metric::Exdev => value.to_string(),
            Metric::ResidentShare => format!("{:.1} %", value / 10.0),
            Metric::Writes | Metric::BranchesInodes => format!("{value:.0}"),
            Metric::FirstCommit | Metric::LaterCommit => human_ns(value),
            _ => human_bytes(value),
        };
        let interval = it.p50_interval.map(|it| format!("{} – {}", shown(it.low), shown(it.high)));
        let what = match it.metric {
            Metric::Scaling => "times the throughput of one thread",
            Metric::Exdev => "rename of a directory refused (1: its files were copied)",
            Metric::Cached => "page cache after two readers",
            Metric::ServerIdlePss => "server after mounting (PSS)",
            Metric::ServerWalkedPss => "server after the walk (PSS)",
            Metric::ServerWalkedRss => "server after the walk (RSS)",
            Metric::MemoryTaken => "memory taken by two readers",
            Metric::Resident => "pages of the file after two readers",
            Metric::ResidentShare => "of a cold sample's file still in the page cache",
            Metric::ContainerMemory => "memory of each container",
            Metric::ContainerCached => "page cache of each container",
            Metric::ServersPss => "servers of all containers (PSS)",
            Metric::BranchesDisk => "branches of all containers",
            Metric::BranchesInodes => "inodes of all branches",
            Metric::Writes => "first writes in a second",
            Metric::FirstCommit => "first transaction, with copy-up",
            Metric::LaterCommit => "later transactions",
            Metric::Upper | Metric::Tree | Metric::ServerRss => return None,
        };
        let place = place_text(&it.cell.params, run);
        let row = [what.to_owned(), place, it.cell.subject().label(), it.n.to_string(), shown(it.p50)];
        Some(row.into_iter().chain(interval.or(Some(String::new()))).collect::<Vec<_>>())
    };
    let mut rows: Vec<Vec<String>> = summary.metrics.iter().filter_map(row).collect();
    rows.sort_by(|a, b| a[..2].cmp(&b[..2]));
    let columns = words(&["what", "where", "driver", "n", "p50", "95 % interval"]);
    let (title, note) = ("Besides time".to_owned(), "See metrics.csv for all.".to_owned());
    (!rows.is_empty()).then_some(Table { title, note, columns, rows })
}

/// Heads of columns.
pub fn words(heads: &[&str]) -> Vec<String> {
    heads.iter().map(ToString::to_string).collect()
}

fn skips(run: &RunRecord) -> Table {
    let row = |it: &crate::run::journal::Skip| {
        let model = it.model.clone().unwrap_or_else(|| "all".to_owned());
        vec![it.subject.label(), backing_label(run, &it.backing), model, it.reason.clone()]
    };
    Table {
        title: "Skipped".to_owned(),
        note: "Asked for, but not possible here.".to_owned(),
        columns: words(&["driver", "backing", "models", "reason"]),
        rows: run.header.skips.iter().map(row).collect(),
    }
}

fn errors(run: &RunRecord) -> Table {
    let row = |(index, message): (usize, String)| vec![run.header.cells[index].cell.to_string(), message];
    Table {
        title: "Errors".to_owned(),
        note: "A sample failed or its result was wrong. The cell has no numbers, not even those before."
            .to_owned(),
        columns: words(&["cell", "error"]),
        rows: run.errors().into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_another_program_have_tables() {
        use crate::report::example::{cell, run};
        let of = |model: &str| (cell("plain", "default", model, 4096, 8), 5000);
        let run = run(&[of("teleport"), of("copy-up"), of("swap")], 6);
        let tables = tables(&Summary::of(&run), &run, None);
        let found: Vec<(&str, usize)> = tables.iter().map(|it| (it.title.as_str(), it.rows.len())).collect();
        assert_eq!(found, [("copy-up on dir", 1), ("swap on dir", 1), ("teleport on dir", 1)]);
    }

    #[test]
    fn ratios_keep_two_digits() {
        for (p50, expected) in [
            (1.234, "1.23"),
            (0.1, "0.10"),
            (0.0234, "0.023"),
            (0.000_21, "0.00021"),
            (0.0, "0"),
            (734.2, "734"),
        ] {
            assert_eq!(ratio_text(Ratio { p50, interval: None, n_blocks: 1 }), expected);
        }
        let interval = Some(Interval { low: 1.0, high: 1.5 });
        assert_eq!(ratio_text(Ratio { p50: 1.2, interval, n_blocks: 6 }), "1.20 (1.00 – 1.50)");
    }
}
