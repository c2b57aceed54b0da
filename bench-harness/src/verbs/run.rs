//! `run`: measures a matrix.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::limits::LimitArgs;
use super::matrix::{MatrixArgs, cells_of, resolved};
use super::signals;
use super::{outln, print_text};
use crate::cell::Subject;
use crate::compare::saved;
use crate::driver::command::definitions_of;
use crate::error::{BenchError, BenchErrorKind, Exit, Result};
use crate::matrix::estimate::Estimate;
use crate::matrix::expand::{PlannedCell, cuts};
use crate::matrix::shard::{Shard, seed_of};
use crate::matrix::{Matrix, overrides};
use crate::report::terminal::Screen;
use crate::report::{self, versus};
use crate::run::cold::{self, Cooling};
use crate::run::journal::{Ending, Origin, RunRecord};
use crate::run::lock::Lock;
use crate::run::record::{Config, Method};
use crate::run::{Outcome, Plan};
use crate::size::parse_seconds;
use crate::stats::precision::LOOKS;
use crate::{backing, host, run};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to measure.
    #[command(flatten)]
    pub matrix: MatrixArgs,

    /// Directory of the results; target/bench/DATE-REV without it.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Time for the whole run, such as 90s or 5m; the matrix's own without it. At least one block is measured.
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    pub budget: Option<Duration>,

    /// Seed of the order of cells; drawn from the clock without it, and recorded.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Continue the run in --out with its own cells and seed.
    #[arg(long, requires = "out", conflicts_with_all = ["seed", "drivers", "label", "set", "sessions", "precision", "rate", "print_config"])]
    pub resume: bool,

    /// Measure one of n parts of the matrix, 0/n to n-1/n; `auto` asks Kubernetes or Slurm which. See docs/fleet.
    #[arg(long, value_name = "I/N|auto", conflicts_with = "resume")]
    pub shard: Option<String>,

    /// The number of parts, where `--shard auto` is not told.
    #[arg(long, value_name = "N", requires = "shard")]
    pub shards: Option<u32>,

    #[command(flatten)]
    limits: LimitArgs,
    /// Spread the blocks over N sessions, each with layers, imports and servers made anew; as --set sessions=N.
    #[arg(long, value_name = "N")]
    pub sessions: Option<u32>,

    /// Measure a cell no more once its 95 % interval is this narrow, such as 2.5%, and up to 160 blocks; as --set precision=P.
    #[arg(long, value_name = "SHARE")]
    pub precision: Option<String>,

    /// Start single operations at this mean rate per second, whether earlier ones have ended or not; as --set rate=R.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// Print the matrix with all that was set, and how large the run would be; measure nothing.
    #[arg(long)]
    pub print_config: bool,

    /// Start a run of absurd size all the same.
    #[arg(long)]
    pub yes: bool,

    /// Measure although another bench measures in the same --backing.
    #[arg(long)]
    pub allow_concurrent: bool,
    /// Let cold cells drop all caches of this host, which slows down whatever else runs on it for a while.
    ///
    /// Without it cold cells drop the data of their own files only, and models of names have no cold cells.
    #[arg(long)]
    pub allow_drop_caches: bool,

    /// Name of this machine in titles; its hostname without it.
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,

    /// Whom ratios are to, such as overlayfs or overlayfs/volatile; without it overlayfs, else plain.
    #[arg(long, value_name = "DRIVER")]
    pub versus: Option<String>,

    /// Keep the samples under this name in target/bench/saved, or in a directory (with a slash), for `compare`.
    #[arg(long, value_name = "NAME")]
    pub save: Option<String>,
}

/// Reads a time such as `90s`.
///
/// # Errors
///
/// The text is no time above zero.
pub fn parse_budget(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(Duration::from_secs_f64)
}

