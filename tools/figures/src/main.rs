//! Measures what the storage driver costs: starting containers, disk, unpacking, loading.
//!
//! Whatever is compared is done in the same run in turn, and every sample is kept; the
//! tables are a function of them.

mod apply;
mod corpus;
mod density;
mod load;
mod overlay;
mod sample;
mod start;
mod store;
mod volumes;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use sample::Samples;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Measure what the storage driver costs, beside peers in the same run; needs root.
#[derive(Debug, Parser)]
#[command(name = "figures", args_conflicts_with_subcommands = true)]
struct Cli {
    /// The aufs command, which serves the mounts.
    #[arg(long, required = true)]
    aufs: Option<PathBuf>,

    /// A directory on the disk to measure; what is made in it goes again.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,

    /// How often each case is measured.
    #[arg(long, default_value_t = 21)]
    rounds: usize,

    /// Where to keep every sample, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,

    /// What to measure; everything unless said.
    which: Vec<Which>,

    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Measure in a container; what this program runs itself as.
    #[command(hide = true)]
    Inside(volumes::InsideArgs),
}

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// From creating a container to the first byte of a program in it, by layers.
    Start,
    /// Disk, inodes and memory of 1, 10 and 100 started containers of one image.
    Density,
    /// Unpacking a layer, beside tar.
    Apply,
    /// Loading an image of 560 MB with one thread and with two.
    Load,
    /// Writing in a volume, in the container's layer, and on the disk.
    Volumes,
}

/// What all measurements need.
#[derive(Debug)]
struct Plan {
    aufs: PathBuf,
    scratch: tempfile::TempDir,
    rounds: usize,
    stop: Arc<AtomicBool>,
}

impl Plan {
    /// Says how far a measurement is, and ends it when the user wants that.
    fn round(&self, what: &str, round: usize) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted; what was mounted is unmounted");
        }
        complain(&format!("figures: {what}, round {} of {}", round + 1, self.rounds));
        Ok(())
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("figures: {error:#}"));
            ExitCode::FAILURE
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

fn run(cli: Cli) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("needs root, since it mounts");
    }
    if let Some(Step::Inside(args)) = &cli.step {
        tell(&serde_json::to_string(&volumes::inside(args)?)?);
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let aufs = cli.aufs.context("--aufs is missing")?;
    let aufs = aufs.canonicalize().with_context(|| aufs.display().to_string())?;
    let scratch = tempfile::Builder::new().prefix("figures-").tempdir_in(&cli.dir);
    let scratch = scratch.with_context(|| cli.dir.display().to_string())?;
    let plan = Plan { aufs, scratch, rounds: cli.rounds, stop };
    // Before anything is measured, so that an hour's samples are not lost for want of a place.
    let mut kept = match &cli.samples {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let wanted = |it: &Which| cli.which.is_empty() || cli.which.contains(it);
    for which in Which::value_variants().iter().filter(|it| wanted(it)) {
        let mut samples = Samples::default();
        match which {
            Which::Start => start::measure(&plan, &mut samples)?,
            Which::Density => density::measure(&plan, &mut samples)?,
            Which::Apply => apply::measure(&plan, &mut samples)?,
            Which::Load => load::measure(&plan, &mut samples)?,
            Which::Volumes => volumes::measure(&plan, &mut samples)?,
        }
        if let Some(kept) = &mut kept {
            samples.write(kept)?;
        }
        tell(&samples.table());
    }
    Ok(())
}
