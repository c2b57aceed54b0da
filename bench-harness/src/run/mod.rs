//! Runs: from a matrix to samples on disk.

mod arrivals;
pub mod bench;
pub mod block;
pub mod budget;
pub mod checked;
pub mod cold;
pub mod interrupt;
pub mod journal;
pub mod lock;
pub mod merge;
pub mod metric;
pub mod progress;
pub mod reader;
pub mod record;
mod runner;
mod session;
pub mod standing;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cell::{Cache, Subject};
use crate::compare::fingerprint::{differences, told};
use crate::driver::command as described;
use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;
use crate::matrix::ranges;
use crate::model::is_yardstick;
use bench::{Bench, Feasible};
use budget::Budget;
use cold::Cooling;
use interrupt::Interrupt;
use journal::{Ending, Header, Journal, Origin, RunRecord, SCHEMA};
use progress::Progress;
use record::Method;
use runner::Runner;
use standing::Standing;

use crate::stats::precision::Precision;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the matrix.
    pub matrix: String,
    /// All cells, whether they can be measured here or not.
    pub cells: Vec<PlannedCell>,
    /// What the budget is too short for, in words.
    pub cuts: Vec<String>,
    /// The built-in goals to judge, if any.
    pub goals: Option<String>,
    /// Most blocks.
    pub blocks_max: u32,
    /// Time for the whole run.
    pub budget: Duration,
    /// Seed of the order.
    pub seed: u64,
    /// Where layers and branches go.
    pub scratch: PathBuf,
    /// Name of the host in titles, if not its own.
    pub label: Option<String>,
    /// Compare files of any length whole in each block.
    pub check_all: bool,
    /// How it measures.
    pub method: Method,
    /// Where the cells come from.
    pub origin: Origin,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What is on disk now.
    pub record: RunRecord,
    /// What the program should exit with.
    pub exit: Exit,
}

/// Part of the budget that is kept for the last check and the report.
const CLOSING: f64 = 0.06;

/// Runs `plan` into the directory `out`, which must not exist or be empty.
///
/// # Errors
///
/// Nothing can run here, `out` cannot be written, or a layer was changed by a driver.
pub fn start(plan: &Plan, out: &Path, interrupt: &Interrupt) -> Result<Outcome> {
    let deadline = Instant::now() + plan.budget.mul_f64(1.0 - CLOSING);
    claim(out)?;
    let progress = Progress::start(plan.cells.len(), deadline);
    progress.stage("trying drivers");
    let mut bench = Bench::open_noted(&plan.cells, &plan.scratch, |it| interrupt.note_scratch(it))?;
    bench.cooling = plan.method.cache_policy;
    let Feasible { cells, skips } = bench.feasible(&plan.cells, interrupt)?;
    if !cells.iter().any(is_wanted) && plan.cells.iter().any(is_wanted) {
        let reasons: Vec<String> =
            skips.iter().map(|it| format!("{}: {}", it.subject.label(), it.reason)).collect();
        let kind = BenchErrorKind::Refused(format!("nothing can run here: {}", reasons.join("; ")));
        return Err(BenchError::new("run", &plan.matrix, kind));
    }
    let mut host = HostFacts::read(plan.seed, &plan.matrix)?;
    host.label = plan.label.clone().unwrap_or(host.label);
    host.backings = bench.backings.values().map(|it| it.facts.clone()).collect();
    let (cuts, goals, method) = (plan.cuts.clone(), plan.goals.clone(), plan.method.clone());
    let command = std::env::args().skip(1).collect();
    let origin = plan.origin.clone();
    let blocks_max = plan.blocks_max;
    let header =
        Header { schema: SCHEMA, host, blocks_max, cells, skips, cuts, goals, command, method, origin };
    let journal = Journal::create(out, &header)?;
    let budget = Budget::new(plan.blocks_max);
    let precision = header.method.precision.map(|target| Precision::new(target, &header.cells));
    let standing = Standing::new(&header.cells, precision);
    let (check_all, sessions) = (plan.check_all, (0, header.method.sessions));
    Runner { bench, header, journal, budget, progress, interrupt, standing, check_all, sessions, deadline }
        .go(0, out)?;
    outcome(out)
}