/// Measures, writes the report, and prints its path last.
///
/// # Errors
///
/// A wrong matrix, nothing that can run here, or results that cannot be written.
pub fn run(args: &RunArgs) -> Result<Exit> {
    args.limits.choose();
    let (matrix, cells) = resolved_run(args)?;
    let part = Part::of(args, &matrix, cells)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(""));
    let known = subjects_of(args, &part.cells, &out)?;
    let versus = versus::chosen(args.versus.as_deref(), known)?;
    if args.print_config {
        return print_config(&matrix, &part.cells);
    }
    if !args.resume && !args.yes {
        confirm(&matrix, &part.cells, &args.matrix.backing)?;
    }
    let save = args.save.as_deref().map(saved::place).transpose()?;
    save.as_deref().map_or(Ok(()), saved::check_free)?;
    let _lock = (!args.allow_concurrent).then(|| Lock::take(&args.matrix.backing)).transpose()?;
    let interrupt = signals::install()?;
    let cooling = if args.allow_drop_caches { Cooling::Host } else { Cooling::Files };
    if cooling == Cooling::Host {
        cold::check_allowed()?;
    }
    let outcome = if args.resume {
        run::resume(&out, &args.matrix.backing, resumed_budget(args, &out)?, cooling, &interrupt)?
    } else {
        run::start(&plan(args, matrix, part, cooling)?, &out, &interrupt)?
    };
    let page = report::write_versus(&outcome.record, &out, versus.as_ref())?;
    if let Some(place) = &save {
        saved::save(&out, place)?;
        eprintln!("saved as {}", place.display());
    }
    eprint!(
        "{}",
        report::terminal::summary(&outcome.record, versus.as_ref(), Screen::of(&std::io::stderr()))
    );
    tell(&outcome);
    outln!("{}", page.display())?;
    Ok(outcome.exit)
}

/// Whom the run has that is measured, or continued with its own cells.
fn subjects_of(args: &RunArgs, cells: &[PlannedCell], out: &Path) -> Result<BTreeSet<Subject>> {
    let subjects = |cells: &[PlannedCell]| cells.iter().map(|it| it.cell.subject()).collect();
    Ok(if args.resume { subjects(&RunRecord::load(out)?.header.cells) } else { subjects(cells) })
}

/// What this run measures of the whole matrix: the shard that is asked for, or all.
#[derive(Debug)]
struct Part {
    cells: Vec<PlannedCell>,
    seed: u64,
    config: Config,
    origin: Origin,
}

impl Part {
    fn of(args: &RunArgs, matrix: &Matrix, cells: Vec<PlannedCell>) -> Result<Self> {
        let config = Config::of(matrix.to_toml()?);
        let names: Vec<&str> = cells.iter().map(|it| it.cell.driver.as_str()).collect();
        let mut origin = Origin { commands: definitions_of(&names), ..Origin::default() };
        let wrong = |what| BenchError::new("choose shard of", &matrix.name, BenchErrorKind::Config(what));
        let shard = match args.shard.as_deref() {
            None => None,
            Some("auto") => Some(Shard::from_environment(|name| std::env::var(name).ok(), args.shards)),
            Some(text) => Some(text.parse()),
        };
        let Some(shard) = shard.transpose().map_err(wrong)? else {
            let seed = args.seed.unwrap_or_else(seed_from_clock);
            return Ok(Self { cells, seed, config, origin });
        };
        // Shards that were given no seed must still agree on one.
        let seed = args.seed.unwrap_or_else(|| seed_of(&config.sha256));
        let cells = shard.cells_of(&cells, seed);
        if cells.is_empty() {
            let what = "the matrix has fewer parameter sets; take fewer shards";
            return Err(wrong(format!("shard {shard} has no cells: {what}")));
        }
        origin.shard = Some(shard);
        Ok(Self { cells, seed, config, origin })
    }
}

/// The matrix with all that the command line changes, and its cells.
fn resolved_run(args: &RunArgs) -> Result<(Matrix, Vec<PlannedCell>)> {
    let flags = [
        args.sessions.map(|it| format!("sessions={it}")),
        args.precision.as_ref().map(|it| format!("precision={it:?}")),
        args.rate.map(|it| format!("rate={it:?}")),
    ];
    let flags: Vec<String> = flags.into_iter().flatten().collect();
    let mut matrix = overrides::apply(resolved(&args.matrix)?, &flags)?;
    if let Some(budget) = args.budget {
        matrix.budget = budget.as_secs_f64();
    }
    if matrix.precision.is_some() {
        matrix.blocks_max = LOOKS[LOOKS.len() - 1];
    }
    let cells = cells_of(&matrix)?;
    Ok((matrix, cells))
}

