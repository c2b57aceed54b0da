//! `aufs fsck`: what crashes and accidents left in a data root is found and mended.

use std::io::{self, Write};

use aufs_storage::fsck::{Finding, FsckOptions, Outcome, Report, Verdict, fsck};
use clap::Args;
use serde_json::{Value, json};

use super::root::DataRootArgs;
use super::show::{plain, to_json};
use crate::exit::{self, FsckExit};

/// Find what is wrong with a data root, and mend it; without --repair nothing is changed.
///
/// Waits for commands at work. Only what a crash of ours left is removed: no layer that an image or a
/// container has, none that nothing of ours tells of, and nothing that is not understood. Docker's daemon
/// must be stopped while its tree is repaired.
#[derive(Debug, Args)]
#[command(after_help = exit::FSCK_HELP)]
pub struct FsckArgs {
    #[command(flatten)]
    root: DataRootArgs,

    /// Mend what can be mended.
    #[arg(long)]
    repair: bool,

    /// Read the files of all layers, and compare them with the archives that they came from.
    #[arg(long)]
    verify: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A data root could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct FsckError(anyhow::Error);

/// Runs the verb.
pub fn run(args: &FsckArgs) -> anyhow::Result<FsckExit> {
    Ok(check(args).map_err(FsckError)?)
}

fn check(args: &FsckArgs) -> anyhow::Result<FsckExit> {
    let report = fsck(&args.root.root, FsckOptions { repair: args.repair, verify: args.verify })?;
    let mut out = io::stdout().lock();
    if args.json {
        to_json(&as_json(&report), &mut out)?;
    } else {
        tell(&report, args, &mut out)?;
    }
    Ok(match report.verdict() {
        Verdict::Clean => FsckExit::Clean,
        Verdict::Repaired => FsckExit::Repaired,
        Verdict::Left => FsckExit::Left,
    })
}

fn tell(report: &Report, args: &FsckArgs, out: &mut impl Write) -> io::Result<()> {
    for (finding, outcome) in &report.findings {
        writeln!(out, "{}", line(finding, outcome))?;
    }
    let repaired = count(report, |it| *it == Outcome::Repaired);
    let mut summary = format!("{} found, {repaired} repaired", report.findings.len());
    let can_be = report.findings.iter().filter(|it| it.1 == Outcome::Found && it.0.remedy.is_repair());
    match can_be.count() {
        0 => {}
        some => summary.push_str(&format!(", {some} to be repaired by --repair")),
    }
    if args.verify {
        let cannot = match report.unverifiable {
            0 => String::new(),
            some => format!(", {some} cannot be"),
        };
        summary.push_str(&format!("; {} layers verified{cannot}", report.verified));
    }
    writeln!(out, "{}: {summary}", args.root.root.display())
}

fn count(report: &Report, is_it: impl Fn(&Outcome) -> bool) -> usize {
    report.findings.iter().filter(|it| is_it(&it.1)).count()
}

fn line(finding: &Finding, outcome: &Outcome) -> String {
    let Finding { path, fault, remedy, .. } = finding;
    let end = match outcome {
        Outcome::Found if remedy.is_repair() => format!("--repair would {remedy}"),
        Outcome::Found => remedy.to_string(),
        Outcome::Repaired => format!("repaired: {}", remedy.done()),
        Outcome::Failed(reason) => format!("not repaired: {reason}"),
    };
    plain(&format!("{}: {fault}; {end}", path.display()))
}

/// The report for programs.
fn as_json(report: &Report) -> Value {
    let findings = report.findings.iter().map(|(finding, outcome)| {
        let (repair, reason) = match finding.remedy.is_repair() {
            true => (Some(finding.remedy.to_string()), None),
            false => (None, Some(finding.remedy.to_string())),
        };
        let (outcome, error) = match outcome {
            Outcome::Found => ("found", None),
            Outcome::Repaired => ("repaired", None),
            Outcome::Failed(error) => ("failed", Some(error)),
        };
        json!({
            "path": finding.path.to_string_lossy(),
            "fault": finding.fault,
            "message": finding.fault.to_string(),
            "repair": repair,
            "why_not": reason,
            "outcome": outcome,
            "error": error,
        })
    });
    let findings: Vec<_> = findings.collect();
    json!({
        "findings": findings,
        "repaired": count(report, |it| *it == Outcome::Repaired),
        "left": count(report, |it| *it != Outcome::Repaired),
        "verified": report.verified,
        "unverifiable": report.unverifiable,
    })
}
