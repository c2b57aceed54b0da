//! Joins the shards of a run, and runs of the same on several machines.
//!
//! Samples of different machines must never be pooled, nor one machine's be
//! divided by another's. So the backing `dir` of the second machine becomes
//! `dir@2`: where layers lie is a parameter of every cell, and whatever is
//! told apart by parameters keeps machines apart. Runs of one label must be of one
//! machine and, where they share a backing, of one file system.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cell::Cell;
use crate::compare::fingerprint::{differences, told};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::{BackingFacts, HostFacts};
use crate::matrix::expand::PlannedCell;
use crate::matrix::shard::Shard;
use crate::model::is_yardstick;
use crate::run::journal::{Ending, Header, Journal, Record, RunRecord};
use crate::run::reader::lines;

/// A run that is joined with others.
#[derive(Debug)]
struct Part {
    dir: PathBuf,
    run: RunRecord,
    /// Number of its machine, from 1.
    host: usize,
}

impl Part {
    fn shard(&self) -> Shard {
        self.run.header.origin.shard.unwrap_or(Shard { index: 0, count: 1 })
    }

    fn refused(&self, what: String) -> BenchError {
        BenchError::new("merge", &self.dir, BenchErrorKind::Config(what))
    }
}

/// Joins the runs in `dirs` into one in `out`; with `partial`, shards may be missing.
///
/// # Errors
///
/// - `Config`: the runs do not belong together, a cell was measured twice by one machine, two machines have one
///   label, or shards are missing.
/// - else a run cannot be read, or `out` not be written.
pub fn merge(dirs: &[PathBuf], out: &Path, partial: bool) -> Result<RunRecord> {
    let mut parts = Vec::new();
    for dir in dirs {
        parts.push(Part { dir: dir.clone(), run: RunRecord::load(dir)?, host: 0 });
    }
    check_alike(&parts)?;
    let missing = missing(&parts);
    if let Some(first) = parts.first().filter(|_| !partial && !missing.is_empty()) {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let what = format!("shards are missing: {}; give their directories, or --partial", names.join(", "));
        return Err(first.refused(what));
    }
    let hosts = number_hosts(&mut parts)?;
    let (header, places) = join(&parts, hosts, missing)?;
    std::fs::create_dir_all(out).at("create", out)?;
    write(&parts, &header, &places, out)?;
    RunRecord::load(out)
}

/// Refuses runs that did not set out to measure the same in the same form.
fn check_alike(parts: &[Part]) -> Result<()> {
    let Some(first) = parts.first() else { return Ok(()) };
    for part in parts {
        let (origin, header) = (&part.run.header.origin, &part.run.header);
        if !origin.hosts.is_empty() {
            return Err(part.refused("it is merged already; merge what it was made of".to_owned()));
        }
        if config_of(&part.run).is_none() {
            return Err(
                part.refused("it has no hash of what it measures; an older version made it".to_owned())
            );
        }
        let unlike =
            |what: &str| Err(part.refused(format!("it has another {what} than {}", first.dir.display())));
        if config_of(&part.run) != config_of(&first.run) {
            return unlike("configuration");
        }
        if header.schema != first.run.header.schema {
            return unlike("version of records");
        }
        if part.shard().count != first.shard().count {
            return unlike("number of shards");
        }
        if 1 < part.shard().count && header.host.seed != first.run.header.host.seed {
            return unlike("seed, so that its shards are others");
        }
    }
    Ok(())
}

/// The hash of the resolved matrix.
fn config_of(run: &RunRecord) -> Option<&str> {
    run.header.method.config.as_ref().map(|it| it.sha256.as_str())
}

/// Shards that no part is.
fn missing(parts: &[Part]) -> Vec<Shard> {
    let found: BTreeSet<Shard> = parts.iter().map(Part::shard).collect();
    let count = parts.first().map_or(0, |it| it.shard().count);
    (0..count).map(|index| Shard { index, count }).filter(|it| !found.contains(it)).collect()
}

