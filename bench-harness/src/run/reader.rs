//! Reads a run back from its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use super::journal::FILE_NAME;
use super::metric::Metric;
use super::record::{Ending, Header, Record, SCHEMA, SCHEMAS_READ};
use crate::cell::Params;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// The largest number of a block or session that is read: what counts on from it must not overflow.
const NUMBER_MAX: u32 = 1 << 30;

/// A run as its journal tells it.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The first line.
    pub header: Header,
    /// Records of each block that was begun, in order of their numbers.
    pub blocks: BTreeMap<u32, Block>,
    /// How the run ended; `None` when it was cut off.
    pub ending: Option<Ending>,
    /// Whether the layers were checked at the end and found unchanged; once changed, for ever changed.
    pub layers_unchanged: Option<bool>,
}

/// What one block found out.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The session that it belongs to; intervals of absolute times go over sessions.
    pub session: u32,
    /// Cell, file, time in ns, time until open in ns.
    pub samples: Vec<(usize, u32, u64, Option<u64>)>,
    /// Involuntary switches of the timed thread, by cell and file, for samples that had any.
    pub switches: BTreeMap<(usize, u32), u32>,
    /// Response times in ns, by cell and file, for samples of an open loop.
    pub responses: BTreeMap<(usize, u32), u64>,
    /// Cell, metric, value.
    pub metrics: Vec<(usize, Metric, u64)>,
    /// Cell, message.
    pub errors: Vec<(usize, String)>,
    /// Time it took and time stolen, in ms; `None` when it was cut off.
    pub ended: Option<(u64, u64)>,
}

/// The journal in `dir`, packed or not, and its path.
fn open(dir: &Path) -> Result<(PathBuf, Box<dyn Read>)> {
    let plain = dir.join(FILE_NAME);
    let packed = dir.join(format!("{FILE_NAME}.gz"));
    if plain.exists() || !packed.exists() {
        let file = File::open(&plain).at("open", &plain)?;
        return Ok((plain, Box::new(file)));
    }
    let file = File::open(&packed).at("open", &packed)?;
    Ok((packed, Box::new(flate2::read::GzDecoder::new(file))))
}

/// The whole lines of the journal in `dir`, the header first.
///
/// # Errors
///
/// There is none; reading may fail later.
pub fn lines(dir: &Path) -> Result<impl Iterator<Item = Result<String>>> {
    let (path, reader) = open(dir)?;
    let mut reader = BufReader::new(reader);
    Ok(std::iter::from_fn(move || {
        let mut line = String::new();
        match reader.read_line(&mut line).at("read", &path) {
            Err(error) => Some(Err(error)),
            // Half a last line is what a killed run leaves.
            Ok(_) => line.ends_with('\n').then_some(Ok(line)),
        }
    }))
}

impl RunRecord {
    /// Loads the run in `dir`, from `samples.jsonl` or `samples.jsonl.gz`.
    ///
    /// # Errors
    ///
    /// `Journal`, with the line: not a run, of an unknown version, or damaged.
    pub fn load(dir: &Path) -> Result<Self> {
        let (path, reader) = open(dir)?;
        Self::read(BufReader::new(reader), &path)
    }

