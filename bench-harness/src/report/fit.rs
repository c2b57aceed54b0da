//! The fits of a run as tables.

use super::document::{Table, words};
use super::tables::backing_label;
use crate::cell::Cache;
use crate::run::journal::RunRecord;
use crate::size::{human_bytes, human_ns};
use crate::stats::fit::cost::Cost;
use crate::stats::fit::of_run::{Estimate, Exponent, Fit, Fits, Place, why_no_interval};
use crate::stats::order::Interval;

const COLUMNS: &[&str] = &[
    "driver",
    "a (fixed)",
    "b (each byte)",
    "as speed",
    "c (each layer)",
    "b × overlayfs",
    "exponent",
    "largest residual",
    "a size left out",
    "b per layer",
    "robust twin",
    "remarks",
];

/// A table for each model and place that was fitted.
pub fn tables(fits: &Fits, run: &RunRecord) -> Vec<Table> {
    let mut tables: Vec<(&Place, Table)> = Vec::new();
    for fit in &fits.fits {
        if tables.last().is_none_or(|it| *it.0 != fit.place) {
            tables.push((&fit.place, empty(fit, run)));
        }
        if let Some((_, table)) = tables.last_mut() {
            table.rows.push(row(fit));
        }
    }
    tables.into_iter().map(|it| it.1).collect()
}

fn empty(fit: &Fit, run: &RunRecord) -> Table {
    let Place { model, backing, n_layers, dir_depth, cache, entries, threads } = &fit.place;
    let mut title = format!("Fit of {model} on {}", backing_label(run, backing));
    match n_layers {
        Some(height) => title += &format!(", {height} layers high"),
        None if 1 < fit.found_at.len() => title += ", file in the lowest layer",
        None => {}
    }
    if *dir_depth != 1 {
        title += &format!(", {dir_depth} directories deep");
    }
    if *cache != Cache::Fresh {
        title += &format!(", {}", cache.as_str());
    }
    if *entries != 0 {
        title += &format!(", {entries} files");
    }
    if *threads != 0 {
        title += &format!(", {threads} threads");
    }
    Table { title, note: note(fit), columns: words(COLUMNS), rows: Vec::new() }
}

fn note(fit: &Fit) -> String {
    let list = |values: Vec<String>| values.join(", ");
    let sizes = list(fit.sizes_bytes.iter().map(|it| human_bytes(*it as f64)).collect());
    let layers = list(fit.found_at.iter().map(ToString::to_string).collect());
    let day = why_no_interval(fit.sessions, fit.blocks).unwrap_or_else(|| {
        format!("intervals of a, b and c for another day by t over {} sessions", fit.sessions)
    });
    format!(
        "t = a + b·size + c·found-at, on medians of {} blocks weighted by 1/median²; sizes {sizes}; layers {layers}. \
         Exponent 1: the whole file is copied; 0: its size does not matter. Intervals are 95 %; {day}.",
        fit.blocks
    )
}

fn row(fit: &Fit) -> Vec<String> {
    let axes = fit.axes();
    let Cost { fixed_ns, ns_per_byte, ns_per_layer } = fit.cost;
    let with = |value: f64, interval: Option<Interval>, text: fn(f64) -> String| match interval {
        Some(it) => format!("{} ({} – {})", text(value), text(it.low), text(it.high)),
        None => text(value),
    };
    let sized = |text: String| if axes.sizes { text } else { "one size".to_owned() };
    let layered = |text: String| if axes.layers { text } else { "one layer".to_owned() };
    let percent = |value: Option<f64>| value.map(|it| format!("{:.1} %", it * 100.0)).unwrap_or_default();
    vec![
        fit.subject.label(),
        with(fixed_ns, fit.absolute.fixed_ns, human_ns),
        sized(with(ns_per_byte, fit.absolute.ns_per_byte, per_byte)),
        sized(speed(ns_per_byte)),
        layered(with(ns_per_layer, fit.absolute.ns_per_layer, per_layer)),
        fit.ns_per_byte_to_overlayfs.map(|it| estimate(it, "", 1.0)).unwrap_or_default(),
        fit.exponent.map(exponent).unwrap_or_default(),
        percent(fit.lack_of_fit.residual_max),
        percent(fit.lack_of_fit.left_out_max),
        fit.interaction.map(|it| estimate(it, " %", 100.0)).unwrap_or_default(),
        fit.robust.map(|it| twin(&it, fit)).unwrap_or_default(),
        remarks(fit),
    ]
}

