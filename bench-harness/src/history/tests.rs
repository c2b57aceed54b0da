//! Histories that are made up: where the change is, what times are divided by, and who is refused.

use super::load::{Stored, load, one_host};
use super::series::{Base, all_series};
use crate::report::example::{cell, run};
use crate::run::journal::{Journal, Record};
use crate::stats::summary::Summary;

/// A run of day `day`: the machine is `slow` times as slow, and overlayfs takes `factor` of plain.
fn stored(day: u32, slow: u64, factor: u64, has_reference: bool) -> Stored {
    let timed = |driver: &str, model: &str, time_ns: u64| {
        // No two days are alike.
        (cell(driver, "default", model, 4096, 8), time_ns * (1000 + u64::from(day * 7 % 11)))
    };
    let mut examples = vec![
        timed("plain", "copy-up", 10 * slow),
        timed("overlayfs", "copy-up", 10 * slow * factor + u64::from(day % 3)),
        timed("overlayfs", "lookup", 7 * slow),
    ];
    if has_reference {
        examples.push(timed("plain", "reference", 25 * slow));
        examples.push(timed("plain", "null", 1));
    }
    let mut run = run(&examples, 8);
    run.header.host.started_at = format!("2026-10-{:02}T10:00:00.{day}Z", day + 1);
    run.header.host.git_rev = Some(format!("commit-{day}"));
    let summary = Summary::of(&run);
    Stored { dir: format!("runs/{day}").into(), run, summary }
}

#[test]
fn a_slower_commit_is_found_and_a_slower_day_is_not() {
    let runs: Vec<Stored> =
        (0..16).map(|day| stored(day, 1 + u64::from(day % 3), if day < 9 { 10 } else { 13 }, true)).collect();
    let series = all_series(&runs, 1);
    let of = |model: &str, driver: &str| {
        series.iter().find(|it| it.cell.params.model == model && it.cell.driver == driver).unwrap()
    };
    let copy = of("copy-up", "overlayfs");
    assert_eq!((copy.base, copy.samples.len(), copy.without_base), (Base::Reference, 16, 0));
    assert_eq!(copy.changes.len(), 1, "{:?}", copy.changes);
    assert_eq!((copy.changes[0].at, copy.changes[0].when.as_str()), (9, "2026-10-10 commit-9"));
    assert!((copy.changes[0].factor - 1.3).abs() < 0.03, "{:?}", copy.changes);
    assert!(of("copy-up", "plain").changes.is_empty() && of("lookup", "overlayfs").changes.is_empty());
    assert!(series.iter().all(|it| !["reference", "null"].contains(&it.cell.params.model.as_str())));
}

#[test]
fn one_base_serves_a_whole_series() {
    // Two runs with a reference and three without: what all have is plain's copy-up.
    let runs: Vec<Stored> = (0..5).map(|day| stored(day, 1, 10, day < 2)).collect();
    let series = all_series(&runs, 1);
    let copy =
        series.iter().find(|it| it.cell.driver == "overlayfs" && it.cell.params.model == "copy-up").unwrap();
    assert_eq!((copy.base, copy.samples.len(), copy.without_base), (Base::PlainCopyUp, 5, 0));
    assert!(copy.samples.iter().all(|it| (it.ratio - 10.0).abs() < 0.5), "{:?}", copy.samples);
    let plain = series.iter().find(|it| it.cell.driver == "plain").unwrap();
    assert_eq!((plain.base, plain.without_base), (Base::Reference, 3), "it cannot be its own base");
}

#[test]
fn machines_are_not_mixed() {
    let mut runs: Vec<Stored> = (0..4).map(|day| stored(day, 1, 10, true)).collect();
    assert!(one_host(&runs).is_ok());
    runs[1].run.header.host.cpu = "another".to_owned();
    runs[2].run.header.host.cpu = "another".to_owned();
    let refused = one_host(&runs).unwrap_err();
    assert_eq!(refused.exit(), crate::error::Exit::Refused);
    assert!(refused.line().contains("another") && refused.line().contains("--allow"), "{}", refused.line());
    let series = all_series(&runs, 1);
    let copies =
        series.iter().filter(|it| it.cell.driver == "overlayfs" && it.cell.params.model == "copy-up");
    assert_eq!(copies.map(|it| it.samples.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn directories_are_read_in_order_and_what_is_no_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Written in the order of names, made in another.
    for (name, day) in [("a", 7), ("b", 2), ("c", 5)] {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let mut journal = Journal::create(&home, &stored(day, 1, 10, true).run.header).unwrap();
        journal.append(&Record::BlockStart { block: 0, session: 0 }).unwrap();
        journal.flush().unwrap();
    }
    std::fs::create_dir(dir.path().join("notes")).unwrap();
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("samples.jsonl"), "{\"day\":1}\n").unwrap();
    let (runs, left_out) = load(&[dir.path().to_owned(), dir.path().join("a")]).unwrap();
    let names: Vec<_> = runs.iter().map(|it| it.dir.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["b", "c", "a"], "a is named twice and counts once");
    assert_eq!(left_out.len(), 1);
    assert!(left_out[0].line().contains("other"), "{}", left_out[0].line());
    let nothing = load(&[dir.path().join("notes")]).unwrap_err();
    assert!(nothing.line().contains("notes"), "{}", nothing.line());
}
