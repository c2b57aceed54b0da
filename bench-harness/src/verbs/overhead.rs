//! `overhead`: what the harness itself costs, beside a program that does the reference operation without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use super::outln;
use super::run::seed_from_clock;
use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::host::HostFacts;
use crate::matrix::expand::{PlannedCell, order, yardstick};
use crate::model::YARDSTICKS;
use crate::run::bench::Bench;
use crate::run::block::{Blocks, Number};
use crate::run::interrupt::Interrupt;
use crate::run::journal::{Header, Journal, Record, RunRecord};
use crate::run::lock::Lock;
use crate::run::progress::Progress;
use crate::run::standing::Standing;
use crate::size::human_ns;
use crate::stats::order::{Interval, median, sorted};
use crate::stats::summary::{Blocks as BlockValues, Latency, Summary, p50_interval, ratio_of};

/// Arguments of `overhead`.
#[derive(Debug, Args)]
pub struct OverheadArgs {
    /// Called as PROGRAM DIR N: does the reference operation N times in DIR and prints each time in ns, one a line.
    #[arg(long, value_name = "PROGRAM")]
    pub peer: PathBuf,

    /// Blocks; in each the program and the harness measure once, who is first being drawn.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub blocks: u32,

    /// Samples of each in a block.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub samples: u32,

    /// Seed of the draws; from the clock without it.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Directory for the files; decides the file system.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,
}

/// What both sides measured, in ns.
#[derive(Debug)]
struct Measured {
    harness: Summary,
    peer: Vec<Vec<u64>>,
}

/// Measures both in turn, and prints medians and their ratio.
///
/// # Errors
///
/// The program cannot be run or prints something else, or a sample of the harness fails.
pub fn overhead(args: &OverheadArgs) -> Result<Exit> {
    let _lock = Lock::take(&args.backing)?;
    let measured = measure(args, &Interrupt::install()?)?;
    let n = u64::from(args.blocks) * u64::from(args.samples);
    let latency = |model: &str| {
        let cell = measured.harness.cells.iter().find(|it| it.cell.params.model == model);
        cell.and_then(|it| Some((it.latency.as_ref()?, &it.block_medians))).ok_or_else(|| none(model))
    };
    let ((null, _), (reference, own)) = (latency("null")?, latency("reference")?);
    let all = sorted(measured.peer.iter().flatten().map(|it| *it as f64).collect());
    let of_block = |values: &Vec<u64>| median(&sorted(values.iter().map(|it| *it as f64).collect()));
    let middles = (0..).zip(&measured.peer).filter_map(|(block, it)| Some((block, of_block(it)?)));
    let middles: BlockValues = middles.collect();
    let ratio = ratio_of(own, &middles).ok_or_else(|| none("ratio"))?;
    let peer_p50 = median(&all).ok_or_else(|| none("program"))?;
    outln!("reference by the harness   {}", shown(reference.p50, reference.p50_interval))?;
    outln!("reference by the program   {}", shown(peer_p50, p50_interval(&all, &middles)))?;
    let ends = ratio.interval.map(|it| format!(" ({:.4} – {:.4})", it.low, it.high)).unwrap_or_default();
    outln!("ratio, paired by block     {:.4}{ends}", ratio.p50)?;
    outln!("null                       {}{}", shown(null.p50, null.p50_interval), tail(null))?;
    outln!("{} blocks, {n} samples of each; intervals are of the median over blocks, at 95 %", args.blocks)?;
    Ok(Exit::Success)
}

fn shown(p50_ns: f64, interval: Option<Interval>) -> String {
    let ends = interval.map(|it| format!(" ({} – {})", human_ns(it.low), human_ns(it.high)));
    format!("{}{}", human_ns(p50_ns), ends.unwrap_or_default())
}

fn tail(latency: &Latency) -> String {
    let p99 = latency.p99.map(|it| format!(", p99 {}", human_ns(it)));
    format!("{}, longest {}", p99.unwrap_or_default(), human_ns(latency.max))
}

fn none(what: &str) -> BenchError {
    BenchError::new("compare", what, BenchErrorKind::Journal("has no samples".to_owned()))
}

/// Blocks of the harness as in any run, and those of the program between them.
fn measure(args: &OverheadArgs, interrupt: &Interrupt) -> Result<Measured> {
    let seed = args.seed.unwrap_or_else(seed_from_clock);
    let planned =
        |model| PlannedCell { cell: yardstick(model, "dir"), files: args.samples, blocks: args.blocks };
    let cells: Vec<PlannedCell> = YARDSTICKS.map(planned).into();
    let mut bench = Bench::open(&cells, &args.backing)?;
    bench.build(&cells, interrupt)?;
    let out = tempfile::tempdir().at("create", "run directory")?;
    let mut journal = Journal::create(out.path(), &header(&cells, args, seed)?)?;
    let dir = bench.branch_home("dir", args.blocks)?.join("peer");
    std::fs::create_dir(&dir).at("create", &dir)?;
    let progress = Progress::start(cells.len(), Instant::now());
    let standing = &mut Standing::new(&cells, None);
    let (rate_per_s, check_all) = (None, false);
    let mut blocks =
        Blocks { bench: &bench, cells: &cells, seed, rate_per_s, interrupt, check_all, standing };
    let mut peer = BTreeMap::new();
    for block in 0..args.blocks {
        // Not the stream that orders the cells of the block.
        for side in order(seed.rotate_left(32), block, 2) {
            if side == 0 {
                peer.insert(block, run_peer(&args.peer, &dir, args.samples)?);
            } else {
                blocks.measure(Number { block, session: 0 }, &mut journal, &progress)?;
                blocks.standing.end_block(block + 1);
                journal.append(&Record::BlockEnd { block, elapsed_ms: 0, steal_ms: 0 })?;
            }
        }
    }
    journal.flush()?;
    progress.finish();
    let record = RunRecord::load(out.path())?;
    match record.errors().into_values().next() {
        Some(message) => Err(BenchError::new("measure", "yardsticks", BenchErrorKind::Incorrect(message))),
        None => Ok(Measured { harness: Summary::of(&record), peer: peer.into_values().collect() }),
    }
}

fn header(cells: &[PlannedCell], args: &OverheadArgs, seed: u64) -> Result<Header> {
    let host = HostFacts::read(seed, "overhead")?;
    let (blocks_max, cells) = (args.blocks, cells.to_vec());
    Ok(Header::new(host, blocks_max, cells))
}

/// The times that the program prints, in ns.
fn run_peer(program: &Path, dir: &Path, samples: u32) -> Result<Vec<u64>> {
    let wrong = |what: String| BenchError::new("run", program, BenchErrorKind::Tool(what));
    let mut command = Command::new(program);
    let output =
        command.arg(dir).arg(samples.to_string()).stdin(Stdio::null()).output().at("run", program)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(wrong(format!("{said} ({})", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let times: Result<Vec<u64>, String> = text
        .lines()
        .map(|line| line.parse().map_err(|_| format!("printed {line:?}, no time in ns")))
        .collect();
    let times = times.map_err(wrong)?;
    if times.len() == samples as usize {
        return Ok(times);
    }
    Err(wrong(format!("printed {} times instead of {samples}", times.len())))
}