/// Numbers the machines by their labels, in the order of the parts.
fn number_hosts(parts: &mut [Part]) -> Result<Vec<HostFacts>> {
    let mut hosts: Vec<HostFacts> = Vec::new();
    for part in parts {
        let own = part.run.header.host.clone();
        let Some(at) = hosts.iter().position(|it| it.label == own.label) else {
            hosts.push(own);
            part.host = hosts.len();
            continue;
        };
        let known = &mut hosts[at];
        let differing = differences(known, &own)?;
        if !differing.is_empty() {
            let what = format!(
                "its machine is called {:?} too, and differs: {}; name machines by run --label",
                own.label,
                told(&differing)
            );
            return Err(part.refused(what));
        }
        let new: Vec<_> = own
            .backings
            .into_iter()
            .filter(|it| known.backings.iter().all(|has| has.name != it.name))
            .collect();
        known.backings.extend(new);
        known.peers.extend(own.peers);
        part.host = at + 1;
    }
    Ok(hosts)
}

/// `dir@2`, or `dir` where all is of one machine.
fn place(backing: &str, host: usize, n_hosts: usize) -> String {
    if n_hosts < 2 { backing.to_owned() } else { format!("{backing}@{host}") }
}

/// The header of all parts, and where in it each part's cells are.
fn join(parts: &[Part], mut hosts: Vec<HostFacts>, missing: Vec<Shard>) -> Result<(Header, Vec<Vec<usize>>)> {
    let n_hosts = hosts.len();
    for (host, number) in hosts.iter_mut().zip(1..) {
        for BackingFacts { name, .. } in &mut host.backings {
            *name = place(name, number, n_hosts);
        }
    }
    let mut cells: Vec<PlannedCell> = Vec::new();
    let mut skips = Vec::new();
    let mut known: BTreeMap<Cell, (usize, &Path)> = BTreeMap::new();
    let mut places = Vec::new();
    for part in parts {
        let mut own = Vec::new();
        for planned in &part.run.header.cells {
            let mut cell = planned.cell.clone();
            cell.params.backing = place(&cell.params.backing, part.host, n_hosts);
            if let Some((index, other)) = known.get(&cell) {
                if !is_yardstick(&cell.params.model) {
                    let what = format!("{} has this cell of the same machine too: {cell}", other.display());
                    return Err(part.refused(what));
                }
                own.push(*index);
                continue;
            }
            own.push(cells.len());
            known.insert(cell.clone(), (cells.len(), &part.dir));
            // Each part has kept its own limit, which says nothing of the blocks of all.
            cells.push(PlannedCell { cell, blocks: u32::MAX, ..planned.clone() });
        }
        places.push(own);
        for mut skip in part.run.header.skips.iter().cloned() {
            skip.backing = place(&skip.backing, part.host, n_hosts);
            if !skips.contains(&skip) {
                skips.push(skip);
            }
        }
    }
    let first = parts.first().map(|it| it.run.header.clone());
    let mut header = first.ok_or_else(|| {
        BenchError::new("merge", "nothing", BenchErrorKind::Config("no directories are given".to_owned()))
    })?;
    header.host.backings = hosts.iter().flat_map(|it| it.backings.iter().cloned()).collect();
    header.host.peers = hosts.iter().flat_map(|it| it.peers.clone()).collect();
    header.blocks_max = parts.iter().fold(0, |sum: u32, it| sum.saturating_add(n_blocks(&it.run)));
    (header.cells, header.skips) = (cells, skips);
    // No single command has measured it.
    header.command.clear();
    (header.origin.hosts, header.origin.missing, header.origin.shard) = (hosts, missing, None);
    Ok((header, places))
}

fn n_blocks(run: &RunRecord) -> u32 {
    run.blocks.keys().max().map_or(0, |it| it + 1)
}

