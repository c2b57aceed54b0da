//! Journals that are whole, cut off, of either version, and damaged.

use std::io::Cursor;

use super::super::journal::Journal;
use super::super::record::{Method, Origin};
use super::*;
use crate::cell::{Cache, Cell};
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;

fn header() -> Header {
    let params = Params {
        model: "copy-up".to_owned(),
        backing: "dir".to_owned(),
        file_bytes: 4096,
        found_at: 8,
        n_layers: 8,
        dir_depth: 1,
        cache: Cache::Fresh,
        entries: 0,
        threads: 0,
    };
    let cell = Cell { driver: "plain".to_owned(), options: "default".to_owned(), params };
    let host = HostFacts::read(1, "example").unwrap();
    Header {
        schema: SCHEMA,
        host,
        blocks_max: 3,
        cells: vec![PlannedCell { cell, files: 2, blocks: u32::MAX }],
        skips: vec![],
        cuts: vec![],
        goals: None,
        command: vec![],
        method: Method::default(),
        origin: Origin::default(),
    }
}

fn sample(block: u32, ns: u64) -> Record {
    Record::Sample {
        cell: 0,
        block,
        file: 0,
        ns,
        open_ns: Some(ns / 2),
        involuntary_switches: u32::from(block == 1),
        response_ns: None,
    }
}

#[test]
fn records_survive_and_repeated_blocks_replace() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), &header()).unwrap();
    for record in [
        Record::BlockStart { block: 0, session: 0 },
        sample(0, 100),
        Record::BlockEnd { block: 0, elapsed_ms: 5, steal_ms: 0 },
        Record::BlockStart { block: 1, session: 0 },
        sample(1, 200),
    ] {
        journal.append(&record).unwrap();
    }
    journal.flush().unwrap();
    // Killed in the middle of a line.
    let path = dir.path().join(FILE_NAME);
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"type\":\"sam");
    std::fs::write(&path, text).unwrap();

    let cut_off = RunRecord::load(dir.path()).unwrap();
    assert_eq!((cut_off.n_complete(), cut_off.ending), (1, None));
    assert_eq!(cut_off.header, header_like(&cut_off));
    assert_eq!(cut_off.counted().len(), 1, "the cut-off block does not count");

    let mut journal = Journal::reopen(dir.path()).unwrap();
    for record in [
        Record::BlockStart { block: 1, session: 0 },
        sample(1, 300),
        Record::BlockEnd { block: 1, elapsed_ms: 5, steal_ms: 0 },
        Record::End { ending: Ending::Complete, layers_unchanged: true },
    ] {
        journal.append(&record).unwrap();
    }
    journal.flush().unwrap();
    let resumed = RunRecord::load(dir.path()).unwrap();
    assert_eq!(resumed.n_complete(), 2);
    assert_eq!(resumed.blocks[&1].samples, [(0, 0, 300, Some(150))], "the repeated block counts");
    assert_eq!(resumed.ending, Some(Ending::Complete));
    assert_eq!(resumed.blocks[&0].switches.len() + resumed.blocks[&0].responses.len(), 0);
    assert_eq!(resumed.blocks[&1].switches, BTreeMap::from([((0, 0), 1)]));
}

#[test]
fn what_went_wrong_before_an_interrupt_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let end = |ending, layers_unchanged| Record::End { ending, layers_unchanged };
    let mut journal = Journal::create(dir.path(), &header()).unwrap();
    let mut read_with = |records: &[Record]| {
        records.iter().for_each(|it| journal.append(it).unwrap());
        journal.flush().unwrap();
        RunRecord::load(dir.path()).unwrap()
    };
    let first = read_with(&[
        Record::BlockStart { block: 0, session: 0 },
        sample(0, 100),
        Record::BlockEnd { block: 0, elapsed_ms: 5, steal_ms: 0 },
        Record::BlockStart { block: 1, session: 0 },
        Record::Error { cell: 0, block: 1, message: "wrong".to_owned() },
        end(Ending::Interrupted, false),
    ]);
    assert_eq!((first.errors().len(), first.layers_unchanged), (1, Some(false)));
    let resumed = read_with(&[Record::BlockStart { block: 1, session: 1 }]);
    assert_eq!(resumed.ending, None, "a run that goes on has not ended");
    assert_eq!(resumed.errors(), BTreeMap::from([(0, "wrong".to_owned())]), "the cell has no numbers");
    let ended =
        read_with(&[Record::BlockEnd { block: 1, elapsed_ms: 5, steal_ms: 0 }, end(Ending::Complete, true)]);
    assert_eq!((ended.n_complete(), ended.errors().len()), (2, 1));
    assert_eq!((ended.ending, ended.layers_unchanged), (Some(Ending::Complete), Some(false)));
}

