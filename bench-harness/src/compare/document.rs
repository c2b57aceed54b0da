//! A comparison as sentences, tables and figures.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::fingerprint::Difference;
use super::{Comparison, Row};
use crate::model;
use crate::report::document::{Document, PLACE_COLUMNS, Table, place_columns, ratio_text, sort_key, words};
use crate::report::place_text;
use crate::report::plot::Figure;
use crate::report::plot::forest::{Forest, Row as ForestRow, Section, Tone};
use crate::report::tables::backing_label;
use crate::size::human_ns;

/// What stands over every comparison.
const NOT_INTERLEAVED: &str = "Not interleaved: the runs were made one after the other, and what the machine drifted \
    between them is in every ratio. A verdict needs both in one run (gate).";

const METHOD: &str = "Ratios are medians of the ratios of every block of one run to every block of the other (Hodges and \
    Lehmann), with the exact 95 % interval of the rank-sum test; blocks are taken for independent. A ratio of ratios \
    divides each cell by the reference operation, else by plain, in the same block of its own run, so that a machine \
    that became slower as a whole cancels.";

/// Rows of a figure that fit a printed page.
const FIGURE_ROWS_MAX: usize = 42;

/// What `comparisons` say, each with the differences of the machines that were allowed; `command` makes them again.
pub fn document(comparisons: &[(Comparison<'_>, Vec<Difference>)], command: String) -> Document {
    let names: Vec<&str> = comparisons.iter().map(|it| it.0.head.name.as_str()).collect();
    let base = comparisons.first().map_or("", |it| it.0.base.name.as_str());
    let mut warnings = vec![NOT_INTERLEAVED.to_owned()];
    for (it, differences) in comparisons {
        warnings.extend(differences.iter().map(|difference| unlike(it, difference)));
    }
    let sides =
        || comparisons.first().map(|it| it.0.base).into_iter().chain(comparisons.iter().map(|it| it.0.head));
    let fact = |side: &super::Side| {
        let host = &side.record.header.host;
        let rev = host.git_rev.as_deref().unwrap_or("unknown");
        let blocks = side.record.n_complete();
        format!(
            "{}: {blocks} blocks, started {}, commit {rev}, seed {}",
            side.name, host.started_at, host.seed
        )
    };
    let host = comparisons.first().map(|it| &it.0.base.record.header.host);
    let mut facts: Vec<(&'static str, String)> = sides().map(|it| ("run", fact(it))).collect();
    facts.extend(host.map(|it| ("kernel", it.kernel.clone())));
    facts.extend(host.map(|it| ("processor", format!("{} × {}", it.cpus, it.cpu))));
    Document {
        title: format!("{} against {base}", names.join(", ")),
        headline: comparisons.iter().map(|it| tally(&it.0)).collect(),
        warnings,
        facts,
        tables: comparisons.iter().flat_map(|it| tables(&it.0)).collect(),
        skips: failed(comparisons),
        errors: Table { title: String::new(), note: String::new(), columns: Vec::new(), rows: Vec::new() },
        commands: vec![("This comparison again.".to_owned(), command)],
        method: METHOD.to_owned(),
    }
}

fn unlike(it: &Comparison<'_>, Difference { fact, base, head }: &Difference) -> String {
    format!("Unlike machines: {fact} is {base:?} in {} and {head:?} in {}.", it.base.name, it.head.name)
}

fn tally(it: &Comparison<'_>) -> String {
    let count = |wanted: Tone| {
        let of = |row: &&Row| row.ratio.interval.is_some() && Tone::of(row.ratio.interval) == wanted;
        it.rows.iter().filter(of).count()
    };
    let (faster, slower, open) = (count(Tone::Good), count(Tone::Bad), count(Tone::Open));
    let (base, head, n) = (&it.base.name, &it.head.name, it.rows.len());
    let mut text = format!(
        "Of {n} cells with numbers in both, {head} is faster than {base} in {faster}, slower in {slower}, and not told \
         apart in {open} (95 % intervals, not corrected for their number)"
    );
    let without = n - faster - slower - open;
    if 0 < without {
        text += &format!("; {without} have too few blocks for an interval");
    }
    if !it.failed.is_empty() {
        text += &format!("; {} more have no numbers in one of the runs", it.failed.len());
    }
    for (count, name) in it.only.iter().zip([base, head]).filter(|it| 0 < *it.0) {
        text += &format!("; {count} are only in {name}");
    }
    text + "."
}

fn tables(it: &Comparison<'_>) -> Vec<Table> {
    let run = &it.head.record;
    let groups: BTreeSet<(usize, &str, &str)> = it
        .rows
        .iter()
        .map(|row| &row.cell.params)
        .map(|it| (model_rank(&it.model), it.model.as_str(), it.backing.as_str()))
        .collect();
    let table = |(_, model, backing): (usize, &str, &str)| {
        let own = |row: &&Row| row.cell.params.model == model && row.cell.params.backing == backing;
        let mut rows: Vec<&Row> = it.rows.iter().filter(own).collect();
        rows.sort_by_key(|row| sort_key(&row.cell));
        let (base, head) = (&it.base.name, &it.head.name);
        let mut columns = words(PLACE_COLUMNS);
        columns.extend([
            format!("n {base}"),
            format!("p50 {base}"),
            format!("n {head}"),
            format!("p50 {head}"),
        ]);
        columns.extend([format!("{head} ÷ {base}"), "ratio of ratios".to_owned(), "to".to_owned()]);
        Table {
            title: format!("{model} on {}: {head} against {base}", backing_label(run, backing)),
            note: model::by_name(model).map(|it| it.about()).unwrap_or_default().to_owned(),
            columns,
            rows: rows.into_iter().map(cells).collect(),
        }
    };
    groups.into_iter().map(table).collect()
}

fn model_rank(model: &str) -> usize {
    model::names().iter().position(|it| *it == model).unwrap_or(usize::MAX)
}

fn cells(row: &Row) -> Vec<String> {
    let mut cells = place_columns(&row.cell);
    for (n, p50) in [row.base, row.head] {
        cells.extend([n.to_string(), human_ns(p50)]);
    }
    cells.push(ratio_text(row.ratio));
    let anchored = row.anchored.map(|(anchor, ratio)| [ratio_text(ratio), anchor.as_str().to_owned()]);
    cells.extend(anchored.unwrap_or_default());
    cells
}

fn failed(comparisons: &[(Comparison<'_>, Vec<Difference>)]) -> Table {
    let rows = comparisons.iter().flat_map(|it| &it.0.failed);
    Table {
        title: "Not compared".to_owned(),
        note: "Cells without numbers in one of the runs.".to_owned(),
        columns: words(&["cell", "why"]),
        rows: rows.map(|(cell, why)| vec![cell.to_string(), why.clone()]).collect(),
    }
}

/// A forest plot of each comparison: for each model, the parameters that were sampled most, not deep ones of equal.
pub fn figures(comparisons: &[(Comparison<'_>, Vec<Difference>)]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (index, (it, _)) in comparisons.iter().enumerate() {
        let sections: Vec<Section> =
            model::names().into_iter().filter_map(|model| section(it, model)).collect();
        if sections.is_empty() {
            continue;
        }
        let (base, head) = (&it.base.name, &it.head.name);
        let forest = Forest {
            title: format!("Time of {head} as a ratio to {base}"),
            subtitle: "not interleaved: what the machine drifted between the runs is in every ratio"
                .to_owned(),
            x_label: format!("times the time in {base}"),
            lines: Vec::new(),
            sections,
            note: "median ratio of all pairs of blocks; bars: exact 95 % interval of the rank-sum test"
                .to_owned(),
        };
        for (page, forest) in forest.paged(FIGURE_ROWS_MAX).into_iter().enumerate() {
            let caption = forest.title.clone();
            figures.push(forest.figure(format!("compare-{}-{}", index + 1, page + 1), caption));
        }
    }
    figures
}

fn section(it: &Comparison<'_>, model: &str) -> Option<Section> {
    let own = || it.rows.iter().filter(|row| row.cell.params.model == model);
    // Of equally many a shallow one.
    let key = |row: &&Row| (row.base.0.min(row.head.0), Reverse(row.cell.params.dir_depth));
    let params = &own().max_by_key(key)?.cell.params;
    let row = |row: &Row| ForestRow {
        label: row.cell.subject().label(),
        ratio: row.ratio,
        remark: format!("n {} and {}", row.base.0, row.head.0),
        tone: Tone::of(row.ratio.interval),
    };
    let mut alike: Vec<&Row> = own().filter(|row| row.cell.params == *params).collect();
    alike.sort_by_key(|row| sort_key(&row.cell));
    let rows = alike.into_iter().map(row).collect();
    Some(Section { heading: format!("{model}, {}", place_text(params, &it.head.record)), rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Side, compare};
    use crate::report::example::{cell, run};

    fn side(name: &str) -> Side {
        let copy = |depth: u32, ns: u64| {
            let mut cell = cell("vfs", "default", "copy-up", 4096, 8);
            cell.params.dir_depth = depth;
            (cell, ns)
        };
        Side::new(name.to_owned(), run(&[copy(1, 5000), copy(64, 90_000)], 6))
    }

    #[test]
    fn figures_show_a_shallow_cell() {
        let (base, head) = (side("a"), side("b"));
        let found = section(&compare(&base, &head), "copy-up").unwrap();
        assert_eq!((found.heading.as_str(), found.rows.len()), ("copy-up, dir, 8 layers, 4 KiB, fresh", 1));
    }

    #[test]
    fn models_of_another_program_are_not_mixed() {
        let of = |name: &str| {
            let cells = ["swap", "teleport"].map(|it| (cell("vfs", "default", it, 4096, 8), 5000));
            Side::new(name.to_owned(), run(&cells, 6))
        };
        let (base, head) = (of("a"), of("b"));
        let titles: Vec<String> = tables(&compare(&base, &head)).into_iter().map(|it| it.title).collect();
        assert_eq!(titles, ["swap on dir: b against a", "teleport on dir: b against a"]);
    }
}
