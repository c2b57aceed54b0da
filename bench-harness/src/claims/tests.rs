//! Claims on runs that are made up: what must be supported, refuted and left undecided, and how often that errs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::decide::{Verdict, decide};
use super::table::Rule;
use super::{LEVEL, Row, judge};
use crate::cell::{Cache, Cell};
use crate::host::BackingFacts;
use crate::report::example;
use crate::run::journal::Metric;
use crate::run::journal::RunRecord;
use crate::stats::summary::Summary;
use Verdict::{Refuted, Supported, Undecided};

const MIB: u64 = 1 << 20;

/// A cell, its time, and a metric that each block has.
struct Example {
    cell: Cell,
    time_ns: u64,
    metric: Option<(Metric, u64)>,
}

fn cell(driver: &str, model: &str, file_bytes: u64) -> Cell {
    example::cell(driver, "default", model, file_bytes, 8)
}

fn timed(cell: Cell, time_ns: u64) -> Example {
    Example { cell, time_ns, metric: None }
}

fn run(examples: &[Example], n_blocks: u32) -> RunRecord {
    let cells: Vec<(Cell, u64)> = examples.iter().map(|it| (it.cell.clone(), it.time_ns)).collect();
    let mut run = example::run(&cells, n_blocks);
    for block in run.blocks.values_mut() {
        let metrics = examples
            .iter()
            .enumerate()
            .filter_map(|(at, it)| it.metric.map(|(metric, value)| (at, metric, value)));
        block.metrics = metrics.collect();
    }
    run
}

fn sized(cell: Cell, metric: Metric, bytes: u64) -> Example {
    Example { metric: Some((metric, bytes)), ..timed(cell, 1000) }
}

fn at(mut cell: Cell, found_at: u32, n_layers: u32, dir_depth: u32) -> Cell {
    (cell.params.found_at, cell.params.n_layers, cell.params.dir_depth) = (found_at, n_layers, dir_depth);
    cell
}

fn rows(examples: &[Example], n_blocks: u32) -> Vec<Row> {
    let run = run(examples, n_blocks);
    judge(&Summary::of(&run), &run)
}

#[track_caller]
fn assert_verdicts(rows: &[Row], says: &str, expected: &[(&str, Verdict)]) {
    let of_claim: Vec<&Row> = rows.iter().filter(|it| it.says.contains(says)).collect();
    assert!(!of_claim.is_empty(), "no claim says {says}");
    for (driver, verdict) in expected {
        let row = of_claim.iter().find(|it| it.subject.label() == *driver);
        let row = row.unwrap_or_else(|| panic!("{says}: no row of {driver}"));
        assert_eq!(row.verdict, *verdict, "{says}, {driver}: {row:?}");
    }
}

#[test]
fn times_decide_claims() {
    let base = |driver| cell(driver, "copy-up", 4096);
    let large = |driver| cell(driver, "copy-up", 64 * MIB);
    let second = |driver| cell(driver, "second-write", 4096);
    let found = |driver, layer| at(cell(driver, "lookup", 4096), layer, 64, 1);
    let deep = |driver| at(cell(driver, "copy-up", 4096), 8, 8, 16);
    let rows = rows(
        &[
            timed(base("overlayfs"), 100_000),
            timed(large("overlayfs"), 30_000_000),
            timed(base("reflink"), 100_000),
            timed(large("reflink"), 101_000),
            timed(found("overlayfs", 1), 10_000),
            timed(found("overlayfs", 64), 40_000),
            timed(found("aufs-fuse", 1), 20_000),
            timed(found("aufs-fuse", 64), 20_100),
            timed(second("plain"), 5000),
            timed(second("overlayfs"), 5500),
            timed(second("unionfs-fuse"), 50_000),
            timed(cell("overlayfs", "second-write", 64 * MIB), 25_000),
            timed(cell("reflink", "second-write", 64 * MIB), 90_000),
            timed(deep("overlayfs"), 150_000),
            timed(deep("reflink"), 100_000),
        ],
        20,
    );
    assert_verdicts(&rows, "larger the file", &[("overlayfs", Supported), ("reflink", Refuted)]);
    assert_verdicts(&rows, "lower layer", &[("overlayfs", Supported), ("aufs-fuse", Refuted)]);
    assert_verdicts(&rows, "Only the first", &[("overlayfs", Supported), ("unionfs-fuse", Refuted)]);
    assert_verdicts(&rows, "paid for the copy", &[("overlayfs", Supported), ("reflink", Refuted)]);
    assert_verdicts(&rows, "deep in a directory", &[("overlayfs", Supported), ("reflink", Refuted)]);
    let missing = rows.iter().find(|it| it.says.contains("whiteout")).unwrap();
    assert_eq!((missing.verdict, missing.p50), (Undecided, None));
    assert!(missing.reason.contains("whiteout"), "{}", missing.reason);
}

