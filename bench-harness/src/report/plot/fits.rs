//! Which fits are drawn: those over three sizes and more, a figure for each eight subjects.

use super::fit::{Dot, FitChart, Line};
use super::palette::look;
use super::{Figure, Kind};
use crate::cell::Cache;
use crate::report::fit::{blocks_text, union};
use crate::report::tables::{backing_label, host_of};
use crate::run::journal::RunRecord;
use crate::size::human_bytes;
use crate::stats::fit::of_run::{Fit, Fits};

const SIZE: (u32, u32) = (980, 720);

/// Sizes that a line needs to be worth looking at.
const SIZES_MIN: usize = 3;

/// Lines that can be told apart in one figure.
const LINES_MAX: usize = 8;

/// Points of a curve.
const STEPS: u32 = 60;

/// A figure for each model that was fitted over sizes, in parts where there are many subjects.
pub fn figures(fits: &Fits, run: &RunRecord) -> Vec<Figure> {
    let drawn: Vec<&Fit> = fits.fits.iter().filter(|it| SIZES_MIN <= it.sizes_bytes.len()).collect();
    let places = drawn.chunk_by(|a, b| a.place == b.place);
    let parts = places.flat_map(|fits| fits.chunks(LINES_MAX).enumerate());
    parts.filter_map(|(part, fits)| figure(fits, part, run)).collect()
}

fn figure(fits: &[&Fit], part: usize, run: &RunRecord) -> Option<Figure> {
    let first = fits.first()?;
    let layer = fullest_layer(first)?;
    let place = &first.place;
    // Not only of the first: what another has beyond would be drawn at the edge.
    let sizes = union(fits.iter().copied(), |it| &it.sizes_bytes);
    let host = host_of(run, &place.backing);
    let backing = backing_label(run, &place.backing);
    let state =
        if place.cache == Cache::Fresh { String::new() } else { format!(", {}", place.cache.as_str()) };
    let title = format!("Fit of {} by file size (file at layer {layer}{state})", place.model);
    let chart = FitChart {
        title: title.clone(),
        subtitle: format!(
            "{} · Linux {} · {backing} · t = a + b·size + c·found-at on medians of {}",
            host.label,
            host.kernel,
            blocks_text(fits.iter().copied())
        ),
        x_ticks: sizes.iter().map(|it| (*it as f64, human_bytes(*it as f64))).collect(),
        lines: fits.iter().map(|it| line(it, layer)).collect(),
        note: "markers: measured; lines: fitted to all sizes and layers; below: measured time against the line, \
               at the edge where beyond"
            .to_owned(),
    };
    let name = [
        place.model.clone(),
        "fit".to_owned(),
        place.n_layers.map(|it| format!("{it}-high")).unwrap_or_default(),
        if place.dir_depth == 1 { String::new() } else { format!("{}-deep", place.dir_depth) },
        if place.cache == Cache::Fresh { String::new() } else { place.cache.as_str().to_owned() },
        if place.entries == 0 { String::new() } else { format!("{}-files", place.entries) },
        if place.threads == 0 { String::new() } else { format!("{}-threads", place.threads) },
        if run.header.host.backings.len() < 2 { String::new() } else { place.backing.replace(':', "-") },
        if part == 0 { String::new() } else { format!("{}", part + 1) },
    ];
    let name = name.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("-");
    Some(Figure { name, caption: title, size: SIZE, kind: Kind::Fit(chart) })
}

/// The layer with most sizes.
fn fullest_layer(fit: &Fit) -> Option<u64> {
    let n_sizes = |layer: u64| fit.points.iter().filter(|it| it.found_at as u64 == layer).count();
    fit.found_at.iter().copied().max_by_key(|it| (n_sizes(*it), std::cmp::Reverse(*it)))
}

