//! The verbs of the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cell::Subject;
use crate::cli::{ListArgs, MatrixArgs, ReportArgs, RunArgs, Verb, VerifyArgs};
use crate::error::{At as _, BenchError, BenchErrorKind, Exit, Result};
use crate::matrix::Matrix;
use crate::matrix::expand::{PlannedCell, cells, cuts, subjects};
use crate::run::interrupt::Interrupt;
use crate::run::journal::{Ending, RunRecord};
use crate::run::{Outcome, Plan};
use crate::{backing, driver, host, model, report, run, sandbox, suggest};

/// Does what the command line asks for.
///
/// # Errors
///
/// Why it could not be done.
pub fn execute(verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::List(args) => list(args),
        Verb::Run(args) => run(args),
        Verb::Report(args) => report(args),
        Verb::Verify(args) => verify(args),
        Verb::Keep(args) => report::keep::keep(args),
    }
}

/// The matrix and its cells, less the drivers that are not wanted.
fn planned(args: &MatrixArgs, budget: Option<Duration>) -> Result<(Matrix, Vec<PlannedCell>)> {
    let matrix = Matrix::load(&args.matrix)?;
    for name in &args.drivers {
        let config = |message| Err(BenchError::new("choose driver", name, BenchErrorKind::Config(message)));
        if driver::by_name(name).is_none() {
            return config(suggest::unknown("driver", name, &driver::names()));
        }
        if !matrix.driver.iter().any(|row| row.name == *name) {
            return config(format!("matrix {} does not have it", matrix.name));
        }
    }
    let budget_seconds = budget.map_or(matrix.budget, |it| it.as_secs_f64());
    let cells = cells(&matrix, &args.drivers, budget_seconds);
    Ok((matrix, cells))
}

#[derive(Debug, Serialize)]
struct Listing {
    drivers: Vec<ListedDriver>,
    models: Vec<&'static str>,
    cells: usize,
}

#[derive(Debug, Serialize)]
struct ListedDriver {
    name: String,
    options: String,
    available: bool,
    reason: Option<String>,
}

fn list(args: &ListArgs) -> Result<Exit> {
    let (matrix, cells) = planned(&args.matrix, None)?;
    sandbox::enter()?;
    let scratch = backing::scratch(&args.matrix.backing)?;
    let wanted = |it: &Subject| args.matrix.drivers.is_empty() || args.matrix.drivers.contains(&it.driver);
    let mut drivers = Vec::new();
    for Subject { driver: name, options } in subjects(&matrix).into_iter().filter(wanted) {
        let tried = driver::probe(run::bench::known(&name)?, &options, scratch.path());
        drivers.push(ListedDriver { name, options, available: tried.is_ok(), reason: tried.err() });
    }
    let listing = Listing { drivers, models: model::names(), cells: cells.len() };
    if args.json {
        let text = serde_json::to_string_pretty(&listing).map_err(std::io::Error::from);
        println!("{}", text.at("write", "list")?);
        return Ok(Exit::Success);
    }
    for it in &listing.drivers {
        let state = it.reason.as_deref().unwrap_or("available");
        println!("{:<16} {:<12} {state}", it.name, it.options);
    }
    println!("models: {}", listing.models.join(", "));
    println!("matrix {}: {} cells. {}", matrix.name, listing.cells, matrix.about);
    Ok(Exit::Success)
}

fn run(args: &RunArgs) -> Result<Exit> {
    let (matrix, cells) = planned(&args.matrix, args.budget)?;
    let interrupt = Interrupt::install()?;
    sandbox::enter()?;
    let budget = args.budget.unwrap_or(Duration::from_secs_f64(matrix.budget));
    let out = args.out.clone().unwrap_or_else(default_out);
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
    let page = report::write(&outcome.record, &out)?;
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

fn report(args: &ReportArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let page = report::write(&record, &args.run)?;
    println!("{}", page.display());
    Ok(Exit::Success)
}

fn verify(args: &VerifyArgs) -> Result<Exit> {
    let (matrix, mut cells) = planned(&args.matrix, None)?;
    let interrupt = Interrupt::install()?;
    sandbox::enter()?;
    cells.iter_mut().for_each(|it| it.files = 1);
    let out = tempfile::tempdir().at("create", "run directory")?;
    let plan = Plan {
        cuts: Vec::new(),
        goals: None,
        matrix: matrix.name,
        cells,
        blocks_max: 1,
        budget: Duration::from_secs(3600),
        seed: seed_from_clock(),
        scratch: args.matrix.backing.clone(),
        label: None,
        check_all: true,
    };
    let outcome = run::start(&plan, out.path(), &interrupt)?;
    print_verified(&outcome);
    Ok(outcome.exit)
}

/// One line for each driver: cells that are right, that failed, or why it was skipped.
fn print_verified(outcome: &Outcome) {
    let (record, errors) = (&outcome.record, outcome.record.errors());
    let mut counts: BTreeMap<Subject, (usize, usize)> = BTreeMap::new();
    for (index, planned) in record.header.cells.iter().enumerate() {
        let count = counts.entry(planned.cell.subject()).or_default();
        if errors.contains_key(&index) { count.1 += 1 } else { count.0 += 1 }
    }
    for (subject, (right, wrong)) in counts {
        println!("{:<26} {right} right, {wrong} wrong", subject.label());
    }
    for skip in &record.header.skips {
        let model = skip.model.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
        println!("{:<26} skipped{model} on {}: {}", skip.subject.label(), skip.backing, skip.reason);
    }
    for (index, message) in errors {
        println!("wrong: {}: {message}", record.header.cells[index].cell);
    }
    let layers = if record.layers_unchanged == Some(true) { "unchanged" } else { "CHANGED" };
    println!("layers {layers}");
}

/// `target/bench/DATE-REV`, with a number when that exists.
fn default_out() -> PathBuf {
    let date = jiff::Zoned::now().strftime("%Y-%m-%dT%H%M%S").to_string();
    let rev = host::git_rev().unwrap_or_else(|| "norev".to_owned());
    Path::new("target/bench").join(format!("{date}-{rev}"))
}

fn seed_from_clock() -> u64 {
    // Microseconds: short enough to type again, and no two runs share one.
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}
