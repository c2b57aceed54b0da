//! The command line of `aufs-bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::size::parse_seconds;

/// Measure storage drivers against each other: what a write layer costs.
///
/// Exit codes: 0 done, 1 failed, 2 wrong command line or matrix, 4 nothing can
/// run here, 5 a sample failed or its result was wrong, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "aufs-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show drivers, models and the number of cells of a matrix.
    List(ListArgs),
    /// Measure a matrix, and print the path of report.html as the last line.
    Run(RunArgs),
    /// Make tables, plots and report.html of a run again from its samples.
    Report(ReportArgs),
    /// Measure nothing, but do every cell once and check its result.
    Verify(VerifyArgs),
    /// Copy a run to reports/, with hostname and absolute paths replaced by labels.
    Keep(KeepArgs),
}

/// What to measure, and where.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// default, quick, full, peers, ratios, transports, or the path of a .toml file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub matrix: String,

    /// Only this driver; may be given several times.
    #[arg(long = "driver", value_name = "NAME", value_delimiter = ',')]
    pub drivers: Vec<String>,

    /// Directory for layers and branches; decides the file system of the backing `dir`.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,
}

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

    /// Name of this machine in titles; its hostname without it.
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a run.
    pub run: PathBuf,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What to verify.
    #[command(flatten)]
    pub matrix: MatrixArgs,
}

/// Arguments of `keep`.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Directory of a run.
    pub run: PathBuf,

    /// Name below reports/; that of the run's directory without it.
    pub name: Option<String>,

    /// What the machine is called in the copy.
    #[arg(long, value_name = "NAME", default_value = "host-a")]
    pub label: String,

    /// Directory of kept runs.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub to: PathBuf,
}

fn parse_budget(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(Duration::from_secs_f64)
}