fn per_byte(value: f64) -> String {
    if 0.0 < value && value < 0.001 { format!("{value:.1e} ns/B") } else { format!("{value:.3} ns/B") }
}

fn per_layer(value: f64) -> String {
    format!("{:.2} µs/layer", value / 1e3)
}

/// Bytes in a second at `ns_per_byte`, in GB; nothing where a byte costs nothing that can be seen.
fn speed(ns_per_byte: f64) -> String {
    if ns_per_byte < 1e-3 { "–".to_owned() } else { format!("{:.2} GB/s", 1.0 / ns_per_byte) }
}

fn estimate(it: Estimate, unit: &str, scale: f64) -> String {
    let text = |value: f64| format!("{:.2}", value * scale).replace("-0.00", "0.00");
    match it.interval {
        Some(interval) => {
            format!("{}{unit} ({} – {})", text(it.value), text(interval.low), text(interval.high))
        }
        None => format!("{}{unit}", text(it.value)),
    }
}

fn exponent(it: Exponent) -> String {
    let mark = if it.dominated { "" } else { " *" };
    format!("{}{mark}", estimate(it.slope, "", 1.0))
}

/// How the robust twin differs, or that it does not.
fn twin(robust: &Cost, fit: &Fit) -> String {
    let axes = fit.axes();
    let off = |a: f64, b: f64| (a - b).abs() > 0.05 * a.abs().max(b.abs());
    let mut parts = Vec::new();
    if off(robust.fixed_ns, fit.cost.fixed_ns) {
        parts.push(format!("a {}", human_ns(robust.fixed_ns)));
    }
    if axes.sizes && off(robust.ns_per_byte, fit.cost.ns_per_byte) {
        parts.push(format!("b {}", per_byte(robust.ns_per_byte)));
    }
    if axes.layers && off(robust.ns_per_layer, fit.cost.ns_per_layer) {
        parts.push(format!("c {}", per_layer(robust.ns_per_layer)));
    }
    if parts.is_empty() { "within 5 %".to_owned() } else { parts.join(", ") }
}

/// What a reader must know of this fit.
fn remarks(fit: &Fit) -> String {
    let mut parts = Vec::new();
    if let Some(it) = fit.exponent.filter(|it| !it.dominated) {
        let (low, high) = (human_bytes(it.sizes_bytes.0 as f64), human_bytes(it.sizes_bytes.1 as f64));
        parts.push(format!("* nowhere does the size decide; exponent of {low} to {high}"));
    }
    if let Some(it) = fit.two_slopes {
        parts.push(format!(
            "two slopes: {} up to {}, {} beyond, residual {:.1} %",
            per_byte(it.ns_per_byte_below),
            human_bytes(it.knee_bytes),
            per_byte(it.ns_per_byte_above),
            it.residual_max * 100.0
        ));
    }
    if fit.lack_of_fit.residual_max.is_none() {
        parts.push("no more cells than coefficients: nothing says how well it fits".to_owned());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_written() {
        for (value, expected) in [(0.5342, "0.534 ns/B"), (0.000_02, "2.0e-5 ns/B"), (0.0, "0.000 ns/B")] {
            assert_eq!(per_byte(value), expected);
        }
        assert_eq!((speed(0.5).as_str(), speed(0.0).as_str()), ("2.00 GB/s", "–"));
        assert_eq!(per_layer(1570.0), "1.57 µs/layer");
        let interval = Some(Interval { low: -0.001, high: 0.02 });
        assert_eq!(estimate(Estimate { value: -0.000_01, interval }, " %", 100.0), "0.00 % (-0.10 – 2.00)");
    }
}
