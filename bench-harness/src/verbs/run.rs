//! `run`: measures a matrix.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::limits::LimitArgs;
use super::matrix::{MatrixArgs, planned};
use crate::error::{Exit, Result};
use crate::matrix::expand::cuts;
use crate::report::{self, versus};
use crate::run::interrupt::Interrupt;
use crate::run::journal::Ending;
use crate::run::{Outcome, Plan};
use crate::size::parse_seconds;
use crate::{host, run, sandbox};

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
    #[arg(long, requires = "out", conflicts_with_all = ["seed", "drivers", "label"])]
    pub resume: bool,

    #[command(flatten)]
    limits: LimitArgs,

    /// Name of this machine in titles; its hostname without it.
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,

    /// Whom ratios are to, such as overlayfs or overlayfs/volatile; without it overlayfs, else plain.
    #[arg(long, value_name = "DRIVER")]
    pub versus: Option<String>,
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
    let (matrix, cells) = planned(&args.matrix, args.budget)?;
    let versus = versus::chosen(args.versus.as_deref(), cells.iter().map(|it| it.cell.subject()).collect())?;
    let interrupt = Interrupt::install()?;
    sandbox::enter()?;
    let budget = args.budget.unwrap_or(Duration::from_secs_f64(matrix.budget));
    let out = args.out.clone().unwrap_or_else(|| default_out(""));
    let outcome = if args.resume {
        run::resume(&out, &args.matrix.backing, budget, &interrupt)?
    } else {
        let plan = Plan {
            cuts: cuts(&matrix, budget.as_secs_f64()),
            goals: matrix.goals,
            matrix: matrix.name,
            cells,
            blocks_max: matrix.blocks_max,
            budget,
            seed: args.seed.unwrap_or_else(seed_from_clock),
            scratch: args.matrix.backing.clone(),
            label: args.label.clone(),
            check_all: false,
        };
        run::start(&plan, &out, &interrupt)?
    };
    let page = report::write_versus(&outcome.record, &out, versus.as_ref())?;
    tell(&outcome);
    println!("{}", page.display());
    Ok(outcome.exit)
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
    eprintln!("{} blocks of {} cells ({why})", record.n_complete(), record.header.cells.len());
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
