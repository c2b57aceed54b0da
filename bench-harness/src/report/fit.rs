//! The fits of a run as tables.

use std::collections::BTreeSet;

use super::document::{Table, words};
use super::tables::backing_label;
use crate::cell::Cache;
use crate::run::journal::RunRecord;
use crate::size::{human_bytes, human_ns};
use crate::stats::fit::BLOCKS_MIN;
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
    fits.fits.chunk_by(|a, b| a.place == b.place).map(|it| table(it, run)).collect()
}

fn table(fits: &[Fit], run: &RunRecord) -> Table {
    let sizes: Vec<u64> = union(fits, |it| &it.sizes_bytes);
    let layers: Vec<u64> = union(fits, |it| &it.found_at);
    let rows = fits.iter().map(|it| row(it, &sizes, &layers)).collect();
    let title = fits.first().map(|it| title(&it.place, 1 < layers.len(), run)).unwrap_or_default();
    Table { title, note: note(fits, &sizes, &layers), columns: words(COLUMNS), rows }
}

/// All values of an axis that any of `fits` has, in rising order.
pub fn union<'a>(fits: impl IntoIterator<Item = &'a Fit>, axis: fn(&Fit) -> &Vec<u64>) -> Vec<u64> {
    let all: BTreeSet<u64> = fits.into_iter().flat_map(|it| axis(it).iter().copied()).collect();
    all.into_iter().collect()
}

/// `25 blocks`, or `3 to 25 blocks` where cells have unlike numbers.
pub fn blocks_text<'a>(fits: impl IntoIterator<Item = &'a Fit> + Clone) -> String {
    let least = fits.clone().into_iter().map(|it| it.blocks_least).min().unwrap_or(0);
    let most = fits.into_iter().map(|it| it.blocks).max().unwrap_or(0);
    if least == most { format!("{most} blocks") } else { format!("{least} to {most} blocks") }
}

fn title(place: &Place, has_layers: bool, run: &RunRecord) -> String {
    let Place { model, backing, n_layers, dir_depth, cache, entries, threads } = place;
    let mut title = format!("Fit of {model} on {}", backing_label(run, backing));
    match n_layers {
        Some(height) => title += &format!(", {height} layers high"),
        None if has_layers => title += ", file in the lowest layer",
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
    title
}

/// `4 KiB, 1 MiB`.
fn sizes_text(sizes: &[u64]) -> String {
    sizes.iter().map(|it| human_bytes(*it as f64)).collect::<Vec<_>>().join(", ")
}

/// `1, 8, 32`.
fn layers_text(layers: &[u64]) -> String {
    layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn note(fits: &[Fit], sizes: &[u64], layers: &[u64]) -> String {
    format!(
        "t = a + b·size + c·found-at, on medians of {} weighted by 1/median²; sizes {}; layers {}. \
         Exponent 1: the whole file is copied; 0: its size does not matter. Intervals are 95 %; {}.",
        blocks_text(fits),
        sizes_text(sizes),
        layers_text(layers),
        intervals_text(fits)
    )
}

/// Which intervals rows have, and why others have none.
fn intervals_text(fits: &[Fit]) -> String {
    let mut parts = Vec::new();
    let known: BTreeSet<usize> =
        fits.iter().filter(|it| it.absolute.is_known()).map(|it| it.sessions).collect();
    if let Some((least, most)) = known.first().zip(known.last()) {
        let sessions = if least == most { format!("{most}") } else { format!("{least} to {most}") };
        parts.push(format!("intervals of a, b and c for another day by t over {sessions} sessions"));
    }
    let reasons: BTreeSet<String> = fits.iter().filter_map(why_no_interval).collect();
    let elsewhere = if known.is_empty() { "" } else { "elsewhere " };
    parts.extend(reasons.into_iter().map(|it| format!("{elsewhere}{it}")));
    if fits.iter().any(|it| it.blocks_least < BLOCKS_MIN) {
        parts.push(format!("a fit with a cell of fewer than {BLOCKS_MIN} blocks has none within the run"));
    }
    parts.join("; ")
}

fn row(fit: &Fit, sizes: &[u64], layers: &[u64]) -> Vec<String> {
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
        remarks(fit, sizes, layers),
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

/// What a reader must know of this fit, of a table whose fits have `sizes` and `layers`.
fn remarks(fit: &Fit, sizes: &[u64], layers: &[u64]) -> String {
    let mut parts = Vec::new();
    if fit.sizes_bytes != sizes {
        parts.push(format!("sizes {} only", sizes_text(&fit.sizes_bytes)));
    }
    if fit.found_at != layers {
        parts.push(format!("layers {} only", layers_text(&fit.found_at)));
    }
    if let Some(n) = fit.cells_shared {
        parts.push(format!("b × overlayfs over the {n} cells that both have"));
    }
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
    use crate::report::example::{cell, run};
    use crate::stats::summary::Summary;

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

    #[test]
    fn rows_say_which_sizes_and_intervals_they_have() {
        let sizes = [4096, 1 << 20, 1 << 24];
        let time = |size: u64| 100_000 + size / 2;
        let mut cells: Vec<_> = ["plain", "overlayfs"]
            .into_iter()
            .flat_map(|driver| sizes.map(|size| (cell(driver, "default", "copy-up", size, 8), time(size))))
            .collect();
        cells.push((cell("overlayfs", "default", "copy-up", 1 << 28, 8), time(1 << 28)));
        let mut run = run(&cells, 24);
        for (number, block) in &mut run.blocks {
            block.session = number % 3;
            // The largest file is measured in six blocks, all of them in one session.
            block.samples.retain(|it| it.0 != 6 || (number % 3 == 0 && *number < 18));
        }
        let [table] = &tables(&Fits::of(&Summary::of(&run), &run), &run)[..] else { panic!("one table") };
        for expected in [
            "medians of 6 to 24 blocks",
            "sizes 4 KiB, 1 MiB, 16 MiB, 256 MiB;",
            "intervals of a, b and c for another day by t over 3 sessions; \
             elsewhere one session: no interval for another day.",
        ] {
            assert!(table.note.contains(expected), "{expected}: {}", table.note);
        }
        let of = |driver: &str| table.rows.iter().find(|it| it[0] == driver).unwrap();
        assert_eq!(
            of("plain").last().unwrap(),
            "sizes 4 KiB, 1 MiB, 16 MiB only; b × overlayfs over the 3 cells that both have"
        );
        assert!(of("plain")[2].contains('(') && !of("overlayfs")[2].contains('('), "{:?}", table.rows);
        assert!(!of("overlayfs").last().unwrap().contains("only"));
    }
}
