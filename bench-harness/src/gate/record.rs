//! `pairs.jsonl`: everything a gate found out, one record a line, only ever appended.
//!
//! The first line is the header. All other files of a gate, and its verdict,
//! can be made again from it; [`GateRecord::recheck`] does the latter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::arm::ArmFacts;
use super::decide::{CellState, Judgement, Rules};
use super::interleave::Arm;
use crate::cell::Params;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::HostFacts;

/// Version of the records; a reader refuses those it does not know.
pub const SCHEMA: u32 = 1;

/// Name of the file in the directory of a gate.
pub const FILE_NAME: &str = "pairs.jsonl";

/// The first record: what is compared, by which rules, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the records.
    pub schema: u32,
    /// The machine, the seed, and the name of the matrix.
    pub host: HostFacts,
    /// What head is compared with.
    pub base: ArmFacts,
    /// What is judged.
    pub head: ArmFacts,
    /// Margin, limit, pairs and looks.
    pub rules: Rules,
    /// Cells, which later records name by their index here.
    pub cells: Vec<GateCell>,
    /// Cells of the matrix that say nothing about these drivers, and why.
    pub skips: Vec<Skipped>,
    /// A slow-down of head made on purpose, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
}

/// A cell that is gated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateCell {
    /// What globs and reports call it.
    pub name: String,
    /// What is measured.
    #[serde(flatten)]
    pub params: Params,
}

/// A cell that is not gated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why, and by whom.
    pub reason: String,
}

/// One sample of each arm, on the same file and right after each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its block.
    pub block: u32,
    /// Index of the cell.
    pub cell: usize,
    /// Which of the cell's files.
    pub pair: u32,
    /// Which arm went first.
    pub first: Arm,
    /// The time of base, in ns.
    pub base_ns: u64,
    /// The time of head, in ns, with what was injected.
    pub head_ns: u64,
}

/// The judgement of a cell at a look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellLook {
    /// Index of the cell.
    pub cell: usize,
    /// Blocks that it has.
    pub n_blocks: u32,
    /// Time of head by time of base: the Hodges–Lehmann estimate; none without blocks.
    pub ratio: Option<f64>,
    /// Exact lower bound of it, one-sided; none with too few blocks for one.
    pub low: Option<f64>,
    /// Exact upper bound, likewise.
    pub high: Option<f64>,
    /// p of being slower by the margin or less, for this cell alone.
    pub p_slower: f64,
    /// p of being faster by the margin or less, for this cell alone.
    pub p_faster: f64,
    /// What follows.
    pub state: CellState,
}

/// What blocks are measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The gate itself.
    Gate,
    /// Slower cells once more.
    Confirm,
}

/// How a gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every cell is shown to be below the limit.
    Pass,
    /// A cell is slower.
    Fail,
    /// The last look left cells open.
    Inconclusive,
    /// The next look did not fit the budget.
    Budget,
    /// Fresh blocks did not confirm that a cell is slower.
    Unconfirmed,
    /// A sample failed or its result was wrong.
    Error,
    /// A signal stopped it.
    Interrupted,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// The first line.
    Header(Box<Header>),
    /// Two samples.
    Pair(Pair),
    /// A block is whole.
    Block {
        /// Its number.
        block: u32,
        /// What for.
        stage: Stage,
        /// How long it took with mounts and checks, in ms.
        elapsed_ms: u64,
        /// Time stolen by the hypervisor meanwhile, in ms over all processors.
        steal_ms: u64,
    },
    /// The cells were judged.
    Look {
        /// What for.
        stage: Stage,
        /// All cells; those that were decided before keep their last judgement.
        cells: Vec<CellLook>,
    },
    /// A sample failed or its result was wrong.
    Error {
        /// Index of the cell, where it was one's.
        cell: Option<usize>,
        /// Its block.
        block: u32,
        /// What happened.
        message: String,
    },
    /// The gate ended in order.
    End {
        /// How.
        ending: Ending,
    },
}

/// A gate as it is on disk.
#[derive(Debug, Clone)]
pub struct GateRecord {
    /// What it set out to do.
    pub header: Header,
    /// All pairs, in the order of measuring; those of a block that is not whole too.
    pub pairs: Vec<Pair>,
    /// Whole blocks: number, purpose, duration in ms.
    pub blocks: Vec<(u32, Stage, u64)>,
    /// All looks.
    pub looks: Vec<(Stage, Vec<CellLook>)>,
    /// What failed, and in which cell.
    pub errors: Vec<(Option<usize>, String)>,
    /// How it ended; none where it was cut off.
    pub ending: Option<Ending>,
}

