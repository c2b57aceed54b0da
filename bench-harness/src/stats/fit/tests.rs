//! Properties of fits: what is exact is recovered, units do not matter, intervals cover.

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::cost::{Cost, Point, fit, fit_robust};
use super::intervals::{percentile_interval, resampled, session_interval};
use super::of_run::{Fits, why_no_interval};
use super::shape::{exponent_range, interaction, lack_of_fit, slope, two_slopes};
use crate::cell::Cell;
use crate::report::example;
use crate::run::journal::RunRecord;
use crate::stats::order::{median, sorted};
use crate::stats::summary::Summary;

const SIZES: [f64; 5] = [4096.0, 65536.0, 1_048_576.0, 16_777_216.0, 67_108_864.0];
const LAYERS: [f64; 4] = [1.0, 8.0, 32.0, 64.0];

fn grid(mut time: impl FnMut(f64, f64) -> f64) -> Vec<Point> {
    let pairs = SIZES.iter().flat_map(|size| LAYERS.iter().map(move |layer| (*size, *layer)));
    pairs
        .map(|(size, layer)| Point { size_bytes: size, found_at: layer, time_ns: time(size, layer) })
        .collect()
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

fn costs() -> impl Strategy<Value = Cost> {
    (2.0..7.0_f64, -1.5..1.0_f64, 1.0..4.5_f64).prop_map(|(a, b, c)| Cost {
        fixed_ns: 10_f64.powf(a),
        ns_per_byte: 10_f64.powf(b),
        ns_per_layer: 10_f64.powf(c),
    })
}

proptest! {
    #[test]
    fn noiseless_costs_are_recovered(cost in costs()) {
        let points = grid(|size, layer| cost.at(size, layer));
        for found in [fit(&points).unwrap(), fit_robust(&points).unwrap()] {
            prop_assert!(near(found.fixed_ns, cost.fixed_ns, 1e-5), "{found:?} for {cost:?}");
            prop_assert!(near(found.ns_per_byte, cost.ns_per_byte, 1e-6), "{found:?} for {cost:?}");
            prop_assert!(near(found.ns_per_layer, cost.ns_per_layer, 1e-5), "{found:?} for {cost:?}");
        }
        let lack = lack_of_fit(&points, &fit(&points).unwrap());
        prop_assert!(lack.residual_max.unwrap() < 1e-6 && lack.left_out_max.unwrap() < 1e-5, "{lack:?}");
        prop_assert!(interaction(&points).unwrap().abs() < 1e-5);
        prop_assert!(two_slopes(&points, &lack).is_none(), "one slope is enough");
    }

    #[test]
    fn units_do_not_matter(cost in costs(), noise in prop::collection::vec(0.7..1.4_f64, 20), time in 1e-3..1e3_f64, size in 1e-3..1e3_f64) {
        let points: Vec<Point> = grid(|size, layer| cost.at(size, layer)).iter().zip(&noise)
            .map(|(it, noise)| Point { time_ns: it.time_ns * noise, ..*it }).collect();
        let scaled: Vec<Point> = points.iter()
            .map(|it| Point { time_ns: it.time_ns * time, size_bytes: it.size_bytes * size, ..*it }).collect();
        let (a, b) = (fit(&points).unwrap(), fit(&scaled).unwrap());
        prop_assert!(near(a.fixed_ns * time, b.fixed_ns, 1e-5), "{a:?} {b:?}");
        prop_assert!(near(a.ns_per_byte * time / size, b.ns_per_byte, 1e-6), "{a:?} {b:?}");
        prop_assert!(near(a.ns_per_layer * time, b.ns_per_layer, 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn costs_are_never_negative(times in prop::collection::vec(1.0..1e9_f64, 20)) {
        let mut times = times.into_iter();
        let points = grid(|_, _| times.next().unwrap());
        for cost in [fit(&points), fit_robust(&points)].into_iter().flatten() {
            prop_assert!(0.0 <= cost.fixed_ns && 0.0 <= cost.ns_per_byte && 0.0 <= cost.ns_per_layer, "{cost:?}");
            prop_assert!(points.iter().all(|it| 0.0 < cost.at(it.size_bytes, it.found_at)), "{cost:?}");
        }
    }

    #[test]
    fn powers_of_the_size_are_found(power in 0.0..1.5_f64) {
        let points = grid(|size, layer| size.powf(power) * (1.0 + layer));
        let found = slope(&points, &[true; 20]).unwrap();
        prop_assert!((found - power).abs() < 1e-9, "{found} for {power}");
    }
}

#[test]
fn one_wild_cell_does_not_move_the_robust_twin() {
    let cost = Cost { fixed_ns: 1e5, ns_per_byte: 0.5, ns_per_layer: 1500.0 };
    let mut points = grid(|size, layer| cost.at(size, layer));
    points[7].time_ns *= 20.0;
    let robust = fit_robust(&points).unwrap();
    assert!(near(robust.ns_per_byte, 0.5, 0.02), "{robust:?}");
    assert!(near(robust.fixed_ns, 1e5, 0.02), "{robust:?}");
}

#[test]
fn exponents_tell_a_copy_from_none() {
    for (time, expected, dominated) in [
        // A whole copy: the fixed 100 µs do not matter from 1 MiB on.
        ((|size, layer| 1e5 + 0.5 * size + 1500.0 * layer) as fn(f64, f64) -> f64, 0.97, true),
        // Shared blocks.
        (|_, layer| 1e5 + 1500.0 * layer, 0.0, false),
        // A sync of 100 ms hides even 64 MiB.
        (|size, _| 1e8 + 0.5 * size, 0.15, false),
    ] {
        let points = grid(time);
        let range = exponent_range(&points, &fit(&points).unwrap()).unwrap();
        let found = slope(&points, &range.within).unwrap();
        assert!((found - expected).abs() < 0.04, "{found} for {expected}");
        assert_eq!(range.dominated, dominated, "{expected}");
    }
}

#[test]
fn a_full_cache_gives_a_second_slope() {
    let knee = SIZES[2];
    let points =
        grid(|size, layer| 1e5 + 0.2 * size.min(knee) + 2.0 * (size - knee).max(0.0) + 1500.0 * layer);
    let lack = lack_of_fit(&points, &fit(&points).unwrap());
    assert!(0.1 < lack.residual_max.unwrap(), "{lack:?}");
    let slopes = two_slopes(&points, &lack).unwrap();
    assert_eq!(slopes.knee_bytes, knee);
    assert!(
        near(slopes.ns_per_byte_below, 0.2, 1e-5) && near(slopes.ns_per_byte_above, 2.0, 1e-5),
        "{slopes:?}"
    );
}

#[test]
fn bytes_that_cost_more_below_are_an_interaction() {
    let points = grid(|size, layer| 1e5 + 0.5 * size * (1.0 + 0.01 * layer) + 1500.0 * layer);
    assert!((interaction(&points).unwrap() - 0.01).abs() < 1e-5);
}

/// A standard normal value: twelve uniform ones, added up.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
}

/// Medians of 20 cells in `n_blocks` blocks: 10 % noise of the cell, and 5 % that its block shares.
fn noisy_blocks(rng: &mut ChaCha8Rng, level: f64, n_blocks: usize) -> Vec<Vec<Point>> {
    let block = |rng: &mut ChaCha8Rng| {
        let shared = level + 0.05 * normal(rng);
        let mut points = grid(|size, layer| 1e5 + 0.5 * size + 1500.0 * layer);
        points.iter_mut().for_each(|it| it.time_ns *= (shared + 0.1 * normal(rng)).exp());
        points
    };
    (0..n_blocks).map(|_| block(rng)).collect()
}

fn medians(blocks: &[Vec<Point>], counts: &[u32]) -> Vec<Point> {
    let cell = |at: usize| {
        let drawn = blocks.iter().zip(counts);
        let times = drawn.flat_map(|(it, n)| std::iter::repeat_n(it[at].time_ns, *n as usize)).collect();
        Point { time_ns: median(&sorted(times)).unwrap(), ..blocks[0][at] }
    };
    (0..blocks[0].len()).map(cell).collect()
}

#[test]
fn resampled_exponents_and_session_costs_cover_what_is_true() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let within: Vec<bool> = grid(|size, _| size).iter().map(|it| 1e6 < it.size_bytes).collect();
    let truth = slope(&grid(|size, layer| 1e5 + 0.5 * size + 1500.0 * layer), &within).unwrap();
    let (trials, mut exponents, mut bytes) = (40, 0, 0);
    for trial in 0..trials {
        let blocks = noisy_blocks(&mut rng, 0.0, 12);
        let of = |counts: &[u32]| slope(&medians(&blocks, counts), &within);
        let interval = percentile_interval(resampled(trial, 12, 12, of).into_iter()).unwrap();
        exponents += u32::from(interval.low <= truth && truth <= interval.high);
        // The level of a session is another each time, as on a machine with other work.
        let sessions: Vec<f64> = (0..5)
            .map(|_| {
                let level = 0.08 * normal(&mut rng);
                fit(&medians(&noisy_blocks(&mut rng, level, 4), &[1; 4])).unwrap().ns_per_byte
            })
            .collect();
        let interval = session_interval(&sessions).unwrap();
        bytes += u32::from(interval.low <= 0.5 && 0.5 <= interval.high);
    }
    // 95 % of 40 is 38; below 34 is three standard errors away.
    assert!(34 <= exponents, "exponents: {exponents} of {trials}");
    assert!(34 <= bytes, "bytes: {bytes} of {trials}");
}

#[test]
fn sessions_give_intervals_and_one_session_says_so() {
    let sizes = [4096_u64, 1 << 20, 1 << 24];
    let pairs = sizes.iter().flat_map(|size| [1, 8].map(|layer| (*size, layer)));
    let cells: Vec<_> = pairs
        .flat_map(|(size, layer)| {
            let copy = |driver| example::cell(driver, "default", "copy-up", size, layer);
            let time = 100_000 + size / 2 + 1500 * u64::from(layer);
            [(copy("overlayfs"), time), (copy("unionfs-fuse"), 2 * time)]
        })
        .chain([(example::cell("overlayfs", "default", "second-write", 4096, 8), 5000)])
        .collect();
    let mut run = example::run(&cells, 12);
    for (n_sessions, expected) in [(1, false), (2, false), (3, true)] {
        run.blocks.iter_mut().for_each(|(number, block)| block.session = number % n_sessions);
        let fits = Fits::of(&Summary::of(&run), &run);
        assert_eq!(fits.fits.len(), 2);
        assert_eq!(fits.missing, ["second-write has one size (4 KiB) and one layer (8)"]);
        let [overlayfs, unionfs] = &fits.fits[..] else { unreachable!("two fits") };
        assert!(near(overlayfs.cost.ns_per_byte, 0.5, 0.01), "{:?}", overlayfs.cost);
        assert_eq!(overlayfs.absolute.ns_per_byte.is_some(), expected, "{n_sessions} sessions");
        assert_eq!(
            (overlayfs.sessions, why_no_interval(overlayfs).is_none()),
            (n_sessions as usize, expected)
        );
        let ratio = unionfs.ns_per_byte_to_overlayfs.unwrap();
        let interval = ratio.interval.unwrap();
        assert!(
            near(ratio.value, 2.0, 0.01) && interval.low <= 2.0 && 2.0 <= interval.high + 0.01,
            "{ratio:?}"
        );
        assert!(overlayfs.exponent.unwrap().slope.interval.is_some());
    }
}

/// Overlayfs and a copy of half its speed at each byte, at three sizes and in two layers.
fn two_drivers(sizes: &[u64]) -> Vec<(Cell, u64)> {
    let pairs = sizes.iter().flat_map(|size| [1, 8].map(|layer| (*size, layer)));
    let both = |(size, layer): (u64, u32)| {
        let copy = |driver| example::cell(driver, "default", "copy-up", size, layer);
        let time = |ns_per_byte: f64| (1e5 + ns_per_byte * size as f64 + 1500.0 * f64::from(layer)) as u64;
        [(copy("overlayfs"), time(0.5)), (copy("unionfs-fuse"), time(1.0))]
    };
    pairs.flat_map(both).collect()
}

fn fits_of(run: &RunRecord) -> Fits {
    Fits::of(&Summary::of(run), run)
}

/// Removes the samples of cells that `unwanted` names, by block and cell.
fn without(run: &mut RunRecord, unwanted: impl Fn(u32, &Cell) -> bool) {
    let cells: Vec<Cell> = run.header.cells.iter().map(|it| it.cell.clone()).collect();
    for (number, block) in &mut run.blocks {
        block.samples.retain(|it| !unwanted(*number, &cells[it.0]));
    }
}

#[test]
fn a_cell_of_three_blocks_gives_no_interval() {
    for (n_blocks, expected) in [(3, false), (5, false), (6, true), (12, true)] {
        let mut run = example::run(&two_drivers(&[4096, 1 << 20]), 12);
        without(&mut run, |block, cell| n_blocks <= block && cell.params.file_bytes == 1 << 20);
        let fits = fits_of(&run);
        assert!(fits.missing.is_empty(), "without it there is no second size: {:?}", fits.missing);
        for fit in fits.fits {
            assert_eq!((fit.blocks, fit.blocks_least), (12, n_blocks as usize));
            assert_eq!(fit.exponent.unwrap().slope.interval.is_some(), expected, "{n_blocks} blocks");
            let ratio = fit.ns_per_byte_to_overlayfs.map(|it| it.interval.is_some());
            assert_eq!(ratio, (fit.subject.driver != "overlayfs").then_some(expected), "{n_blocks} blocks");
        }
    }
}

#[test]
fn a_cell_of_three_blocks_is_left_out_where_others_do() {
    let mut run = example::run(&two_drivers(&[4096, 1 << 20, 1 << 28]), 12);
    without(&mut run, |block, cell| 3 <= block && cell.params.file_bytes == 1 << 28);
    let Fits { fits, missing } = fits_of(&run);
    assert_eq!(missing, ["copy-up of 256 MiB has 3 blocks"]);
    for fit in fits {
        assert_eq!((fit.sizes_bytes.as_slice(), fit.blocks_least), (&[4096, 1 << 20][..], 12));
        assert!(fit.exponent.unwrap().slope.interval.is_some());
    }
}

#[test]
fn ratios_of_slopes_are_over_the_cells_that_both_have() {
    // Beyond 1 MiB a byte costs overlayfs ten times as much, and only it has such a file.
    let mut cells = two_drivers(&[4096, 65_536, 1 << 20]);
    for layer in [1, 8] {
        cells.push((example::cell("overlayfs", "default", "copy-up", 1 << 28, layer), 5 * (1 << 28)));
    }
    let fits = fits_of(&example::run(&cells, 12)).fits;
    let [overlayfs, unionfs] = &fits[..] else { panic!("two fits") };
    let apart = unionfs.cost.ns_per_byte / overlayfs.cost.ns_per_byte;
    assert!(!near(apart, 2.0, 0.05), "the large file bends the line of overlayfs: {apart}");
    let ratio = unionfs.ns_per_byte_to_overlayfs.unwrap();
    let interval = ratio.interval.unwrap();
    assert!(near(ratio.value, 2.0, 0.01) && interval.low <= 2.01 && 1.99 <= interval.high, "{ratio:?}");
    assert_eq!((overlayfs.cells_shared, unionfs.cells_shared), (None, Some(6)));
}

#[test]
fn sessions_without_a_cell_are_left_out() {
    let mut run = example::run(&two_drivers(&[4096, 1 << 20, 1 << 24]), 20);
    for (n_sessions, n_whole, expected) in [(4, 4, true), (4, 3, true), (4, 2, false)] {
        run.blocks.iter_mut().for_each(|(number, block)| block.session = number % n_sessions);
        // A cell that is precise enough after the first sessions is in none of the others.
        without(&mut run, |block, cell| {
            n_whole <= block % n_sessions && cell.params.found_at == 8 && cell.params.file_bytes == 4096
        });
        let fit = &fits_of(&run).fits[0];
        assert_eq!((fit.points.len(), fit.sessions), (6, n_whole as usize));
        assert_eq!(fit.absolute.ns_per_byte.is_some(), expected, "{n_whole} of {n_sessions} sessions");
        assert_eq!(why_no_interval(fit).is_none(), expected);
    }
}

#[test]
fn yardsticks_are_not_missed_in_fits() {
    let mut cells = two_drivers(&[4096, 1 << 20, 1 << 24]);
    cells.push((example::cell("plain", "default", "reference", 0, 1), 25_000));
    assert!(fits_of(&example::run(&cells, 6)).missing.is_empty());
}
