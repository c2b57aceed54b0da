//! `list`: drivers, models and the number of cells of a matrix.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::matrix::{MatrixArgs, planned};
use super::outln;
use super::signals;
use crate::cell::Subject;
use crate::error::{At as _, Exit, Result};
use crate::matrix::expand::subjects;
use crate::{backing, driver, model, run};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to list.
    #[command(flatten)]
    pub matrix: MatrixArgs,

    /// Every driver with every option set, whatever the matrix has.
    #[arg(long)]
    pub all: bool,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
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
    version: Option<String>,
    available: bool,
    reason: Option<String>,
}

/// Prints the list.
///
/// # Errors
///
/// A wrong matrix, no scratch directory to try drivers in, or a signal came.
pub fn list(args: &ListArgs) -> Result<Exit> {
    let (matrix, cells) = planned(&args.matrix, None)?;
    let interrupt = signals::install()?;
    let scratch = backing::scratch(&args.matrix.backing)?;
    interrupt.note_scratch(scratch.path());
    let wanted = |it: &Subject| args.matrix.drivers.is_empty() || args.matrix.drivers.contains(&it.driver);
    let subjects = if args.all { every_subject() } else { subjects(&matrix) };
    let mut drivers = Vec::new();
    for Subject { driver: name, options } in subjects.into_iter().filter(wanted) {
        interrupt.check()?;
        let known = run::bench::known(&name)?;
        let tried = driver::probe(known, &options, scratch.path());
        let (version, available) = (known.version(), tried.is_ok());
        drivers.push(ListedDriver { name, options, version, available, reason: tried.err() });
    }
    // A trial that a signal has ended says nothing about its driver.
    interrupt.check()?;
    let listing = Listing { drivers, models: model::names(), cells: cells.len() };
    if args.json {
        let text = serde_json::to_string_pretty(&listing).map_err(std::io::Error::from);
        outln!("{}", text.at("write", "list")?)?;
        return Ok(Exit::Success);
    }
    outln!("{}", driver_table(&listing.drivers))?;
    outln!("{}", model_table())?;
    outln!("matrix {}: {} cells. {}", matrix.name, listing.cells, matrix.about)?;
    Ok(Exit::Success)
}

fn every_subject() -> Vec<Subject> {
    let of_driver = |name: &'static str| {
        let sets = driver::options_of(name).unwrap_or_default().iter();
        sets.map(move |set| Subject { driver: name.to_owned(), options: (*set).to_owned() })
    };
    driver::names().into_iter().flat_map(of_driver).collect()
}

fn driver_table(drivers: &[ListedDriver]) -> Table {
    let mut table = table(&["driver", "options", "version", "here"]);
    for it in drivers {
        let version = it.version.as_deref().unwrap_or_default();
        table.add_row([&it.name, &it.options, version, it.reason.as_deref().unwrap_or("available")]);
    }
    table
}

fn model_table() -> Table {
    let mut table = table(&["model", "what is timed"]);
    for name in model::names() {
        table.add_row([name, model::by_name(name).map(|it| it.about()).unwrap_or_default()]);
    }
    table
}

fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(heads.iter().copied());
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}
