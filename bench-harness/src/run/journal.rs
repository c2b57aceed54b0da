//! `samples.jsonl`: everything a run found out, one record a line, only ever appended.
//!
//! The first line is the header; from it and the rest every other file of a run
//! can be made again. A run that was cut off has no `end`, perhaps half a last
//! line, and is a valid run all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cell::{Params, Subject, is_zero};
use crate::driver::command::Definition;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;

/// Version of the records; a reader refuses those it does not know.
pub const SCHEMA: u32 = 1;

/// Name of the file in a run's directory.
pub const FILE_NAME: &str = "samples.jsonl";

/// The first record: what the run set out to do, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the records.
    pub schema: u32,
    /// The machine.
    pub host: HostFacts,
    /// Most blocks to measure.
    pub blocks_max: u32,
    /// Cells, which later records name by their index here.
    pub cells: Vec<PlannedCell>,
    /// What was not measured, and why.
    pub skips: Vec<Skip>,
    /// What the budget was too short for; see `budget_min` of a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<String>,
    /// The built-in goals that the report judges, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goals: Option<String>,
    /// The arguments that started the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What it takes to continue the run elsewhere, and to join it with others.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where the cells of a run come from, and which part of them it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Descriptions of the drivers that are commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Definition>,
}

impl Header {
    /// The header of a run of `cells`, all of which can be measured.
    pub fn new(host: HostFacts, blocks_max: u32, cells: Vec<PlannedCell>) -> Self {
        Self {
            schema: SCHEMA,
            host,
            blocks_max,
            cells,
            skips: Vec::new(),
            cuts: Vec::new(),
            goals: None,
            command: Vec::new(),
            origin: Origin::default(),
        }
    }
}

/// A driver that cannot run here, or a model that says nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Who is skipped.
    #[serde(flatten)]
    pub subject: Subject,
    /// On which backing.
    pub backing: String,
    /// Only this model; all of them without it.
    pub model: Option<String>,
    /// Why, and what would help.
    pub reason: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All blocks were measured.
    Complete,
    /// The next block would not have fitted the budget.
    Budget,
    /// A signal stopped it.
    Interrupted,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// The first line.
    Header(Box<Header>),
    /// A block begins; earlier records of a block of that number count no more.
    BlockStart {
        /// Its number, from 0.
        block: u32,
        /// The session that it belongs to, from 0.
        #[serde(default, skip_serializing_if = "is_zero")]
        session: u32,
    },
    /// A timed repetition.
    Sample {
        /// Index of the cell.
        cell: usize,
        /// Its block.
        block: u32,
        /// Which of the cell's files.
        file: u32,
        /// The time, in ns.
        ns: u64,
        /// The part until the file was open, in ns.
        #[serde(skip_serializing_if = "Option::is_none")]
        open_ns: Option<u64>,
    },
    /// Something that is not a latency.
    Metric {
        /// Index of the cell.
        cell: usize,
        /// Its block.
        block: u32,
        /// What was measured.
        metric: Metric,
        /// How much, in the unit of the metric.
        value: u64,
    },
    /// A sample failed or its result was wrong; the cell has no numbers then.
    Error {
        /// Index of the cell.
        cell: usize,
        /// Its block.
        block: u32,
        /// What happened.
        message: String,
    },
    /// A block is whole.
    BlockEnd {
        /// Its number.
        block: u32,
        /// How long it took with mounts and checks, in ms.
        elapsed_ms: u64,
        /// Time stolen by the hypervisor meanwhile, in ms over all processors.
        steal_ms: u64,
    },
    /// The run ended in order.
    End {
        /// Why it ended.
        ending: Ending,
        /// Whether every layer file was read and found unchanged.
        layers_unchanged: bool,
    },
}

/// What is measured besides time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Metric {
    /// Space the copy takes on the writable branch.
    #[serde(rename = "upper_bytes")]
    Upper,
    /// Size of the tree that a mount shows.
    #[serde(rename = "tree_bytes")]
    Tree,
    /// Resident memory of a FUSE server that the bench knows, after its cells.
    #[serde(rename = "server_rss_bytes")]
    ServerRss,
    /// Proportional memory of a FUSE server after mounting.
    #[serde(rename = "server_idle_pss_bytes")]
    ServerIdlePss,
    /// Proportional memory of a FUSE server after a walk.
    #[serde(rename = "server_walked_pss_bytes")]
    ServerWalkedPss,
    /// Resident memory of a FUSE server after a walk.
    #[serde(rename = "server_walked_rss_bytes")]
    ServerWalkedRss,
    /// Page cache that a file takes after two mounts read it.
    #[serde(rename = "cached_bytes")]
    Cached,
    /// Throughput of many threads, in thousandths of that of one.
    #[serde(rename = "scaling_permille")]
    Scaling,
    /// Whether a rename was refused with EXDEV, so that files were copied instead: 0 or 1.
    #[serde(rename = "exdev")]
    Exdev,
}