fn line(fit: &Fit, layer: u64) -> Line {
    let at = layer as f64;
    let mut dots: Vec<Dot> = fit
        .points
        .iter()
        .filter(|it| it.found_at as u64 == layer)
        .map(|it| Dot { size_bytes: it.size_bytes, time_ns: it.time_ns, ratio: 1.0 + fit.cost.residual(it) })
        .collect();
    dots.sort_by(|a, b| a.size_bytes.total_cmp(&b.size_bytes));
    let ends = fit.sizes_bytes.first().zip(fit.sizes_bytes.last());
    let curve = ends.map(|(low, high)| {
        let (low, high) = (*low as f64, *high as f64);
        let size = |step: u32| low * (high / low).powf(f64::from(step) / f64::from(STEPS));
        (0..=STEPS).map(|it| (size(it), fit.cost.at(size(it), at))).collect()
    });
    let exponent =
        fit.exponent.filter(|it| it.dominated).map(|it| format!(", exponent {:.2}", it.slope.value));
    let detail = match fit.cost.ns_per_byte {
        small if small < 1e-3 => "below 0.001 ns/B".to_owned(),
        b => format!("{b:.3} ns/B{}", exponent.unwrap_or_default()),
    };
    Line {
        label: fit.subject.label(),
        detail,
        look: look(&fit.subject),
        dots,
        curve: curve.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostFacts;
    use crate::report::example::{cell, run};
    use crate::report::plot::register_fonts;
    use crate::stats::summary::Summary;

    #[test]
    fn nine_subjects_are_two_figures_with_every_name() {
        let drivers: Vec<String> = (1..=9).map(|it| format!("driver-{it}")).collect();
        let sizes = [4096_u64, 1 << 20, 1 << 26];
        let cells = drivers.iter().flat_map(|driver| {
            sizes.iter().map(move |size| (cell(driver, "default", "copy-up", *size, 8), 50_000 + size / 2))
        });
        let run = run(&cells.collect::<Vec<_>>(), 6);
        let fits = Fits::of(&Summary::of(&run), &run);
        let figures = figures(&fits, &run);
        let names: Vec<&str> = figures.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["copy-up-fit", "copy-up-fit-2"]);
        register_fonts().unwrap();
        let pages: Vec<String> = figures.iter().map(|it| it.svg().unwrap()).collect();
        for driver in &drivers {
            assert_eq!(pages.iter().filter(|it| it.contains(driver.as_str())).count(), 1, "{driver}");
        }
        assert!(pages[0].contains("0.500 ns/B"), "the slope is in the legend");
    }

    #[test]
    fn every_size_of_a_figure_is_on_its_axis() {
        let copy = |driver: &str, size: u64| (cell(driver, "default", "copy-up", size, 8), 50_000 + size / 2);
        let mut cells = [4096, 1 << 20, 1 << 26].map(|it| copy("plain", it)).to_vec();
        cells.extend([4096, 1 << 20, 1 << 28].map(|it| copy("overlayfs", it)));
        for it in &mut cells {
            it.0.params.cache = Cache::Cold;
        }
        let run = run(&cells, 6);
        let figures = figures(&Fits::of(&Summary::of(&run), &run), &run);
        let [Figure { kind: Kind::Fit(chart), .. }] = &figures[..] else { panic!("{figures:?}") };
        let ticks: Vec<&str> = chart.x_ticks.iter().map(|it| it.1.as_str()).collect();
        assert_eq!(ticks, ["4 KiB", "1 MiB", "64 MiB", "256 MiB"]);
        assert!(chart.title.ends_with("layer 8, cold)"), "{}", chart.title);
    }

    #[test]
    fn a_figure_of_a_merged_run_names_its_own_machine() {
        let sizes = [4096_u64, 1 << 20, 1 << 26];
        let mut cells = sizes.map(|it| (cell("plain", "default", "copy-up", it, 8), 50_000 + it / 2));
        for it in &mut cells {
            it.0.params.backing = "dir@2".to_owned();
        }
        let mut run = run(&cells, 6);
        let hosts =
            ["first", "second"].map(|it| HostFacts { label: it.to_owned(), ..run.header.host.clone() });
        run.header.origin.hosts = hosts.to_vec();
        let summary = Summary::of(&run);
        let mut figures = figures(&Fits::of(&summary, &run), &run);
        figures.extend(crate::report::plot::figures(&summary, &run, None));
        let subtitles: Vec<&str> = figures
            .iter()
            .map(|it| match &it.kind {
                Kind::Fit(it) => it.subtitle.as_str(),
                Kind::Lines(it) => it.subtitle.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(
            2 <= subtitles.len() && subtitles.iter().all(|it| it.starts_with("second · ")),
            "{subtitles:?}"
        );
    }
}
