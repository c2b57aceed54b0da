//! `gate`: is one arm slower than another?

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use glob::Pattern;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::limits::LimitArgs;
use super::matrix::register;
use super::run::{default_out, parse_budget, seed_from_clock};
use super::selftest::{SelftestArgs, selftest};
use super::signals;
use super::{outln, print_text};
use crate::cell::Params;
use crate::driver::command;
use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::gate::arm::ArmSpec;
use crate::gate::decide::{CellState, Look};
use crate::gate::inject::Inject;
use crate::gate::live::{self, Event, Plan};
use crate::gate::record::{CellLook, GateCell, GateRecord, Stage};
use crate::gate::report::{self, OnInconclusive, Summary, annotations};
use crate::gate::settings::{Settings, parse_look, parse_percent};
use crate::matrix::Matrix;
use crate::matrix::expand::cells;
use crate::report::terminal::Screen;
use crate::run::interrupt::Interrupt;
use crate::run::lock::Lock;
use crate::suggest;

/// Arguments of `gate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct GateArgs {
    /// What else can be done with a gate.
    #[command(subcommand)]
    pub verb: Option<GateVerb>,

    /// What to gate.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// What else can be done with a gate.
#[derive(Debug, Subcommand)]
pub enum GateVerb {
    /// Judge the pairs of a gate again, and write its reports anew.
    Report(GateReportArgs),
    /// Test the gate where the answer is known.
    Selftest(Box<SelftestArgs>),
}

/// Arguments of `gate report`.
#[derive(Debug, Args)]
pub struct GateReportArgs {
    /// Directory of a gate.
    pub gate: PathBuf,
}

/// What to gate, and how.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// What head is compared with: `driver=NAME[,options=SET][,bin=PATH]`.
    #[arg(long, value_name = "ARM", required = true)]
    pub base: Option<String>,

    /// What is judged, in the same form.
    #[arg(long, value_name = "ARM", required = true)]
    pub head: Option<String>,

    /// Where, and by which rules.
    #[command(flatten)]
    pub how: HowArgs,

    /// Directory of the results; target/bench/gate-DATE-REV without it.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Seed of the coin and of all orders; drawn from the clock without it, and recorded.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// What to make of a gate that does not decide: exit with 3, or warn and exit with 0.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub on_inconclusive: OnInconclusive,

    /// Measure slower cells in 40 fresh blocks once more; what these do not show to be slower at all is inconclusive.
    #[arg(long)]
    pub confirm: bool,

    /// Print gate.json instead of the table.
    #[arg(long)]
    pub json: bool,

    /// Write JUnit XML here too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Slow head down on purpose, to try the gate: `HOW[@GLOB of cells]`, such as `10%@copy-up-*`, or
    /// `copy-fsync@copy-up-*`, which syncs each copy.
    #[arg(long, value_name = "HOW", value_parser = Inject::parse)]
    pub inject: Option<Inject>,
}

/// Where, and by which rules.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HowArgs {
    /// A matrix that comes with the program, or the path of a .toml file; its drivers do not matter.
    #[arg(long, value_name = "NAME|FILE", default_value = "gate")]
    pub matrix: String,

    /// A file that describes more drivers, as docs/ADD_A_DRIVER.md says; arms may be of these.
    #[arg(long = "drivers", value_name = "FILE")]
    pub described: Option<PathBuf>,

    /// Only cells of this name, which may have * and ?; may be given several times.
    #[arg(long = "cell", value_name = "GLOB", value_parser = parse_glob)]
    pub cells: Vec<Pattern>,

    /// Directory for layers and branches; decides the file system of the backing `dir`.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,

    /// When a driver counts as hung.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Time for the whole gate, such as 90s or 5m; the matrix's own without it.
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    pub budget: Option<Duration>,

    /// Slow-down that is no regression; [default: that of the matrix, else 3%].
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub margin: Option<f64>,

    /// Slow-down that must not pass; [default: that of the matrix, else 10%].
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub limit: Option<f64>,

    /// Pairs of each cell and block; [default: those of the matrix, else 8].
    #[arg(long, value_name = "N")]
    pub pairs: Option<u32>,

    /// When to judge, and the probability of a false alarm that each look spends.
    #[arg(long, value_name = "BLOCKS:ALPHA,…", value_delimiter = ',', value_parser = parse_look)]
    pub looks: Vec<Look>,
}

