//! `report`: tables, plots and the page of a run once more.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::outln;
use crate::cell::Subject;
use crate::error::{Exit, Result};
use crate::report::terminal::Screen;
use crate::report::{self, versus};
use crate::run::journal::RunRecord;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a run.
    pub run: PathBuf,

    /// Whom ratios are to, such as overlayfs or overlayfs/volatile; without it overlayfs, else plain.
    #[arg(long, value_name = "DRIVER")]
    pub versus: Option<String>,
}

/// Writes the report, and prints its path.
///
/// # Errors
///
/// There is no run, it has no such driver, or the report cannot be written.
pub fn report(args: &ReportArgs) -> Result<Exit> {
    let record = RunRecord::load(&args.run)?;
    let subjects: BTreeSet<Subject> = record.header.cells.iter().map(|it| it.cell.subject()).collect();
    let versus = versus::chosen(args.versus.as_deref(), subjects)?;
    let page = report::write_versus(&record, &args.run, versus.as_ref())?;
    eprint!("{}", report::terminal::summary(&record, versus.as_ref(), Screen::of(&std::io::stderr())));
    outln!("{}", page.display())?;
    Ok(Exit::Success)
}
