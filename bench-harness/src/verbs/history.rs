//! `history`: how cells moved over stored runs.

use std::path::PathBuf;

use clap::Args;

use super::{outln, print_text};
use crate::error::{Exit, Result};
use crate::history::{Series, all_series, load, one_host};
use crate::report;
use crate::report::sparkline::sparkline;
use crate::stats::change_points::VALUES_MIN;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Directories of runs, or of directories of runs, such as reports/.
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,

    /// Take runs of several machines; each machine has series of its own.
    #[arg(long)]
    pub allow: bool,

    /// Seed of the permutations.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the series; whatever changed, the exit code is 0.
///
/// # Errors
///
/// A directory has no run, or the runs are of several machines and `--allow` is not given.
pub fn history(args: &HistoryArgs) -> Result<Exit> {
    let (stored, left_out) = load(&args.dirs)?;
    left_out.iter().for_each(|error| eprintln!("aufs-bench: left out: {}", error.line()));
    if !args.allow {
        one_host(&stored)?;
    }
    let series = all_series(&stored, args.seed);
    if args.json {
        print_text(&report::pretty(&series)?)?;
        return Ok(Exit::Success);
    }
    outln!("{} runs, {} cells that several of them share.", stored.len(), series.len())?;
    let longest = series.iter().map(|it| it.samples.len()).max().unwrap_or(0);
    if longest < VALUES_MIN {
        outln!("A change point needs {VALUES_MIN} runs of a cell; there are {longest} at most.")?;
    }
    let mut last = None;
    for it in &series {
        if last != Some(&it.host) {
            outln!("\n{}", it.host)?;
        }
        last = Some(&it.host);
        print_series(it)?;
    }
    Ok(Exit::Success)
}

fn print_series(it: &Series) -> Result<()> {
    let ratios: Vec<f64> = it.samples.iter().map(|it| it.ratio).collect();
    let newest = ratios.last().copied().unwrap_or_default();
    let left_out = match it.without_base {
        0 => String::new(),
        n => format!(" ({n} runs without it left out)"),
    };
    outln!("{}\n  {}  {newest:.3} × {}{left_out}", it.cell, sparkline(&ratios), it.base.as_str())?;
    for change in &it.changes {
        outln!(
            "  changed by {:+.1} % with {} (run {} of {}, p = {:.3})",
            (change.factor - 1.0) * 100.0,
            change.when,
            change.at + 1,
            it.samples.len(),
            change.p
        )?;
    }
    Ok(())
}