#[test]
fn layers_of_a_continued_run_are_unchecked_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), &header()).unwrap();
    journal.append(&Record::End { ending: Ending::Interrupted, layers_unchanged: true }).unwrap();
    journal.append(&Record::BlockStart { block: 0, session: 0 }).unwrap();
    journal.flush().unwrap();
    assert_eq!(RunRecord::load(dir.path()).unwrap().layers_unchanged, None);
}

fn header_like(run: &RunRecord) -> Header {
    // The clock cost and the start differ between two readings of the host.
    Header { host: run.header.host.clone(), ..header() }
}

#[test]
fn damage_is_named_by_line() {
    let good = serde_json::to_string(&Record::Header(Box::new(header()))).unwrap();
    for (text, expected) in [
        (String::new(), "line 1: no header"),
        ("{\"type\":\"block-start\",\"block\":0}\n".to_owned(), "line 1: the header must be"),
        (
            good.replacen("\"schema\":2", "\"schema\":99", 1) + "\n",
            "line 1: schema 99, but this aufs-bench reads 1 to 2",
        ),
        ("{\"type\":\"header\",\"schema\":3,\"new\":true}\n".to_owned(), "use the version that measured it"),
        (format!("{good}\nnonsense\n"), "line 2: "),
        (format!("{good}\n{}\n", serde_json::to_string(&sample(0, 1)).unwrap()), "line 2: block 0 was not"),
        (
            format!(
                "{good}\n{}\n{}\n",
                "{\"type\":\"block-start\",\"block\":0}",
                "{\"type\":\"error\",\"cell\":9,\"block\":0,\"message\":\"x\"}"
            ),
            "line 3: no cell 9",
        ),
        (
            format!("{good}\n{{\"type\":\"block-start\",\"block\":{}}}\n", u32::MAX),
            "line 2: block 4294967295 of session 0 is beyond",
        ),
        (
            format!("{good}\n{{\"type\":\"block-start\",\"block\":0,\"session\":{}}}\n", u32::MAX),
            "line 2: block 0 of session 4294967295 is beyond",
        ),
    ] {
        let error = RunRecord::read(Cursor::new(text), Path::new("x")).unwrap_err();
        assert!(error.line().contains(expected), "{} lacks {expected}", error.line());
    }
}

#[test]
fn recorded_runs_of_both_versions_are_read() {
    for (text, schema, n_sessions, has_responses) in [
        (include_str!("../../tests/golden/samples-1.jsonl"), 1, 1, false),
        (include_str!("../../tests/golden/samples-2.jsonl"), 2, 2, true),
    ] {
        let run = RunRecord::read(Cursor::new(text), Path::new("golden")).unwrap();
        assert_eq!((run.header.schema, run.n_complete(), run.n_sessions()), (schema, 2, n_sessions));
        assert_eq!((run.header.cells.len(), run.header.skips.len()), (4, 1));
        assert_eq!((run.ending, run.layers_unchanged), (Some(Ending::Complete), Some(true)));
        let method = &run.header.method;
        assert_eq!((method.sessions as usize, method.rate_per_s.is_some()), (n_sessions, has_responses));
        for block in run.blocks.values() {
            assert_eq!(block.samples.len(), 8, "two of each cell");
            assert_eq!(block.responses.len(), if has_responses { 8 } else { 0 });
        }
    }
}
