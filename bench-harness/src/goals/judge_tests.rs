//! Goals against runs made of records.

use std::path::Path;

use super::*;
use crate::cell::Cell;
use crate::host::HostFacts;
use crate::matrix::Matrix;
use crate::matrix::expand::cells;
use crate::run::journal::{Header, Metric, Skip};
use crate::run::reader::Block;
use crate::stats::order::Interval;

const GOALS: &str = r#"
ours = ["aufs-fuse/passthrough", "aufs-fuse/noopen"]
others = ["plain", "fuse-overlayfs-2"]
column_base = "overlayfs"
[[goal]]
row = "stat"
model = "lookup"
n_layers = [8]
base = { subject = "overlayfs" }
at_most = 0.5
[[goal]]
row = "speed"
model = "lookup"
n_layers = [8]
measure = "speed"
base = { subject = "plain" }
at_least = 0.95
[[goal]]
row = "depth"
model = "lookup"
base = { n_layers = 1 }
at_most = 1.3
[[goal]]
row = "memory"
model = "server-memory"
measure = "server_idle_pss_bytes"
at_most = 1000.0
[[goal]]
row = "absent"
model = "untar"
base = { subject = "overlayfs" }
at_most = 1.0
[every]
peers = ["fuse-overlayfs-2"]
strict_peer = "fuse-overlayfs-2"
strict_at_most = 0.8
room_from = 1.3
native = "plain"
"#;

const MATRIX: &str = r#"
name = "m"
budget = "1s"
blocks_max = 1
[[driver]]
name = "plain"
[[driver]]
name = "overlayfs"
[[driver]]
name = "aufs-fuse"
options = ["passthrough", "noopen"]
[[driver]]
name = "fuse-overlayfs-2"
[[group]]
models = ["lookup"]
found_at = [1, 8]
files = 1
[[group]]
models = ["server-memory"]
found_at = [8]
files = 1
"#;

/// Times in ns of each block by driver label and height; `None` leaves the driver out as skipped.
fn run_of(times: impl Fn(&Cell, u32) -> Option<u64>, n_blocks: u32) -> RunRecord {
    let matrix = Matrix::parse(MATRIX, Path::new("m")).unwrap();
    let all = cells(&matrix, &[], 1.0);
    let (kept, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| times(&it.cell, 0).is_some());
    let skip = |it: &crate::matrix::expand::PlannedCell| {
        let (subject, backing) = (it.cell.subject(), it.cell.params.backing.clone());
        Skip { subject, backing, model: None, reason: "none here".to_owned() }
    };
    let skips = left.iter().map(skip).collect();
    let host = HostFacts::read(1, "m").unwrap();
    let mut header = Header::new(host, 1, kept);
    header.skips = skips;
    let mut blocks = std::collections::BTreeMap::new();
    for block in 0..n_blocks {
        let mut record = Block { ended: Some((1, 0)), ..Block::default() };
        for (index, planned) in header.cells.iter().enumerate() {
            let Some(ns) = times(&planned.cell, block) else { continue };
            record.samples.push((index, 0, ns, None));
            if planned.cell.params.model == "server-memory" {
                record.metrics.push((index, Metric::ServerIdlePss, ns));
            }
        }
        blocks.insert(block, record);
    }
    RunRecord { header, blocks, ending: None, layers_unchanged: None }
}

/// Passthrough 60, noopen 40 at 8 layers and 35 at one; overlayfs 100, plain 38, fuse-overlayfs 90.
fn usual(cell: &Cell, block: u32) -> Option<u64> {
    let ns = match (cell.driver.as_str(), cell.options.as_str(), cell.params.n_layers) {
        ("aufs-fuse", "noopen", 1) => 35,
        ("aufs-fuse", "noopen", _) => 40,
        ("aufs-fuse", ..) => 60,
        ("overlayfs", ..) => 100,
        ("plain", ..) => 38,
        _ => 90,
    };
    // All move together, as a busy machine makes them: ratios must not see it.
    Some(ns * u64::from(block + 1))
}

fn judged(times: impl Fn(&Cell, u32) -> Option<u64>, n_blocks: u32) -> Vec<(String, Judgement)> {
    let (goals, run) = (Goals::parse(GOALS, "test").unwrap(), run_of(times, n_blocks));
    let rows = judge(&goals, &Summary::of(&run), &run);
    rows.into_iter().map(|it| (goals.goal[it.goal].row.clone(), it)).collect()
}