fn parse_glob(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| format!("{text:?} is no glob: {}", error.msg))
}

/// Gates, or does what else is asked for.
///
/// # Errors
///
/// A wrong command line or matrix, or an arm that cannot run here. No error has
/// the exit code of a regression.
pub fn gate(args: &GateArgs) -> Result<Exit> {
    let done = match &args.verb {
        Some(GateVerb::Report(args)) => judge_again(args),
        Some(GateVerb::Selftest(args)) => selftest(args),
        None => gate_live(&args.live),
    };
    done.map_err(not_a_regression)
}

fn config(of: &str, what: &str) -> BenchError {
    BenchError::new("gate", of, BenchErrorKind::Config(what.to_owned()))
}

/// Exit code 1 says that head is slower; whatever else has failed says 5.
fn not_a_regression(error: BenchError) -> BenchError {
    if error.exit() != Exit::Failure {
        return error;
    }
    let what = error.kind.to_string();
    BenchError { kind: BenchErrorKind::Incorrect(what), ..error }
}

fn gate_live(args: &LiveArgs) -> Result<Exit> {
    let out = args.out.clone().unwrap_or_else(|| default_out("gate-"));
    let (Some(base), Some(head)) = (&args.base, &args.head) else {
        return Err(config("arms", "needs --base and --head"));
    };
    let plan = Plan {
        seed: args.seed.unwrap_or_else(seed_from_clock),
        inject: args.inject.clone(),
        confirm: args.confirm,
        ..plan(&args.how, base, head)?
    };
    args.how.limits.choose();
    let _lock = Lock::take(&args.how.backing)?;
    let interrupt = signals::install()?;
    let record = measure(&plan, &out, &interrupt)?;
    let summary = Summary::of(&record, args.on_inconclusive);
    report::write(&summary, &out)?;
    if let Some(path) = &args.junit {
        crate::report::save(path, &report::junit(&summary)?)?;
    }
    tell_ci(&summary, args.json)?;
    if args.json {
        print_text(&report::json(&summary)?)?;
    } else {
        print_text(&report::table(&summary, Screen::of(&std::io::stdout()).width))?;
        outln!("{}", out.join("gate.html").display())?;
    }
    Ok(summary.exit)
}

/// The plan of `how` for two arms.
///
/// # Errors
///
/// A wrong matrix or arm, or a glob without a cell.
pub fn plan(how: &HowArgs, base: &str, head: &str) -> Result<Plan> {
    let described = how.described.as_deref().map_or(Ok(Vec::new()), command::load);
    register(&described.map_err(not_found)?)?;
    let matrix = Matrix::load(&how.matrix).map_err(not_found)?;
    register(&matrix.command)?;
    let arm = |of: &str, text: &str| ArmSpec::parse(text).map_err(|what| config(of, &what));
    let (base, head) = (arm("--base", base)?, arm("--head", head)?);
    let given = Settings {
        margin: how.margin,
        limit: how.limit,
        pairs: how.pairs,
        looks: (!how.looks.is_empty()).then(|| how.looks.clone()),
    };
    Ok(Plan {
        cells: chosen(&matrix, &how.cells)?,
        budget: how.budget.unwrap_or(Duration::from_secs_f64(matrix.budget)),
        rules: given.or(matrix.gate.unwrap_or_default()).rules(),
        matrix: matrix.name,
        base,
        head,
        seed: 0,
        scratch: how.backing.clone(),
        inject: None,
        confirm: false,
    })
}

/// A file that cannot be read is a wrong command line here, since 1 means a regression.
fn not_found(error: BenchError) -> BenchError {
    match error.kind {
        BenchErrorKind::Io(io) => BenchError { kind: BenchErrorKind::Config(io.to_string()), ..error },
        _ => error,
    }
}