/// Writes all records with their new numbers; fields that this version does not know stay as they are.
fn write(parts: &[Part], header: &Header, places: &[Vec<usize>], out: &Path) -> Result<()> {
    let mut journal = Journal::create(out, header)?;
    let (mut block, mut session) = (0_u64, 0_u64);
    for (part, cells) in parts.iter().zip(places) {
        for line in lines(&part.dir)?.skip(1) {
            let mut record: Value =
                serde_json::from_str(&line?).map_err(std::io::Error::from).at("read", &part.dir)?;
            if record["type"] == "end" {
                continue;
            }
            renumber(&mut record, cells, block, session);
            journal.append(&record)?;
        }
        block += u64::from(n_blocks(&part.run));
        session += part.run.blocks.values().map(|it| u64::from(it.session) + 1).max().unwrap_or(0);
    }
    if let Some(end) = ending(parts) {
        journal.append(&end)?;
    }
    journal.flush()
}

fn renumber(record: &mut Value, cells: &[usize], block: u64, session: u64) {
    let index = record["cell"].as_u64().and_then(|it| cells.get(usize::try_from(it).ok()?));
    if let Some(index) = index {
        record["cell"] = Value::from(*index);
    }
    if let Some(own) = record["block"].as_u64() {
        record["block"] = Value::from(own + block);
    }
    if record["type"] == "block-start" {
        let own = record["session"].as_u64().unwrap_or(0);
        record["session"] = Value::from(own + session);
    }
}

/// The worst end of all; none where a part was cut off and no layer is known to be changed.
fn ending(parts: &[Part]) -> Option<Record> {
    // A part may have been cut off after a change was found, which must not get lost with its end.
    let is_changed = parts.iter().any(|it| it.run.layers_unchanged == Some(false));
    let of = |it: &Part| it.run.ending.or(is_changed.then_some(Ending::Interrupted));
    let endings: Vec<Ending> = parts.iter().map(of).collect::<Option<_>>()?;
    let worst = [Ending::Interrupted, Ending::Budget].into_iter().find(|it| endings.contains(it));
    let layers_unchanged = parts.iter().all(|it| it.run.layers_unchanged == Some(true));
    Some(Record::End { ending: worst.unwrap_or(Ending::Complete), layers_unchanged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;
    use crate::run::record::Config;

    /// A run of one cell below `dir`, on a backing of type `fs_type`.
    fn part(dir: &Path, model: &str, fs_type: &str) -> PathBuf {
        let dir = dir.join(format!("{model}-{fs_type}"));
        std::fs::create_dir(&dir).unwrap();
        let mut header = example::run(&[(example::cell("plain", "default", model, 4096, 1), 1000)], 1).header;
        header.method.config = Some(Config::of("name = \"m\"".to_owned()));
        header.host.backings = vec![BackingFacts {
            name: "dir".to_owned(),
            fs_type: fs_type.to_owned(),
            options: "relatime".to_owned(),
            path: "/scratch".into(),
            fs_hash: None,
        }];
        Journal::create(&dir, &header).unwrap();
        dir
    }

    #[test]
    fn runs_of_one_label_on_two_file_systems_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = |model, fs_type| part(place.path(), model, fs_type);
        let (ext4, xfs) = (dir("chmod", "ext4"), dir("lookup", "xfs"));
        let error = merge(&[dir("copy-up", "ext4"), xfs], &place.path().join("no"), false).unwrap_err();
        assert!(error.line().contains("backings.dir.fs_type: ext4 | xfs"), "{}", error.line());
        let both = merge(&[place.path().join("copy-up-ext4"), ext4], &place.path().join("out"), false);
        assert_eq!(both.unwrap().header.cells.len(), 2);
    }

    #[test]
    fn a_change_of_a_layer_outlives_the_missing_end_of_its_part() {
        let place = tempfile::tempdir().unwrap();
        let dirs = [part(place.path(), "copy-up", "ext4"), part(place.path(), "chmod", "ext4")];
        let mut journal = Journal::reopen(&dirs[0]).unwrap();
        let changed = Record::End { ending: Ending::Interrupted, layers_unchanged: false };
        for record in [changed, Record::BlockStart { block: 0, session: 0 }] {
            journal.append(&record).unwrap();
        }
        journal.flush().unwrap();
        let merged = merge(&dirs, &place.path().join("out"), false).unwrap();
        assert_eq!(merged.layers_unchanged, Some(false));
    }
}