#[test]
fn the_best_of_ours_is_judged_and_all_are_shown() {
    let rows = judged(usual, 6);
    let of = |name: &str| &rows.iter().find(|it| it.0 == name).unwrap().1;
    let stat = of("stat");
    let (best, ratio) = stat.best.clone().unwrap();
    assert_eq!((best.options.as_str(), ratio.p50), ("noopen", 0.4));
    assert_eq!(stat.verdict, Verdict::Met(Certainty::Certain));
    let columns: Vec<f64> = stat.columns.iter().map(|it| it.unwrap().p50).collect();
    assert_eq!(columns, [0.6, 0.4, 0.38, 0.9]);
    // 38 / 40 is 0.95 of the native speed: just met, with the limit in the interval.
    assert!((of("speed").best.as_ref().unwrap().1.p50 - 0.95).abs() < 1e-12);
    // 60 / 60 of passthrough is better than 40 / 35 of noopen.
    assert_eq!(of("depth").best.as_ref().unwrap().1.p50, 1.0);
    assert_eq!(rows.iter().filter(|it| it.0 == "depth").count(), 1, "not at the base itself");
    assert_eq!(of("absent").verdict, Verdict::Unjudged("not part of this run".to_owned()));
    // Values of six blocks from 40 to 240 ns stand in for bytes.
    assert_eq!(of("memory").best.as_ref().unwrap().1.p50, 140.0);
}

#[test]
fn verdicts_know_the_limit_and_the_noise() {
    let ratio = |p50, interval: Option<(f64, f64)>| Ratio {
        p50,
        interval: interval.map(|(low, high)| Interval { low, high }),
        n_blocks: 6,
    };
    for (ratio, at_most, at_least, expected) in [
        (ratio(0.9, Some((0.8, 0.95))), Some(1.0), None, Verdict::Met(Certainty::Certain)),
        (ratio(0.9, Some((0.8, 1.1))), Some(1.0), None, Verdict::Met(Certainty::WithinNoise)),
        (ratio(1.5, Some((1.2, 1.6))), Some(1.0), None, Verdict::Missed(0.5, Certainty::Certain)),
        (ratio(1.5, None), Some(1.0), None, Verdict::Missed(0.5, Certainty::NoInterval)),
        (ratio(0.5, Some((0.4, 0.6))), None, Some(1.0), Verdict::Missed(0.5, Certainty::Certain)),
        (ratio(1.0, None), None, Some(1.0), Verdict::Met(Certainty::NoInterval)),
    ] {
        assert_eq!(Verdict::of(ratio, at_most, at_least), expected);
    }
}

#[test]
fn what_cannot_be_judged_says_why() {
    let without_overlayfs =
        |cell: &Cell, block| if cell.driver == "overlayfs" { None } else { usual(cell, block) };
    let rows = judged(without_overlayfs, 1);
    assert_eq!(rows[0].1.verdict, Verdict::Unjudged("overlayfs was skipped: none here".to_owned()));
    let without_ours =
        |cell: &Cell, block| if cell.driver == "aufs-fuse" { None } else { usual(cell, block) };
    let rows = judged(without_ours, 1);
    let Verdict::Unjudged(reason) = &rows[0].1.verdict else { panic!("{:?}", rows[0]) };
    assert_eq!(reason, "aufs-fuse (passthrough) was skipped: none here");
    let rows = judged(usual, 1);
    assert_eq!(rows[0].1.verdict, Verdict::Met(Certainty::NoInterval), "one block has no interval");
}

#[test]
fn peers_with_room_must_be_clearly_slower() {
    let goals = Goals::parse(GOALS, "test").unwrap();
    for (peer_ns, native_ns, expected) in [
        // More than 1.3 times of native, and we take 0.8 of it at most, or more.
        (50, 30, (0.8, true)),
        (45, 30, (0.8, false)),
        // No room: not slower is enough, and slower is not.
        (45, 38, (1.0, true)),
        (39, 38, (1.0, false)),
    ] {
        let times = |cell: &Cell, block: u32| match cell.driver.as_str() {
            "fuse-overlayfs-2" => Some(peer_ns * u64::from(block + 1)),
            "plain" => Some(native_ns * u64::from(block + 1)),
            _ => usual(cell, block),
        };
        let run = run_of(times, 6);
        let rows = against_peers(&goals, &Summary::of(&run), &run);
        let row = rows.iter().find(|it| it.place.n_layers == 8 && it.place.model == "lookup").unwrap();
        assert_eq!(row.best.options, "noopen");
        let (limit, _, met) = row.peers[0].unwrap();
        assert_eq!((limit, met), expected, "{peer_ns} and {native_ns} ns");
    }
}