#[test]
fn volumes_are_compared_where_most_samples_are() {
    let both = |model: &str, plain: u64, volume: u64| {
        [timed(cell("plain", model, 4096), plain), timed(cell("volume", model, 4096), volume)]
    };
    let examples = [both("copy-up", 5000, 5050), both("create", 9000, 12_000), both("page-cache", 1, 9)];
    let rows = rows(&examples.into_iter().flatten().collect::<Vec<_>>(), 20);
    let found: Vec<_> =
        rows.iter().filter(|it| it.claim == "C5").map(|it| (&it.what[..6], it.verdict)).collect();
    assert_eq!(found, [("copy-u", Supported), ("create", Refuted)]);
}

#[test]
fn volumes_are_compared_below_one_directory() {
    // The deep cells come last and have as many samples.
    let both = |depth: u32, volume: u64| {
        let deep = |driver| at(cell(driver, "copy-up", 4096), 8, 8, depth);
        [timed(deep("plain"), 5000 * u64::from(depth)), timed(deep("volume"), volume)]
    };
    let found = rows(&[both(1, 5050), both(64, 900_000)].into_iter().flatten().collect::<Vec<_>>(), 20);
    let row = found.iter().find(|it| it.claim == "C5").unwrap();
    assert_eq!((row.what.as_str(), row.verdict), ("copy-up of 4 KiB at layer 8", Supported));
}

#[test]
fn rows_name_depth_and_state() {
    let mut deep = at(cell("overlayfs", "copy-up", 4 * MIB), 8, 8, 16);
    deep.params.cache = Cache::Cold;
    let rows = rows(&[sized(deep, Metric::Upper, 4 * MIB)], 20);
    let row = rows.iter().find(|it| it.claim == "C6").unwrap();
    assert_eq!(row.what, "copy-up of 4 MiB at layer 8, 16 directories deep, cold");
}

#[test]
fn files_that_are_too_short_prove_no_share() {
    for (bytes, expected) in [(4096, Undecided), (MIB - 4096, Undecided), (MIB, Supported)] {
        let rows = rows(&[sized(cell("overlayfs", "copy-up", bytes), Metric::Upper, bytes)], 20);
        assert_verdicts(&rows, "whole file", &[("overlayfs", expected)]);
        let row = rows.iter().find(|it| it.claim == "C6").unwrap();
        assert!(row.verdict == Supported || row.reason.contains("below 1 MiB"), "{}", row.reason);
    }
    for (bytes, expected) in [(4096, Undecided), (100 * 4096 - 1, Undecided), (MIB, Supported)] {
        let rows = rows(&[sized(cell("overlayfs", "whiteout", bytes), Metric::Upper, 4096)], 20);
        assert_verdicts(&rows, "small whiteout", &[("overlayfs", expected)]);
    }
}

#[test]
fn both_lines_of_a_claim_are_corrected_together() {
    // Seven blocks are enough for two rows and too few for three, and here each line has two.
    let all = ["overlayfs", "reflink"]
        .map(|it| [timed(cell(it, "second-write", MIB), 5000), timed(cell(it, "copy-up", MIB), 90_000)]);
    let mut all: Vec<Example> = all.into_iter().flatten().collect();
    all.push(timed(cell("plain", "second-write", MIB), 5000));
    for (n_blocks, expected) in [(7, Undecided), (8, Supported)] {
        let rows = rows(&all, n_blocks);
        for says in ["Only the first", "paid for the copy"] {
            assert_verdicts(&rows, says, &[("overlayfs", expected), ("reflink", expected)]);
        }
    }
}

#[test]
fn the_layer_counts_and_not_the_height() {
    let rows = rows(
        &[
            timed(at(cell("overlayfs", "lookup", 4096), 1, 1, 1), 10_000),
            timed(at(cell("overlayfs", "lookup", 4096), 64, 64, 1), 90_000),
        ],
        20,
    );
    assert_verdicts(&rows, "lower layer", &[("overlayfs", Undecided)]);
}

