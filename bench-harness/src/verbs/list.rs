//! `list`: drivers, models and the number of cells of a matrix.

use clap::Args;
use serde::Serialize;

use super::matrix::{MatrixArgs, planned};
use crate::cell::Subject;
use crate::error::{At as _, Exit, Result};
use crate::matrix::expand::subjects;
use crate::{backing, driver, model, run, sandbox};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to list.
    #[command(flatten)]
    pub matrix: MatrixArgs,

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
    available: bool,
    reason: Option<String>,
}

/// Prints the list.
///
/// # Errors
///
/// A wrong matrix, or no scratch directory to try drivers in.
pub fn list(args: &ListArgs) -> Result<Exit> {
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
