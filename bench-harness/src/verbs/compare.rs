//! `compare`: two or more runs side by side.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::print_text;
use crate::compare::fingerprint::{Difference, differences};
use crate::compare::{self, Comparison, Side, saved};
use crate::error::{BenchError, BenchErrorKind, Exit, Result};
use crate::report;
use crate::report::terminal::{self, Screen};
use crate::run::journal::RunRecord;

/// How a comparison is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for a terminal.
    Text,
    /// Markdown.
    Md,
    /// JSON.
    Json,
    /// A page like that of a run.
    Html,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Directories of runs, or names given to `run --save`; the first is what the others are compared with.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<String>,

    /// How it is written.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,

    /// Where it is written; stdout without it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Compare runs of unlike machines too; the report lists what differs.
    #[arg(long)]
    pub allow: bool,
}

/// Compares the runs of `args`.
///
/// # Errors
///
/// A run cannot be read, machines are unlike, no cell is in both, or the result cannot be written.
pub fn compare(args: &CompareArgs) -> Result<Exit> {
    let mut sides = Vec::new();
    for name in &args.runs {
        sides.push(Side::new(short_name(name, &args.runs), RunRecord::load(&saved::find(name)?)?));
    }
    let Some((base, heads)) = sides.split_first() else { return Ok(Exit::Usage) };
    let mut comparisons = Vec::new();
    for head in heads {
        let differing = differences(&base.record.header.host, &head.record.header.host)?;
        if !args.allow && !differing.is_empty() {
            return Err(refusal(base, head, &differing));
        }
        let comparison = compare::compare(base, head);
        if comparison.rows.is_empty() {
            let reason = format!("no cell has numbers both here and in {}", base.name);
            return Err(BenchError::new("compare", &head.name, BenchErrorKind::Config(reason)));
        }
        comparisons.push((comparison, differing));
    }
    let text = match args.format {
        Format::Json => compare::json(&comparisons)?,
        format => written(&comparisons, format)?,
    };
    match &args.out {
        Some(file) => report::export::write(file, &text)?,
        None => print_text(&text)?,
    }
    Ok(Exit::Success)
}

fn written(comparisons: &[(Comparison<'_>, Vec<Difference>)], format: Format) -> Result<String> {
    let document = compare::document(comparisons);
    match format {
        Format::Html => report::standalone(&document, compare::figures(comparisons)),
        Format::Md => Ok(report::markdown(&document)),
        Format::Text | Format::Json => {
            let screen = Screen::of(&std::io::stdout());
            let mut text = String::new();
            for line in document.warnings.iter().chain(&document.headline) {
                text += &format!("{}\n", terminal::one_line(line));
            }
            for table in document.tables.iter().chain([&document.skips]).filter(|it| !it.rows.is_empty()) {
                text += &format!("\n{}", terminal::table(table, screen));
            }
            Ok(text)
        }
    }
}

/// The last component of `name`, or all of it where another run has the same.
fn short_name(name: &str, all: &[String]) -> String {
    let last = |it: &str| it.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let own = last(name);
    let shared = all.iter().filter(|it| last(it) == own).count();
    if own.is_empty() || own.starts_with('.') || 1 < shared { name.to_owned() } else { own }
}

/// Each difference on a line of stderr, and the error that says so.
fn refusal(base: &Side, head: &Side, differing: &[Difference]) -> BenchError {
    for Difference { fact, base: before, head: after } in differing {
        eprintln!("differs: {fact}: {} | {}", terminal::one_line(before), terminal::one_line(after));
    }
    let facts: Vec<&str> = differing.iter().map(|it| it.fact.as_str()).collect();
    let reason = format!(
        "the machines are unlike that of {}: {}; --allow compares them all the same",
        base.name,
        facts.join(", ")
    );
    BenchError::new("compare", &head.name, BenchErrorKind::Refused(reason))
}