impl CellLook {
    /// What `judgement` says, in ratios.
    pub fn of(judgement: &Judgement) -> Self {
        let ratio = |ln: f64| ln.is_finite().then(|| ln.exp());
        Self {
            cell: judgement.cell,
            n_blocks: judgement.n_blocks,
            ratio: ratio(judgement.estimate),
            low: ratio(judgement.lower_bound),
            high: ratio(judgement.upper_bound),
            p_slower: judgement.p_slower,
            p_faster: judgement.p_faster,
            state: judgement.state,
        }
    }

    /// Whether both say the same; numbers may differ by what is lost on the way through JSON.
    pub fn agrees(&self, other: &Self) -> bool {
        let what = |it: &Self| (it.cell, it.n_blocks, it.state);
        let numbers = |it: &Self| [it.ratio, it.low, it.high, Some(it.p_slower), Some(it.p_faster)];
        let close = |(a, b): (Option<f64>, Option<f64>)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            (a, b) => a.is_none() && b.is_none(),
        };
        what(self) == what(other) && numbers(self).into_iter().zip(numbers(other)).all(close)
    }
}

/// The file while it is written.
#[derive(Debug)]
pub struct PairsFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl PairsFile {
    /// Starts the file in `out`, which must not hold a gate.
    ///
    /// # Errors
    ///
    /// `Config`: there is one already. Else any I/O error.
    pub fn create(out: &Path, header: &Header) -> Result<Self> {
        fs::create_dir_all(out).at("create", out)?;
        let path = out.join(FILE_NAME);
        if path.exists() {
            let kind = BenchErrorKind::Config("exists; give another --out".to_owned());
            return Err(BenchError::new("create", path, kind));
        }
        let file = BufWriter::new(File::create_new(&path).at("create", &path)?);
        let mut own = Self { file, path };
        own.append(&Record::Header(Box::new(header.clone())))?;
        own.flush()?;
        Ok(own)
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// Any I/O error, a full disk most likely.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from).at("write", &self.path)?;
        writeln!(self.file, "{line}").at("write", &self.path)
    }

    /// Hands all lines to the system.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().at("write", &self.path)
    }
}

impl GateRecord {
    /// Reads the gate in `dir`.
    ///
    /// # Errors
    ///
    /// There is none, or a line is damaged; half a last line is not.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        Self::read(File::open(&path).at("open", &path)?, &path)
    }

    fn read(source: impl Read, path: &Path) -> Result<Self> {
        let wrong = |line: usize, what: String| {
            let kind = BenchErrorKind::Journal(format!("line {}: {what}", line + 1));
            BenchError::new("read", path, kind)
        };
        let lines: Vec<String> = BufReader::new(source).lines().collect::<Result<_, _>>().at("read", path)?;
        let mut own: Option<Self> = None;
        for (at, line) in lines.iter().enumerate() {
            let record = match serde_json::from_str(line) {
                Ok(record) => record,
                Err(_) if 0 < at && at + 1 == lines.len() => break,
                Err(error) => return Err(wrong(at, error.to_string())),
            };
            match (record, &mut own) {
                (Record::Header(header), None) if header.schema == SCHEMA => own = Some(Self::of(*header)),
                (Record::Header(header), None) => {
                    return Err(wrong(at, format!("schema {} is not {SCHEMA}", header.schema)));
                }
                (record, Some(own)) => own.take(record).map_err(|what| wrong(at, what))?,
                (_, None) => return Err(wrong(at, "the header must be the first line".to_owned())),
            }
        }
        own.ok_or_else(|| wrong(0, "no header".to_owned()))
    }

    fn of(header: Header) -> Self {
        let (pairs, blocks, looks, errors) = Default::default();
        Self { header, pairs, blocks, looks, errors, ending: None }
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        let n_cells = self.header.cells.len();
        let known = |cell: usize| if cell < n_cells { Ok(()) } else { Err(format!("no cell {cell}")) };
        match record {
            Record::Header(_) => return Err("a second header".to_owned()),
            Record::Pair(pair) => {
                known(pair.cell)?;
                self.pairs.push(pair);
            }
            Record::Block { block, stage, elapsed_ms, .. } => self.blocks.push((block, stage, elapsed_ms)),
            Record::Look { stage, cells } => {
                cells.iter().try_for_each(|it| known(it.cell))?;
                self.looks.push((stage, cells));
            }
            Record::Error { cell, message, .. } => {
                cell.map_or(Ok(()), known)?;
                self.errors.push((cell, message));
            }
            Record::End { ending } => self.ending = Some(ending),
        }
        Ok(())
    }

    /// The last judgement of each cell, by its index; without those of [`Stage::Confirm`].
    pub fn latest(&self) -> BTreeMap<usize, CellLook> {
        let looks = self.looks.iter().filter(|it| it.0 == Stage::Gate);
        looks.flat_map(|it| &it.1).map(|it| (it.cell, *it)).collect()
    }
}
