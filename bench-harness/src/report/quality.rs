//! Outliers, drift, precision and response times, as reports show them.

use schemars::JsonSchema;
use serde::Serialize;

use super::document::{Table, words};
use crate::run::journal::RunRecord;
use crate::size::human_ns;
use crate::stats::drift::Drift;
use crate::stats::outliers::Outliers;
use crate::stats::quality::{self, Quality, Response};

/// Most rows of a table of single cells; `summary.json` has all.
const ROWS_MAX: usize = 40;

/// How far a cell's numbers can be trusted, in `summary.json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QualityJson {
    /// Labels of samples; none was removed. Null below eight samples.
    outliers: Option<OutliersJson>,
    /// Straight line through the mean log latency of blocks. Null below four blocks.
    drift: Option<DriftJson>,
    /// Whether the wanted precision was reached. Null where none was wanted.
    precision_reached: Option<bool>,
    /// Times from when a sample was due; the other times of the cell are service times. Null in a closed loop.
    response: Option<ResponseJson>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OutliersJson {
    /// Between 1.5 and 3 interquartile ranges of the log beyond the quartiles.
    mild: usize,
    /// More than 3 of them.
    severe: usize,
    /// More than 14.83 median absolute deviations from the median.
    far: usize,
    /// Of any kind.
    any: usize,
    /// Share of outliers during which the thread lost the processor; null without outliers, and in runs of version 1.
    switched_share: Option<f64>,
    /// The same share of all samples; null in runs of version 1, which did not record it.
    switched_share_of_all: Option<f64>,
    /// Share of outliers in blocks from which the hypervisor stole time; null without outliers.
    stolen_share: Option<f64>,
    /// The same share of all samples.
    stolen_share_of_all: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DriftJson {
    /// Rise of the line from the first block of the cell to its last, on the log scale.
    change: f64,
    /// Two-sided probability of such a slope by chance.
    p: f64,
    /// More than 5 % at less than 1 %.
    flagged: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ResponseJson {
    n: usize,
    p50_ns: f64,
    p90_ns: Option<f64>,
    p99_ns: Option<f64>,
    max_ns: f64,
}

/// `quality` as it stands in `summary.json`.
pub fn quality_json(quality: &Quality) -> QualityJson {
    let drift = |it: Drift| DriftJson { change: it.change, p: it.p, flagged: it.is_flagged() };
    let response = |it: Response| {
        let Response { n, p50, p90, p99, max } = it;
        ResponseJson { n, p50_ns: p50, p90_ns: p90, p99_ns: p99, max_ns: max }
    };
    QualityJson {
        outliers: quality.outliers.map(outliers_json),
        drift: quality.drift.map(drift),
        precision_reached: quality.precise,
        response: quality.response.map(response),
    }
}

fn outliers_json(it: Outliers) -> OutliersJson {
    let of_any = |part: usize| (0 < it.any).then(|| part as f64 / it.any as f64);
    let of_all = |part: usize| part as f64 / it.n as f64;
    OutliersJson {
        mild: it.mild,
        severe: it.severe,
        far: it.far,
        any: it.any,
        switched_share: it.any_switched.and_then(of_any),
        switched_share_of_all: it.switched.map(of_all),
        stolen_share: of_any(it.any_stolen),
        stolen_share_of_all: of_all(it.stolen),
    }
}

/// How times are meant, and what of the machine decides them.
pub fn facts(run: &RunRecord) -> Vec<(&'static str, String)> {
    let (method, environment) = (&run.header.method, &run.header.host.environment);
    let times = match method.rate_per_s {
        None => "service times in a closed loop".to_owned(),
        Some(rate) => {
            format!("service times; single operations are due {rate} times a second in an open loop")
        }
    };
    let mut facts = vec![("times", times)];
    facts.extend(environment.virtualisation.clone().map(|it| ("machine", it)));
    facts.extend(environment.clock_source.clone().map(|it| ("clock source", it)));
    facts.extend(method.config.as_ref().map(|it| ("configuration", format!("SHA-256 {}", it.sha256))));
    facts
}

/// What a reader must know before any number: an unsteady clock, a slow build, cells that are too wide or drift.
pub fn warnings(run: &RunRecord) -> Vec<String> {
    let environment = &run.header.host.environment;
    let mut warnings: Vec<String> = environment.clock_warning().map(sentence).into_iter().collect();
    // Runs of version 1 do not say how they were built.
    if !environment.optimised && !environment.rustc.is_empty() {
        warnings
            .push("The bench was built without optimisation; its own work is in every sample.".to_owned());
    }
    let (all, cells) = (quality::of(run), run.header.cells.len());
    let wide = all.iter().filter(|it| it.precise == Some(false)).count();
    if let Some(target) = run.header.method.precision.filter(|_| 0 < wide) {
        // Six digits: a share times a hundred has more than it was given with.
        let target = (target * 1e8).round() / 1e6;
        warnings.push(format!("{wide} of {cells} cells did not reach the precision of ±{target} %."));
    }
    let drifting = all.iter().filter(|it| it.drift.is_some_and(Drift::is_flagged)).count();
    if 0 < drifting {
        warnings
            .push(format!("{drifting} of {cells} cells drifted by more than 5 %; see Outliers and drift."));
    }
    warnings
}

/// `text` with a large first letter and a full stop.
fn sentence(text: String) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

/// The tables of what is unusual.
pub fn tables(run: &RunRecord) -> Vec<Table> {
    let all = quality::of(run);
    [outliers_table(run, &all), response_table(run, &all)].into_iter().flatten().collect()
}

fn outliers_table(run: &RunRecord, all: &[Quality]) -> Option<Table> {
    let unusual = |it: &Quality| {
        let far = it.outliers.map_or(0, |it| it.severe.max(it.far));
        let drifts = it.drift.is_some_and(Drift::is_flagged);
        (drifts || 0 < far).then_some((drifts, far))
    };
    let mut rows: Vec<_> = (0..all.len()).filter_map(|it| Some((unusual(&all[it])?, it))).collect();
    rows.sort_by_key(|it| std::cmp::Reverse(it.0));
    let total = Total::of(all);
    let row = |index: usize| {
        let (outliers, drift) = (all[index].outliers.unwrap_or_default(), all[index].drift);
        let share = |part: usize, of: usize| if of == 0 { String::new() } else { percent(part, of) };
        let drift = drift.filter(|it| it.is_flagged());
        vec![
            run.header.cells[index].cell.to_string(),
            outliers.n.to_string(),
            outliers.mild.to_string(),
            outliers.severe.to_string(),
            outliers.far.to_string(),
            outliers.any_switched.map(|it| share(it, outliers.any)).unwrap_or_default(),
            share(outliers.any_stolen, outliers.any),
            drift
                .map(|it| format!("{:+.1} % (p = {:.1e})", it.change.exp_m1() * 100.0, it.p))
                .unwrap_or_default(),
        ]
    };
    (!rows.is_empty()).then(|| Table {
        title: "Outliers and drift".to_owned(),
        note: total.note(rows.len()),
        columns: words(&["cell", "n", "mild", "severe", "> 14.83 MAD", "switched", "stolen", "drift"]),
        rows: rows.iter().take(ROWS_MAX).map(|it| row(it.1)).collect(),
    })
}

/// Sums over all cells.
struct Total(Outliers);

impl Total {
    fn of(all: &[Quality]) -> Self {
        let mut sum = Outliers::default();
        for it in all.iter().filter_map(|it| it.outliers) {
            sum.n += it.n;
            sum.any += it.any;
            sum.any_switched = added(sum.any_switched, it.any_switched);
            sum.any_stolen += it.any_stolen;
            sum.switched = added(sum.switched, it.switched);
            sum.stolen += it.stolen;
        }
        Self(sum)
    }

    fn note(&self, n_rows: usize) -> String {
        let Outliers { n, any, any_switched, any_stolen, switched, stolen, .. } = self.0;
        let rest = n_rows.saturating_sub(ROWS_MAX);
        let cut = if rest == 0 { String::new() } else { format!(" {rest} more cells are in summary.json.") };
        let lost = any_switched.zip(switched).map(|(any_switched, switched)| {
            let (own, all) = (percent(any_switched, any), percent(switched, n));
            format!("the thread lost the processor in {own} (of all samples in {all}); ")
        });
        format!(
            "Every sample counts; none was removed. Of {any} outliers among {n} samples {}{} lie in blocks with \
             stolen time (of all samples {}).{cut}",
            lost.unwrap_or_default(),
            percent(any_stolen, any),
            percent(stolen, n),
        )
    }
}

/// A sum in which what is not known is left out.
fn added(sum: Option<usize>, it: Option<usize>) -> Option<usize> {
    it.map(|it| it + sum.unwrap_or(0)).or(sum)
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.1} %", part as f64 * 100.0 / of.max(1) as f64)
}

fn response_table(run: &RunRecord, all: &[Quality]) -> Option<Table> {
    let rate = run.header.method.rate_per_s?;
    let optional = |value: Option<f64>| value.map(human_ns).unwrap_or_default();
    let row = |(index, it): (usize, &Quality)| {
        let Response { n, p50, p90, p99, max } = it.response?;
        let cell = run.header.cells[index].cell.to_string();
        Some(vec![cell, n.to_string(), human_ns(p50), optional(p90), optional(p99), human_ns(max)])
    };
    let rows: Vec<Vec<String>> = all.iter().enumerate().filter_map(row).collect();
    (!rows.is_empty()).then(|| Table {
        title: "Response times".to_owned(),
        note: format!(
            "From when a sample was due, at {rate} per second on average, until its end. All other tables have service times."
        ),
        columns: words(&["cell", "n", "p50", "p90", "p99", "max"]),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::usual;

    #[test]
    fn runs_of_version_1_say_nothing_of_switches() {
        for (schema, is_said) in [(1, false), (2, true)] {
            let mut run = usual(12);
            run.header.schema = schema;
            // One far outlier, so that there is a table.
            run.blocks.get_mut(&3).unwrap().samples[0].2 *= 100;
            let table = &tables(&run)[0];
            let column = table.columns.iter().position(|it| it == "switched").unwrap();
            assert_eq!(table.rows[0][column].is_empty(), !is_said, "version {schema}: {:?}", table.rows);
            assert_eq!(table.note.contains("lost the processor"), is_said, "{}", table.note);
            let of_cell = &quality::of(&run)[0];
            let json = serde_json::to_value(quality_json(of_cell)).unwrap();
            assert_eq!(json["outliers"]["switched_share_of_all"].is_null(), !is_said, "{json}");
        }
    }
}
