//! Which figures a run gives: chosen from what was measured.

use std::collections::{BTreeMap, BTreeSet};

use super::heat::{HeatMaps, Panel};
use super::line::{LineChart, Point, Series};
use super::palette::look;
use super::ratios;
use super::{Figure, Kind};
use crate::cell::{Cache, Params, Subject};
use crate::model::Lower;
use crate::report::tables::{backing_label, host_of};
use crate::report::versus::subjects;
use crate::run::journal::RunRecord;
use crate::size::human_bytes;
use crate::stats::histogram::percentile_curve;
use crate::stats::summary::{CellSummary, Summary};

/// The axes along which lines are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Along {
    Size,
    Layer,
}

/// Reads the value of an axis.
type Axis = fn(&Params) -> u64;

const SIZE: (u32, u32) = (980, 580);
const BARS: &str = "median of all samples; bars: 95 % interval of the median";

/// All figures of a run, copy-up first, then ratios to `base`.
pub fn figures(summary: &Summary, run: &RunRecord, base: Option<&Subject>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let keys: BTreeSet<(String, String)> =
        run.params().into_iter().map(|it| (it.backing.clone(), it.model.clone())).collect();
    for (backing, model) in keys {
        let chooser = Chooser { summary, run, backing, model };
        figures.extend(chooser.figures());
    }
    figures.extend(forests(summary, run, base));
    figures.sort_by_key(|it| (!it.name.starts_with("copy-up"), !it.name.starts_with("ratios")));
    figures
}

/// Rows of a forest plot that fit a printed page.
const FOREST_ROWS_MAX: usize = 42;

/// Forest plots for each backing, the backing with most to say first.
fn forests(summary: &Summary, run: &RunRecord, base: Option<&Subject>) -> Vec<Figure> {
    let subjects = subjects(summary);
    let Some(base) = base else { return Vec::new() };
    let all = ratios::backings(run).into_iter();
    let mut all: Vec<_> = all
        .filter_map(|it| Some((it, ratios::forest(summary, run, it, base, &subjects)?)))
        .map(|(backing, forest)| (backing, forest.paged(FOREST_ROWS_MAX)))
        .collect();
    all.sort_by_key(|it| std::cmp::Reverse(it.1.len()));
    let mut figures = Vec::new();
    for (backing, pages) in all {
        for (index, forest) in pages.into_iter().enumerate() {
            let number = if index == 0 { String::new() } else { format!("-{}", index + 1) };
            let name = format!("ratios-{}{number}", backing.replace(':', "-"));
            let caption = format!("{} on {}", forest.title, backing_label(run, backing));
            figures.push(forest.figure(name, caption));
        }
    }
    figures
}

/// The cells of one model on one backing.
struct Chooser<'a> {
    summary: &'a Summary,
    run: &'a RunRecord,
    backing: String,
    model: String,
}

