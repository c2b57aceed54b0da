//! The lines of `samples.jsonl`.
//!
//! Version 2 added to version 1: `method` in the header, `session` of a block,
//! `involuntary_switches` and `response_ns` of a sample. Each is left out where it
//! has nothing to say, so that a line of version 1 is read as one of version 2.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cold::Cooling;
use super::metric::Metric;
use crate::cell::{Subject, is_zero};
use crate::driver::command::Definition;
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;
use crate::matrix::shard::Shard;

/// Version of the records that are written.
pub const SCHEMA: u32 = 2;

/// Versions that can be read.
pub const SCHEMAS_READ: std::ops::RangeInclusive<u32> = 1..=SCHEMA;

/// The first record: what the run set out to do, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// How it measures.
    #[serde(default)]
    pub method: Method,
    /// What it takes to continue the run elsewhere, and to join it with others.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where the cells of a run come from, and which part of them it has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Origin {
    /// Descriptions of the drivers that are commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Definition>,
    /// Which part of the matrix this is, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The machines of a merged run: backings whose names end with `@2` are of the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostFacts>,
    /// The shards that a merged run lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Shard>,
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
            method: Method::default(),
            origin: Origin::default(),
        }
    }

    /// Whether a sample without involuntary context switches had none; in version 1 nobody counted.
    pub fn counts_switches(&self) -> bool {
        2 <= self.schema
    }
}

/// How a run measures. The default is what version 1 did: one session, a closed loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Method {
    /// Sessions that the blocks are spread over.
    pub sessions: u32,
    /// Half-width of the 95 % interval at which a cell is measured no more, as a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Mean rate at which samples of single operations are due, per second; a closed loop without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// What the run may do to the machine's page cache.
    pub cache_policy: Cooling,
    /// The matrix as it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
}

impl Default for Method {
    fn default() -> Self {
        Self { sessions: 1, precision: None, rate_per_s: None, cache_policy: Cooling::Files, config: None }
    }
}

/// A resolved matrix; what `run --print-config` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// SHA-256 of the text, in hex: equal for runs that were asked for the same.
    pub sha256: String,
    /// The matrix in TOML, with every key.
    pub toml: String,
}

impl Config {
    /// `toml` with its hash.
    pub fn of(toml: String) -> Self {
        let digest = Sha256::digest(toml.as_bytes());
        Self { sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(), toml }
    }
}

/// A driver that cannot run here, or a model that says nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All blocks were measured, or all that the precision asked for.
    Complete,
    /// The next block would not have fitted the budget.
    Budget,
    /// A signal stopped it.
    Interrupted,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// The first line.
    Header(Box<Header>),
    /// A block begins; earlier records of a block of that number count no more, but for its errors.
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
        /// How often the kernel took the processor from the timed thread meanwhile.
        #[serde(default, skip_serializing_if = "is_zero")]
        involuntary_switches: u32,
        /// The time since the sample was due, in ns, in an open loop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        response_ns: Option<u64>,
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
