//! `compare`: two or more runs side by side.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::print_text;
use crate::compare::fingerprint::{Difference, differences};
use crate::compare::{self, Comparison, Side, saved};
use crate::error::{BenchError, BenchErrorKind, Exit, Result};
use crate::report;
use crate::report::reproduce::shell_word;
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
        format => written(&comparisons, args, format)?,
    };
    match &args.out {
        Some(file) => report::export::write(file, &text)?,
        None => print_text(&text)?,
    }
    Ok(Exit::Success)
}

/// The command line of `args`, as a shell reads it back.
fn command(args: &CompareArgs) -> String {
    let mut command = "aufs-bench compare".to_owned();
    if args.allow {
        command += " --allow";
    }
    if let Some(format) = args.format.to_possible_value().filter(|_| args.format != Format::Text) {
        command += &format!(" --format {}", format.get_name());
    }
    if let Some(out) = &args.out {
        command += &format!(" --out {}", shell_word(&out.to_string_lossy()));
    }
    // What begins with a dash would be read as an option.
    if args.runs.iter().any(|it| it.starts_with('-')) {
        command += " --";
    }
    args.runs.iter().fold(command, |command, run| format!("{command} {}", shell_word(run)))
}

fn written(
    comparisons: &[(Comparison<'_>, Vec<Difference>)],
    args: &CompareArgs,
    format: Format,
) -> Result<String> {
    let document = compare::document(comparisons, command(args));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_what_was_given() {
        let runs = ["runs/a", "runs/b c", "it's"].map(str::to_owned).to_vec();
        let args = CompareArgs { runs, format: Format::Md, out: Some("x y.md".into()), allow: true };
        assert_eq!(
            command(&args),
            r"aufs-bench compare --allow --format md --out 'x y.md' runs/a 'runs/b c' 'it'\''s'"
        );
    }
}