/// The cells of `matrix` whose names match any of `globs`; all without one.
fn chosen(matrix: &Matrix, globs: &[Pattern]) -> Result<Vec<Params>> {
    let all = cells(matrix, &[], matrix.budget).into_iter().map(|it| it.cell.params);
    let all: BTreeSet<Params> = all.filter(|it| !CLOCKS.contains(&it.model.as_str())).collect();
    let names: Vec<String> = all.iter().map(Params::name).collect();
    for glob in globs {
        if !names.iter().any(|name| glob.matches(name)) {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = suggest::unknown("cell", glob.as_str(), &known);
            return Err(BenchError::new("choose cell", &matrix.name, BenchErrorKind::Config(message)));
        }
    }
    let wanted = |it: &Params| globs.is_empty() || globs.iter().any(|glob| glob.matches(&it.name()));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Models that go through no driver: they are in every matrix, and say nothing about an arm.
const CLOCKS: &[&str] = &["null", "reference"];

/// Gates with progress on stderr.
///
/// # Errors
///
/// As [`live::run`].
pub fn measure(plan: &Plan, out: &Path, interrupt: &Interrupt) -> Result<GateRecord> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
        // No ticker thread: it would wake up inside timed regions.
        if let Ok(style) =
            ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} blocks to the next look")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    });
    let say = |text: &str| match &bar {
        Some(bar) => bar.suspend(|| eprintln!("{text}")),
        None => eprintln!("{text}"),
    };
    let record = live::run(plan, out, interrupt, &mut |event| match event {
        Event::Stage(what) => say(what),
        Event::Look { stage, cells, judged } => say(&look_text(stage, cells, judged)),
        Event::Block { n_blocks, next_look, n_open, elapsed } => {
            let left = elapsed * next_look.saturating_sub(n_blocks);
            let text = format!("{n_open} cells open, about {} s", left.as_secs());
            match &bar {
                Some(bar) => {
                    bar.set_length(next_look.into());
                    bar.set_position(n_blocks.into());
                    bar.set_message(text);
                }
                None if n_blocks.is_multiple_of(10) => {
                    eprintln!("block {n_blocks}; {text} to the look at {next_look}");
                }
                None => {}
            }
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    record
}

/// A line for each cell that this look has judged.
fn look_text(stage: Stage, cells: &[GateCell], judged: &[CellLook]) -> String {
    let n_blocks = judged.iter().map(|it| it.n_blocks).max().unwrap_or_default();
    let what = if stage == Stage::Confirm { "confirmation" } else { "look" };
    let mut text = format!("{what} after {n_blocks} blocks:");
    for it in judged.iter().filter(|it| it.n_blocks == n_blocks) {
        let state = match it.state {
            CellState::Open => "open",
            CellState::Cleared => "cleared",
            CellState::Slower => "slower",
            CellState::Improved => "improved",
        };
        let ratio = it.ratio.map_or_else(|| "–".to_owned(), |it| format!("{it:.3}"));
        text += &format!("\n  {:<34} {ratio:>8}  {state}", cells[it.cell].name);
    }
    text
}

/// Tells GitHub Actions, where it runs this.
fn tell_ci(summary: &Summary<'_>, stdout_is_json: bool) -> Result<()> {
    if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|it| !it.is_empty()) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut it| it.write_all(report::markdown(summary).as_bytes()));
        written.at("append summary to", &path)?;
    }
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|it| it == "true") {
        for line in annotations::annotations(summary) {
            if stdout_is_json { eprintln!("{line}") } else { outln!("{line}")? }
        }
    }
    Ok(())
}

fn judge_again(args: &GateReportArgs) -> Result<Exit> {
    let record = GateRecord::load(&args.gate)?;
    record.recheck()?;
    let summary = Summary::of(&record, OnInconclusive::Fail);
    report::write(&summary, &args.gate)?;
    print_text(&report::table(&summary, Screen::of(&std::io::stdout()).width))?;
    outln!("{}", args.gate.join("gate.html").display())?;
    Ok(summary.exit)
}