#[test]
fn bytes_decide_claims() {
    let copy = |driver| cell(driver, "copy-up", 64 * MIB);
    let gone = |driver, size| cell(driver, "whiteout", size);
    let read = |driver| cell(driver, "page-cache", 64 * MIB);
    let rows = rows(
        &[
            sized(copy("overlayfs"), Metric::Upper, 64 * MIB + 4096),
            sized(copy("aufs-fuse"), Metric::Upper, 4096),
            sized(gone("overlayfs", 64 * MIB), Metric::Upper, 0),
            timed(gone("overlayfs", 4096), 1000),
            sized(gone("aufs-fuse", 64 * MIB), Metric::Upper, 64 * MIB),
            timed(gone("aufs-fuse", 4096), 100),
            sized(read("overlayfs"), Metric::Cached, 64 * MIB),
            sized(read("fuse-overlayfs"), Metric::Cached, 192 * MIB),
        ],
        20,
    );
    assert_verdicts(&rows, "whole file", &[("overlayfs", Supported), ("aufs-fuse", Refuted)]);
    assert_verdicts(&rows, "small whiteout", &[("overlayfs", Supported), ("aufs-fuse", Refuted)]);
    assert_verdicts(&rows, "deletion takes no longer", &[("overlayfs", Supported), ("aufs-fuse", Refuted)]);
    assert_verdicts(&rows, "page cache", &[("overlayfs", Supported), ("fuse-overlayfs", Refuted)]);
}

#[test]
fn blocks_that_share_extents_prove_no_copy() {
    let mut run = run(&[sized(cell("overlayfs", "copy-up", MIB), Metric::Upper, MIB)], 20);
    let (name, fs_type) = ("dir".to_owned(), "xfs".to_owned());
    let backing =
        BackingFacts { name, fs_type, options: "rw".to_owned(), path: "/nowhere".into(), fs_hash: None };
    run.header.host.backings.push(backing);
    let rows = judge(&Summary::of(&run), &run);
    assert_verdicts(&rows, "whole file", &[("overlayfs", Undecided)]);
}

#[test]
fn too_few_blocks_say_how_many_are_needed() {
    // One row: 2⁻ⁿ ≤ 2.5 % from 6 on. Two: from 7 on.
    for (n_blocks, n_rows, expected) in
        [(5, 1, Undecided), (6, 1, Supported), (6, 2, Undecided), (7, 2, Supported)]
    {
        let values = vec![2.0; n_blocks];
        let all = vec![(Rule::Above(1.1), values.as_slice()); n_rows];
        let (verdict, reason) = &decide(&all)[0];
        assert_eq!(*verdict, expected, "{n_blocks} blocks, {n_rows} rows: {reason}");
        assert!(*verdict == Supported || reason.contains(&format!("needs {}", 5 + n_rows)), "{reason}");
    }
}

#[test]
fn equivalence_needs_evidence() {
    let rule = Rule::Within(1.0 / 1.1, 1.1);
    let wide: Vec<f64> = (0..20).map(|it| if it % 2 == 0 { 0.8 } else { 1.25 }).collect();
    for (values, expected) in [
        (vec![1.02; 20], Supported),
        (vec![1.3; 20], Refuted),
        (vec![0.7; 20], Refuted),
        (wide, Undecided),
        (vec![1.02; 3], Undecided),
        (vec![1.1; 20], Undecided),
    ] {
        assert_eq!(decide(&[(rule, &values)])[0].0, expected, "{values:?}");
    }
}

#[test]
fn verdicts_on_the_limit_are_rare_over_all_drivers() {
    // The median of each driver is the limit: whatever is said is wrong for one half of the words.
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let trials = 2000;
    let wrong = (0..trials).filter(|_| {
        let all: Vec<Vec<f64>> = (0..8).map(|_| (0..24).map(|_| 1.1 + uniform() - 0.5).collect()).collect();
        let all: Vec<(Rule, &[f64])> = all.iter().map(|it| (Rule::Above(1.1), it.as_slice())).collect();
        decide(&all).iter().any(|it| it.0 != Undecided)
    });
    let share = wrong.count() as f64 / f64::from(trials);
    // Three standard errors of 2000 trials are 1.5 %.
    assert!(share <= LEVEL + 0.015, "{share}");
}