/// Continues the run in `out` with its own cells and seed, for `budget` more, in a session of its own.
///
/// # Errors
///
/// There is no run, it made its cells cold in another way, it is of another machine or file system, or as [`start`].
pub fn resume(
    out: &Path,
    scratch: &Path,
    budget: Duration,
    cooling: Cooling,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let deadline = Instant::now() + budget.mul_f64(1.0 - CLOSING);
    let record = RunRecord::load(out)?;
    let (header, done) = (record.header.clone(), record.n_complete());
    let is_cold = |it: &PlannedCell| it.cell.params.cache == Cache::Cold;
    let drops = header.method.cache_policy == Cooling::Host && header.cells.iter().any(is_cold);
    if drops && cooling != Cooling::Host {
        let reason = "it has cold cells that drop all caches; give --allow-drop-caches again";
        return Err(BenchError::new("resume", out, BenchErrorKind::Config(reason.to_owned())));
    }
    if !header.origin.hosts.is_empty() {
        let reason = "it was merged from several; continue those, and merge again".to_owned();
        return Err(BenchError::new("continue", out, BenchErrorKind::Config(reason)));
    }
    check_ranges(&header).map_err(|what| BenchError::new("continue", out, BenchErrorKind::Config(what)))?;
    for definition in &header.origin.commands {
        let config =
            |what| BenchError::new("describe driver", &definition.name, BenchErrorKind::Config(what));
        described::register(definition).map_err(config)?;
    }
    let progress = Progress::start(header.cells.len(), deadline);
    let mut bench = Bench::open_noted(&header.cells, scratch, |it| interrupt.note_scratch(it))?;
    bench.cooling = header.method.cache_policy;
    check_alike(&header.host, &host_of(&header, &bench)?, out)?;
    let journal = Journal::reopen(out)?;
    let budget = Budget::new(header.blocks_max);
    let standing = Standing::of(&record);
    let begun = record.blocks.values().map(|it| it.session + 1).max().unwrap_or(0);
    let sessions = (begun, header.method.sessions.max(begun + 1));
    let check_all = false;
    Runner { bench, header, journal, budget, progress, interrupt, standing, check_all, sessions, deadline }
        .go(done, out)?;
    outcome(out)
}

/// Refuses what no matrix could ask for: a journal is a file that anyone may have edited.
fn check_ranges(header: &Header) -> Result<(), String> {
    let checked = header.cells.iter().try_for_each(ranges::cell);
    let checked = checked.and_then(|()| ranges::sessions(header.method.sessions));
    let checked = checked.and_then(|()| header.method.rate_per_s.map_or(Ok(()), ranges::rate));
    checked.map_err(|(key, what)| format!("{key}: {what}"))
}

/// What is true of the host now, as far as `header` says what it was.
fn host_of(header: &Header, bench: &Bench) -> Result<HostFacts> {
    let subjects: BTreeSet<Subject> = header.cells.iter().map(|it| it.cell.subject()).collect();
    for Subject { driver, options } in subjects {
        // Asking loads the modules whose parameters the header has.
        if let Err(missing) = bench::known(&driver)?.needs(&options) {
            tracing::warn!(driver, missing, "a driver of the run is missing");
        }
    }
    let mut host = HostFacts::read(header.host.seed, &header.host.matrix)?;
    host.backings = bench.backings.values().map(|it| it.facts.clone()).collect();
    Ok(host)
}

/// Refuses to go on where samples would be of something else than those before: all are pooled.
fn check_alike(recorded: &HostFacts, now: &HostFacts, out: &Path) -> Result<()> {
    let differing = differences(recorded, now)?;
    if differing.is_empty() {
        return Ok(());
    }
    let what = format!("the run was measured elsewhere: {}; begin one of its own", told(&differing));
    Err(BenchError::new("continue", out, BenchErrorKind::Refused(what)))
}

/// Whether somebody asked for the cell; nobody asks for yardsticks.
fn is_wanted(planned: &PlannedCell) -> bool {
    !is_yardstick(&planned.cell.params.model)
}

/// Makes the directory of a new run, and finds out now rather than at the end whether it can be written.
fn claim(out: &Path) -> Result<()> {
    let config = |message: String| BenchError::new("write results to", out, BenchErrorKind::Config(message));
    let unwritable = |error: std::io::Error| config(format!("{error}; give another --out"));
    fs::create_dir_all(out).map_err(unwritable)?;
    if let Some(entry) = fs::read_dir(out).at("read directory", out)?.next() {
        let name = entry.at("read directory", out)?.file_name();
        let message = if name == journal::FILE_NAME || out.join(journal::FILE_NAME).exists() {
            "a run lies there already; continue it with --resume, or give another --out".to_owned()
        } else {
            format!("it is not empty: {name:?} lies there; give another --out")
        };
        return Err(config(message));
    }
    let mut probe = tempfile::tempfile_in(out).map_err(unwritable)?;
    std::io::Write::write_all(&mut probe, b"a line").map_err(unwritable)
}

fn outcome(out: &Path) -> Result<Outcome> {
    let record = RunRecord::load(out)?;
    let exit = match record.ending {
        Some(Ending::Interrupted) => Exit::Interrupted,
        _ if !record.errors().is_empty() || record.layers_unchanged == Some(false) => Exit::Incorrect,
        _ => Exit::Success,
    };
    Ok(Outcome { record, exit })
}
