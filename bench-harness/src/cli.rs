//! The command line of `aufs-bench`.

use clap::{Parser, Subcommand};

use crate::report::keep;
use crate::verbs;

/// Measure storage drivers against each other: what a write layer costs.
///
/// Exit codes: 0 done or pass, 1 failed or regression, 2 wrong command line or matrix,
/// 3 inconclusive, 4 nothing can run here or machines are unlike, 5 a sample failed or
/// its result was wrong, 130 interrupted.
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
    List(verbs::list::ListArgs),
    /// Measure a matrix, and print the path of report.html as the last line.
    Run(Box<verbs::run::RunArgs>),
    /// Make tables, plots and report.html of a run again from its samples.
    Report(verbs::report::ReportArgs),
    /// Measure nothing, but do every cell once and check its result.
    Verify(verbs::verify::VerifyArgs),
    /// Tell whether one driver, option set or binary is slower than another.
    Gate(Box<verbs::gate::GateArgs>),
    /// Print the JSON schema of a file that the bench reads or writes.
    Schema(verbs::schema::SchemaArgs),
    /// Look at this machine, change nothing, and say what would disturb a measurement.
    Doctor(verbs::doctor::DoctorArgs),
    /// Copy a run to reports/, with hostname and absolute paths replaced by labels.
    Keep(keep::KeepArgs),
    /// Join the shards of a run, and runs of the same on several machines.
    Merge(verbs::merge::MergeArgs),
    /// Say what the harness itself costs, beside a program that does the reference operation; see `just overhead`.
    Overhead(verbs::overhead::OverheadArgs),
    /// Fit what a change costs: once, for each byte, and for each layer.
    Fit(verbs::fit::FitArgs),
    /// Test what the documentation of AUFS says of write layers: supported, refuted or undecided.
    Claims(verbs::claims::ClaimsArgs),
    /// Show how cells moved over stored runs, and where they changed; informs only.
    History(verbs::history::HistoryArgs),
    /// Compare runs, cell by cell; they are not interleaved, and the report says so.
    Compare(verbs::compare::CompareArgs),
    /// Write results for other tools: HdrHistogram, OpenMetrics, benchstat, Parquet, CSV, JSON, Markdown.
    Export(verbs::export::ExportArgs),
    /// Print the completions of a shell, for `source` or its directory of completions.
    Completions(verbs::manual::CompletionsArgs),
    /// Write the manual pages, one for each command, into a directory.
    Man(verbs::manual::ManArgs),
}