impl Metric {
    /// Its name in `metrics.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upper => "upper_bytes",
            Self::Tree => "tree_bytes",
            Self::ServerRss => "server_rss_bytes",
            Self::ServerIdlePss => "server_idle_pss_bytes",
            Self::ServerWalkedPss => "server_walked_pss_bytes",
            Self::ServerWalkedRss => "server_walked_rss_bytes",
            Self::Cached => "cached_bytes",
            Self::Scaling => "scaling_permille",
            Self::Exdev => "exdev",
        }
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Scaling => "permille",
            Self::Exdev => "flag",
            Self::Upper
            | Self::Tree
            | Self::ServerRss
            | Self::ServerIdlePss
            | Self::ServerWalkedPss
            | Self::ServerWalkedRss
            | Self::Cached => "bytes",
        }
    }
}

/// Appends records to a run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Journal {
    /// Starts the journal of a new run with its `header`.
    ///
    /// # Errors
    ///
    /// `dir` has a run already, or cannot be written.
    pub fn create(dir: &Path, header: &Header) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        if path.exists() {
            let reason = "a run lies there already; continue it with --resume, or give another --out";
            return Err(BenchError::new("create", &path, BenchErrorKind::Config(reason.to_owned())));
        }
        let out = BufWriter::new(File::create_new(&path).at("create", &path)?);
        let mut journal = Self { path, out };
        journal.append(&Record::Header(Box::new(header.clone())))?;
        journal.flush()?;
        Ok(journal)
    }

    /// Opens the journal of a run to continue it; half a last line is cut off.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be written.
    pub fn reopen(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).at("open", &path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).at("cut off half a line of", &path)?;
        file.seek(SeekFrom::End(0)).at("seek in", &path)?;
        Ok(Self { path, out: BufWriter::new(file) })
    }

    /// Adds one record.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from).at("write", &self.path)?;
        writeln!(self.out, "{line}").at("write", &self.path)
    }

    /// Hands all records to the kernel.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().at("write", &self.path)
    }
}

/// A run as its journal tells it.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The first line.
    pub header: Header,
    /// Records of each block that was begun, in order of their numbers.
    pub blocks: BTreeMap<u32, Block>,
    /// How the run ended; `None` when it was cut off.
    pub ending: Option<Ending>,
    /// Whether the layers were checked at the end and found unchanged.
    pub layers_unchanged: Option<bool>,
}

/// What one block found out.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The session that it belongs to; intervals of absolute times go over sessions.
    pub session: u32,
    /// Cell, file, time in ns, time until open in ns.
    pub samples: Vec<(usize, u32, u64, Option<u64>)>,
    /// Cell, metric, value.
    pub metrics: Vec<(usize, Metric, u64)>,
    /// Cell, message.
    pub errors: Vec<(usize, String)>,
    /// Time it took and time stolen, in ms; `None` when it was cut off.
    pub ended: Option<(u64, u64)>,
}

impl RunRecord {
    /// Loads the run in `dir`, from `samples.jsonl` or `samples.jsonl.gz`.
    ///
    /// # Errors
    ///
    /// `Journal`, with the line: not a run, of an unknown version, or damaged.
    pub fn load(dir: &Path) -> Result<Self> {
        let plain = dir.join(FILE_NAME);
        let packed = dir.join(format!("{FILE_NAME}.gz"));
        let (path, reader): (_, Box<dyn Read>) = if plain.exists() || !packed.exists() {
            (plain.clone(), Box::new(File::open(&plain).at("open", &plain)?))
        } else {
            let file = File::open(&packed).at("open", &packed)?;
            (packed.clone(), Box::new(flate2::read::GzDecoder::new(file)))
        };
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
            let record: Record =
                serde_json::from_slice(&line).map_err(|error| damaged(number, &error.to_string()))?;
            match (&mut run, record) {
                (None, Record::Header(header)) if header.schema == SCHEMA => run = Some(Self::new(*header)),
                (None, Record::Header(_)) => return Err(damaged(number, "written by another version")),
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
            Record::BlockStart { block, session } => {
                self.blocks.insert(block, Block { session, ..Block::default() });
            }
            Record::Sample { cell, block, file, ns, open_ns } => {
                self.block(block)?.samples.push((known(cell)?, file, ns, open_ns));
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
                self.layers_unchanged = Some(layers_unchanged);
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::cell::{Cache, Cell};

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
            origin: Origin::default(),
        }
    }

    fn sample(block: u32, ns: u64) -> Record {
        Record::Sample { cell: 0, block, file: 0, ns, open_ns: Some(ns / 2) }
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
            (good.replacen("\"schema\":1", "\"schema\":99", 1) + "\n", "line 1: written by another version"),
            (format!("{good}\nnonsense\n"), "line 2: "),
            (
                format!("{good}\n{}\n", serde_json::to_string(&sample(0, 1)).unwrap()),
                "line 2: block 0 was not",
            ),
            (
                format!(
                    "{good}\n{}\n{}\n",
                    "{\"type\":\"block-start\",\"block\":0}",
                    "{\"type\":\"error\",\"cell\":9,\"block\":0,\"message\":\"x\"}"
                ),
                "line 3: no cell 9",
            ),
        ] {
            let error = RunRecord::read(Cursor::new(text), Path::new("x")).unwrap_err();
            assert!(error.line().contains(expected), "{} lacks {expected}", error.line());
        }
    }
}