    fn read(mut reader: impl std::io::BufRead, path: &Path) -> Result<Self> {
        let damaged = |line: usize, what: &str| {
            BenchError::new("read run", path, BenchErrorKind::Journal(format!("line {line}: {what}")))
        };
        let mut run: Option<Self> = None;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line).at("read", path)?;
            if line.last() != Some(&b'\n') {
                // Half a last line is what a killed run leaves.
                break;
            }
            if run.is_none() {
                check_schema(&line).map_err(|what| damaged(number, &what))?;
            }
            let record: Record =
                serde_json::from_slice(&line).map_err(|error| damaged(number, &error.to_string()))?;
            match (&mut run, record) {
                (None, Record::Header(header)) => run = Some(Self::new(*header)),
                (None, _) | (Some(_), Record::Header(_)) => {
                    return Err(damaged(number, "the header must be the first line, and only there"));
                }
                (Some(run), record) => run.add(record).map_err(|what| damaged(number, &what))?,
            }
        }
        run.ok_or_else(|| damaged(1, "no header; this is not a run"))
    }

    fn new(header: Header) -> Self {
        Self { header, blocks: BTreeMap::new(), ending: None, layers_unchanged: None }
    }

    fn add(&mut self, record: Record) -> Result<(), String> {
        let n_cells = self.header.cells.len();
        let known = |cell: usize| if cell < n_cells { Ok(cell) } else { Err(format!("no cell {cell}")) };
        match record {
            Record::Header(_) => return Err("a second header".to_owned()),
            Record::BlockStart { block, session } if NUMBER_MAX < block.max(session) => {
                return Err(format!("block {block} of session {session} is beyond {NUMBER_MAX}"));
            }
            Record::BlockStart { block, session } => {
                // A cell that failed in a block that was cut off is measured no more, so its error must stay.
                let errors = self.blocks.remove(&block).map(|it| it.errors).unwrap_or_default();
                self.blocks.insert(block, Block { session, errors, ..Block::default() });
                // The run goes on: what its last end said holds no more, but for a change that was found.
                self.ending = None;
                self.layers_unchanged = self.layers_unchanged.filter(|unchanged| !unchanged);
            }
            Record::Sample { cell, block, file, ns, open_ns, involuntary_switches, response_ns } => {
                let (key, block) = ((known(cell)?, file), self.block(block)?);
                block.samples.push((cell, file, ns, open_ns));
                if 0 < involuntary_switches {
                    block.switches.insert(key, involuntary_switches);
                }
                block.responses.extend(response_ns.map(|it| (key, it)));
            }
            Record::Metric { cell, block, metric, value } => {
                self.block(block)?.metrics.push((known(cell)?, metric, value));
            }
            Record::Error { cell, block, message } => self.block(block)?.errors.push((known(cell)?, message)),
            Record::BlockEnd { block, elapsed_ms, steal_ms } => {
                self.block(block)?.ended = Some((elapsed_ms, steal_ms));
            }
            Record::End { ending, layers_unchanged } => {
                self.ending = Some(ending);
                self.layers_unchanged = Some(layers_unchanged && self.layers_unchanged != Some(false));
            }
        }
        Ok(())
    }

    fn block(&mut self, block: u32) -> Result<&mut Block, String> {
        self.blocks.get_mut(&block).ok_or_else(|| format!("block {block} was not begun"))
    }

    /// Blocks that were measured whole.
    pub fn n_complete(&self) -> u32 {
        u32::try_from(self.blocks.values().filter(|it| it.ended.is_some()).count()).unwrap_or(u32::MAX)
    }

    /// Sessions that have a whole block.
    pub fn n_sessions(&self) -> usize {
        let whole = self.blocks.values().filter(|it| it.ended.is_some());
        whole.map(|it| it.session).collect::<BTreeSet<_>>().len()
    }

    /// The blocks to draw conclusions from: the whole ones, or the only one there is.
    pub fn counted(&self) -> Vec<&Block> {
        let any_whole = 0 < self.n_complete();
        self.blocks.values().filter(|it| it.ended.is_some() || !any_whole).collect()
    }

    /// Cells with an error in any block, with the first message.
    pub fn errors(&self) -> BTreeMap<usize, String> {
        let all = self.blocks.values().flat_map(|it| &it.errors);
        all.rev().map(|(cell, message)| (*cell, message.clone())).collect()
    }

    /// The parameter sets of the run.
    pub fn params(&self) -> BTreeSet<&Params> {
        self.header.cells.iter().map(|it| &it.cell.params).collect()
    }
}

/// Refuses a header of a version that cannot be read, before its other fields are looked at.
fn check_schema(header: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: Option<u32>,
    }
    let version: Version = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    match version.schema {
        Some(schema) if !SCHEMAS_READ.contains(&schema) => Err(format!(
            "schema {schema}, but this aufs-bench reads {} to {SCHEMA}; use the version that measured it, \
             or measure again",
            SCHEMAS_READ.start()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