impl Chooser<'_> {
    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for cache in self.params(|_| true).into_iter().map(|it| it.cache).collect::<BTreeSet<_>>() {
            for along in [Along::Size, Along::Layer] {
                figures.extend(self.lines(along, cache));
            }
            if self.model == "copy-up" {
                figures.extend(self.heat(cache));
                figures.extend(self.percentiles(cache));
            }
        }
        figures
    }

    /// Parameter sets with numbers that `wanted` likes.
    fn params(&self, wanted: impl Fn(&Params) -> bool) -> BTreeSet<&Params> {
        let own = |it: &&CellSummary| {
            it.latency.is_some()
                && it.cell.params.backing == self.backing
                && it.cell.params.model == self.model
                && it.cell.params.dir_depth == 1
        };
        let cells = self.summary.cells.iter().filter(own);
        cells.map(|it| &it.cell.params).filter(|it| wanted(it)).collect()
    }

    fn name(&self, what: &str, cache: Cache) -> String {
        let several_backings = 1 < self.run.header.host.backings.len();
        let backing = self.backing.replace(':', "-");
        let backing = if several_backings { format!("-{backing}") } else { String::new() };
        // Fresh is the default and goes without saying.
        let cache = match cache {
            Cache::Fresh => "",
            Cache::Hot => "-hot",
            Cache::Cold => "-cold",
        };
        format!("{}-{what}{cache}{backing}", self.model)
    }

    fn subtitle(&self) -> String {
        let host = host_of(self.run, &self.backing);
        // Not those of the run: a merged one has the blocks of other machines too.
        let own =
            |it: &&CellSummary| it.cell.params.backing == self.backing && it.cell.params.model == self.model;
        let cells = self.summary.cells.iter().filter(own);
        let blocks = cells.map(|it| it.block_medians.len()).max().unwrap_or(0);
        let backing = backing_label(self.run, &self.backing);
        let date = host.started_at.split('T').next().unwrap_or_default();
        format!(
            "{} · Linux {} · {backing} · {} CPUs · {blocks} blocks · {date}",
            host.label, host.kernel, host.cpus
        )
    }

    /// Lines along one axis, the other fixed where most values were measured.
    fn lines(&self, along: Along, cache: Cache) -> Option<Figure> {
        let (moving, fixed): (Axis, Axis) = match along {
            Along::Size => (|it| it.file_bytes, |it| u64::from(it.n_layers)),
            Along::Layer => (|it| u64::from(it.found_at), |it| it.file_bytes),
        };
        let tied = |it: &Params| it.cache == cache && it.found_at == it.n_layers;
        // Lines are of one number of files, the largest.
        let entries = self.params(tied).into_iter().map(|it| it.entries).max()?;
        let tied = |it: &Params| tied(it) && it.entries == entries;
        let mut groups: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for params in self.params(tied) {
            groups.entry(fixed(params)).or_default().insert(moving(params));
        }
        let n_samples = |at: u64| -> usize {
            self.params(|it| tied(it) && fixed(it) == at).into_iter().map(|it| self.n_samples(it)).sum()
        };
        let (at, values) = groups.into_iter().max_by_key(|(at, values)| (values.len(), n_samples(*at)))?;
        if values.len() < 2 {
            return None;
        }
        let chosen = self.params(|it| tied(it) && fixed(it) == at);
        let series = |subject: &Subject| {
            let mut points: Vec<Point> = chosen
                .iter()
                .filter_map(|params| {
                    let latency = self.summary.find(subject, params)?.latency.as_ref()?;
                    Some(Point { x: moving(params) as f64, y: latency.p50, interval: latency.p50_interval })
                })
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let (label, look) = (subject.label(), look(subject));
            (!points.is_empty()).then_some(Series { label, look, points, marked: true })
        };
        let (what, x_label, given) = match along {
            Along::Size => ("by-size", "file size", format!("file at layer {at}")),
            Along::Layer if at == 0 => ("by-layer", "height of the stack (layers)", String::new()),
            Along::Layer if self.model_makes_files() => {
                ("by-layer", "height of the stack (layers)", human_bytes(at as f64))
            }
            Along::Layer => {
                ("by-layer", "layer that holds the file (lowest of the stack)", human_bytes(at as f64))
            }
        };
        let given = if entries == 0 { given } else { format!("{entries} files of {given}") };
        let label = |value: u64| match along {
            Along::Size => human_bytes(value as f64),
            Along::Layer => value.to_string(),
        };
        let state = match cache {
            Cache::Fresh => "",
            Cache::Hot => ", warm",
            Cache::Cold => ", cold",
        };
        let given = if given.is_empty() { given } else { format!(" ({given})") };
        let by = if along == Along::Size { "file size" } else { "layer depth" };
        let chart = LineChart {
            title: format!("{} latency by {by}{given}{state}", title_of(&self.model)),
            subtitle: self.subtitle(),
            x_label: x_label.to_owned(),
            y_label: "latency (median)".to_owned(),
            x_ticks: values.iter().map(|value| (*value as f64, label(*value))).collect(),
            series: subjects(self.summary).iter().filter_map(series).collect(),
            note: format!("{} at each point; {BARS}", self.n_text(chosen.iter().copied())),
        };
        let caption = chart.title.clone();
        Some(Figure { name: self.name(what, cache), caption, size: SIZE, kind: Kind::Lines(chart) })
    }

    /// Whether the model needs no file of a layer, but is measured with files of some length.
    fn model_makes_files(&self) -> bool {
        crate::model::by_name(&self.model).is_some_and(|it| it.lower() == Lower::Nothing && it.is_sized())
    }

    fn heat(&self, cache: Cache) -> Option<Figure> {
        let chosen = self.params(|it| it.cache == cache && it.found_at == it.n_layers);
        let sizes: BTreeSet<u64> = chosen.iter().map(|it| it.file_bytes).collect();
        let layers: BTreeSet<u32> = chosen.iter().map(|it| it.found_at).collect();
        if sizes.len() < 2 || layers.len() < 2 {
            return None;
        }
        let (sizes, layers): (Vec<u64>, Vec<u32>) =
            (sizes.into_iter().collect(), layers.into_iter().collect());
        let panel = |subject: &Subject| {
            let mut values = BTreeMap::new();
            for params in &chosen {
                let column = sizes.iter().position(|it| *it == params.file_bytes)?;
                let row = layers.iter().position(|it| *it == params.found_at)?;
                let latency = self.summary.find(subject, params).and_then(|it| it.latency.as_ref());
                latency.map(|it| values.insert((column, row), (it.p50, it.n)));
            }
            (!values.is_empty()).then(|| Panel { label: subject.label(), values })
        };
        let panels: Vec<Panel> = subjects(self.summary).iter().filter_map(panel).collect();
        let title = format!("{} latency by file size and layer", title_of(&self.model));
        let (caption, subtitle) = (title.clone(), self.subtitle());
        let maps = HeatMaps { title, subtitle, sizes, layers, panels };
        let (name, size) = (self.name("heat", cache), maps.size());
        Some(Figure { name, caption, size, kind: Kind::Heat(maps) })
    }

    /// Samples of the subject that has most of them with `params`.
    fn n_samples(&self, params: &Params) -> usize {
        let with = self.summary.cells.iter().filter(|it| it.cell.params == *params);
        with.filter_map(|it| it.latency.as_ref()).map(|it| it.n).max().unwrap_or(0)
    }

    /// `n = 264`, or `n = 12 – 264`: how many samples the cells with `params` have.
    fn n_text<'b>(&self, params: impl Iterator<Item = &'b Params>) -> String {
        let params: BTreeSet<&Params> = params.collect();
        let own = self.summary.cells.iter().filter(|it| params.contains(&it.cell.params));
        let all: BTreeSet<usize> = own.filter_map(|it| it.latency.as_ref()).map(|it| it.n).collect();
        match (all.first(), all.last()) {
            (Some(least), Some(most)) if least != most => format!("n = {least} – {most}"),
            (least, _) => format!("n = {}", least.unwrap_or(&0)),
        }
    }

    /// Percentiles at the parameters with most samples.
    fn percentiles(&self, cache: Cache) -> Option<Figure> {
        let chosen = self.params(|it| it.cache == cache);
        let params = chosen.into_iter().max_by_key(|it| self.n_samples(it))?;
        let n = self.n_samples(params);
        if n < 20 {
            return None;
        }
        let series = |subject: &Subject| {
            let latency = self.summary.find(subject, params)?.latency.as_ref()?;
            let curve = percentile_curve(&latency.histogram);
            let points = curve.into_iter().map(|(x, y, interval)| Point { x, y, interval }).collect();
            let (label, look) = (subject.label(), look(subject));
            Some(Series { label, look, points, marked: false })
        };
        let marks =
            [(1.0, "0 %"), (2.0, "50 %"), (10.0, "90 %"), (100.0, "99 %"), (1e3, "99.9 %"), (1e4, "99.99 %")];
        let within = marks.into_iter().filter(|it| it.0 <= n as f64);
        let (size, layer) = (human_bytes(params.file_bytes as f64), params.found_at);
        let chart = LineChart {
            title: format!("{} latency percentiles ({size}, file at layer {layer})", title_of(&self.model)),
            subtitle: self.subtitle(),
            x_label: "percentile, on a scale of 1 / (1 − q)".to_owned(),
            y_label: "latency".to_owned(),
            x_ticks: within.map(|(x, label)| (x, label.to_owned())).collect(),
            series: subjects(self.summary).iter().filter_map(series).collect(),
            note: format!("n = {n} of each driver at most; bands: 95 % interval if samples were independent"),
        };
        let caption = chart.title.clone();
        Some(Figure { name: self.name("percentiles", cache), caption, size: SIZE, kind: Kind::Lines(chart) })
    }
}

/// A model's name at the start of a title.
fn title_of(model: &str) -> String {
    let mut chars = model.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
