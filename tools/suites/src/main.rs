//! Runs pjdfstest and fsx on our mount in each data mode, and beside it on plain ext4 and kernel overlayfs.
//!
//! `just suites` calls it. Everything happens in a mount namespace of its own,
//! on one ext4 image, so that nothing stays when it ends. It ends with exit code 1
//! when a test fails on our mount that passes on ext4 in the same place.

mod fsx;
mod inside;
mod outcome;
mod pjdfstest;
mod scratch;
mod subject;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::outcome::Outcome;
use crate::scratch::Scratch;
use crate::subject::{Place, Subject};

/// Run pjdfstest and fsx on aufs in each data mode, on ext4 and on overlayfs.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    tools: Tools,
    /// Operations of each run of fsx.
    #[arg(long, default_value_t = 10_000, global = true)]
    fsx_ops: u32,
    /// Seed of one more run of fsx; chosen and printed when not given.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    step: Option<Step>,
}

/// Where the programs are.
#[derive(Debug, Clone, clap::Args)]
struct Tools {
    /// The aufs program under test.
    #[arg(long, default_value = "target/release/aufs", global = true)]
    aufs: PathBuf,
    /// Directory of pjdfstest and fsx.
    #[arg(long, default_value = "target/tools/bin", global = true)]
    bin: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// One subject in a user namespace that the caller has set up.
    #[command(hide = true)]
    Inside {
        /// The subject's name.
        #[arg(long)]
        subject: String,
        /// A directory of the caller's file system.
        #[arg(long)]
        base: PathBuf,
    },
}

/// Results of one subject, by suite.
type Results = BTreeMap<String, Outcome>;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("suites: {error:#}"));
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress and errors of a program")]
fn complain(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stdout, reason = "results of a program")]
fn tell(text: &str) {
    println!("{text}");
}

/// Whether the user wants an end: after the suite at work, which takes seconds, what is mounted is unmounted.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted; nothing is left mounted");
        }
        Ok(())
    }
}

fn run(mut cli: Cli) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    for path in [&mut cli.tools.aufs, &mut cli.tools.bin] {
        *path = path.canonicalize().with_context(|| format!("{}; run just suites", path.display()))?;
    }
    let seed = cli.seed.unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003 % 1_000_000);
    let plan = fsx::Plan { operations: cli.fsx_ops, seeds: vec![1, 2, seed] };
    if let Some(Step::Inside { subject, base }) = cli.step {
        let subject = Subject::by_name(&subject).context("no such subject")?;
        let results = run_subject(&subject, &base, &cli.tools, &plan, &stop)?;
        tell(&serde_json::to_string(&results)?);
        return Ok(ExitCode::SUCCESS);
    }
    complain(&format!("suites: fsx with --seed {seed}"));
    let scratch = Scratch::new(&cli.tools.aufs)?;
    let mut all = Vec::new();
    for (index, subject) in Subject::all().into_iter().enumerate() {
        complain(&format!("suites: {} …", subject.title()));
        // Short, since the path of a socket has at most 107 bytes.
        let base = scratch.fresh(&index.to_string())?;
        let results = if subject.in_user_namespace {
            inside::run(&subject, &base, &cli.tools, cli.fsx_ops, seed)
        } else {
            run_subject(&subject, &base, &cli.tools, &plan, &stop)
        };
        stop.check()?; // What a signal has cut off is no result.
        all.push((subject, results?));
    }
    tell(&if cli.json { table::as_json(&all)? } else { table::as_text(&all) });
    let worse = table::worse_than_ext4(&all);
    for line in &worse {
        complain(line);
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_subject(
    subject: &Subject,
    base: &Path,
    tools: &Tools,
    plan: &fsx::Plan,
    stop: &Stop,
) -> anyhow::Result<Results> {
    let place = Place::new(subject, base, &tools.aufs)?;
    let pjdfstest = pjdfstest::run(&place, &tools.bin, !subject.in_user_namespace)?;
    stop.check()?;
    let fsx = fsx::run(&place, &tools.bin, plan)?;
    place.end()?;
    Ok(Results::from([("pjdfstest".to_owned(), pjdfstest), ("fsx".to_owned(), fsx)]))
}