/// The time a resumed run has: what is given, else what the run was given when it began.
fn resumed_budget(args: &RunArgs, out: &Path) -> Result<Duration> {
    let recorded = |config: &Config| Matrix::parse(&config.toml, out).map(|it| it.budget);
    let budget = match (args.budget, &RunRecord::load(out)?.header.method.config) {
        (Some(budget), _) => return Ok(budget),
        (None, Some(config)) => recorded(config)?,
        (None, None) => Matrix::load(&args.matrix.matrix)?.budget,
    };
    Ok(Duration::from_secs_f64(budget))
}

fn plan(args: &RunArgs, matrix: Matrix, part: Part, cooling: Cooling) -> Result<Plan> {
    Ok(Plan {
        method: Method {
            sessions: matrix.sessions,
            precision: matrix.precision,
            rate_per_s: matrix.rate,
            cache_policy: cooling,
            config: Some(part.config),
        },
        cuts: cuts(&matrix, matrix.budget),
        goals: matrix.goals,
        matrix: matrix.name,
        cells: part.cells,
        blocks_max: matrix.blocks_max,
        budget: Duration::from_secs_f64(matrix.budget),
        seed: part.seed,
        scratch: args.matrix.backing.clone(),
        label: args.label.clone(),
        check_all: false,
        origin: part.origin,
    })
}

/// Prints the matrix, and as a comment how large its run would be.
fn print_config(matrix: &Matrix, cells: &[PlannedCell]) -> Result<Exit> {
    let toml = matrix.to_toml()?;
    let estimate = Estimate::of(cells);
    outln!("# {}", estimate.line())?;
    outln!("# at most {} blocks in {} s; times are rough", matrix.blocks_max, matrix.budget)?;
    outln!("# sha256 {}", Config::of(toml.clone()).sha256)?;
    print_text(&toml)?;
    Ok(Exit::Success)
}

/// Refuses a run of absurd size that nobody asked for twice.
fn confirm(matrix: &Matrix, cells: &[PlannedCell], backing: &Path) -> Result<()> {
    let exists = backing.ancestors().find(|it| it.exists()).unwrap_or(Path::new("."));
    let excess = Estimate::of(cells).excess(backing::free_bytes(exists)?);
    excess.map_or(Ok(()), |excess| Err(BenchError::new("run", &matrix.name, BenchErrorKind::Config(excess))))
}

/// Says on stderr what the numbers do not: skips, errors, an early end.
fn tell(outcome: &Outcome) {
    let record = &outcome.record;
    for skip in record.header.skips.iter().filter(|it| it.model.is_none()) {
        eprintln!("skipped {} on {}: {}", skip.subject.label(), skip.backing, skip.reason);
    }
    for (index, message) in record.errors() {
        eprintln!("error in {}: {message}", record.header.cells[index].cell);
    }
    if record.layers_unchanged == Some(false) {
        eprintln!("error: a driver wrote into a layer; see the log above");
    }
    let why = match record.ending {
        Some(Ending::Complete) => "all",
        Some(Ending::Budget) => "as the budget allows",
        Some(Ending::Interrupted) => "interrupted; --resume continues",
        None => "cut off",
    };
    for cut in &record.header.cuts {
        eprintln!("left out of runs with a budget {cut}");
    }
    if let Some(warning) = record.header.host.environment.clock_warning() {
        eprintln!("warning: {warning}");
    }
    let sessions = record.n_sessions();
    let cells = record.header.cells.len();
    eprintln!("{} blocks of {cells} cells in {sessions} sessions ({why})", record.n_complete());
}

/// `target/bench/DATE-REV`, with `prefix` before the date.
pub fn default_out(prefix: &str) -> PathBuf {
    let date = jiff::Zoned::now().strftime("%Y-%m-%dT%H%M%S").to_string();
    let rev = host::git_rev().unwrap_or_else(|| "norev".to_owned());
    Path::new("target/bench").join(format!("{prefix}{date}-{rev}"))
}

/// A seed that is written down with what is drawn from it.
pub fn seed_from_clock() -> u64 {
    // Microseconds: short enough to type again, and no two runs share one.
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}
