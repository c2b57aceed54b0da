//! `gate selftest --live N`: gates of a program against itself on real mounts, counted in a tally.

use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};

use super::gate::{HowArgs, measure, plan};
use super::outln;
use super::run::{default_out, seed_from_clock};
use super::signals;
use crate::error::{BenchError, BenchErrorKind, Exit, Result};
use crate::gate::inject::Inject;
use crate::gate::record::Ending;
use crate::gate::report::{self, OnInconclusive, Summary};
use crate::gate::tally::{self, Trial};
use crate::run::lock::Lock;

/// Arguments of `gate selftest --live`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct TrialArgs {
    /// Gate a program against itself on real mounts, N times as it is and N times with head slowed down, and
    /// test nothing else.
    #[arg(long, value_name = "N")]
    pub live: Option<u32>,

    /// With --live: what is compared with itself; `driver=NAME[,options=SET][,bin=PATH]`.
    #[arg(long, value_name = "ARM", default_value = "driver=aufs-fuse")]
    pub base: String,

    /// With --live: how head is slowed down, and in which cells; as of `aufs-bench gate`.
    #[arg(long, value_name = "HOW@GLOB", default_value = "10%@copy-up-4K-8-fresh-tmpfs", value_parser = Inject::parse)]
    pub inject: Inject,

    /// With --live: the file to which each gate adds a line, and whose lines are all counted.
    #[arg(long, value_name = "FILE", default_value = "target/bench/gate-tally.jsonl")]
    pub tally: PathBuf,

    /// Where, and by which rules.
    #[command(flatten)]
    pub how: HowArgs,
}

impl TrialArgs {
    /// Refuses what says nothing without live trials; the other checks have rules and cells of their own.
    ///
    /// # Errors
    ///
    /// `Config`: an option is not what it is by default.
    pub fn refuse(&self) -> Result<()> {
        let none = Self::augment_args(clap::Command::new("selftest")).try_get_matches_from(["selftest"]);
        if none.and_then(|it| Self::from_arg_matches(&it)).is_ok_and(|it| it == *self) {
            return Ok(());
        }
        let what = "options of arms, cells, rules and places need --live; see --help";
        Err(BenchError::new("test", "gate", BenchErrorKind::Config(what.to_owned())))
    }
}

/// Does `count` trials of each kind, one of each in turn, and prints the tally.
///
/// A false alarm, or a slow-down that passes, is a failure.
///
/// # Errors
///
/// A wrong command line, an arm that cannot run here, or a tally that cannot be written.
pub fn live(args: &TrialArgs, count: u32) -> Result<Exit> {
    // Read first: a damaged tally should not cost the trials.
    tally::load(&args.tally)?;
    args.how.limits.choose();
    let _lock = Lock::take(&args.how.backing)?;
    let interrupt = signals::install()?;
    let out = default_out("gate-trials-");
    let mut exit = Exit::Success;
    for number in 0..count {
        for inject in [None, Some(&args.inject)] {
            let kind = if inject.is_some() { "slowed-down" } else { "same" };
            eprintln!("trial {} of {count}, {kind}", number + 1);
            let plan = plan(&args.how, &args.base, &args.base)?;
            let plan = crate::gate::live::Plan { seed: seed_from_clock(), inject: inject.cloned(), ..plan };
            let dir = out.join(format!("{}-{kind}", number + 1));
            let record = measure(&plan, &dir, &interrupt)?;
            let summary = Summary::of(&record, OnInconclusive::Fail);
            report::write(&summary, &dir)?;
            outln!("{kind}: {}: {} ({})", summary.verdict(), summary.sentence(), dir.display())?;
            match record.ending {
                Some(Ending::Interrupted) | None => return Ok(Exit::Interrupted),
                Some(Ending::Error) => exit = Exit::Incorrect,
                Some(_) => {}
            }
            let trial = Trial::of(&record).ok_or_else(|| {
                BenchError::new("count", &dir, BenchErrorKind::Journal("the gate has no end".to_owned()))
            })?;
            if trial.is_wrong() && exit == Exit::Success {
                exit = Exit::Failure;
            }
            tally::append(&args.tally, &trial)?;
        }
    }
    outln!("{}:\n{}", args.tally.display(), tally::text(&tally::load(&args.tally)?))?;
    Ok(exit)
}
