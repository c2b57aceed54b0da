//! `gate selftest`: is the gate right where the answer is known?

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};

use super::outln;
use super::trials::{self, TrialArgs};
use crate::error::{At as _, Exit, Result};
use crate::gate::selftest::{Check, Part, Report, SelftestOptions, run};

/// Arguments of `gate selftest`.
///
/// Exit codes: 0 every check holds, 1 one does not, 2 a trace that is none, 5 one that cannot be read.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// 200 gates of each kind instead of 1000, judged with what chance allows.
    #[arg(long, conflicts_with = "live")]
    pub quick: bool,

    /// Replay this trace instead of the one inside the program; may be given more than once.
    ///
    /// Lines of start_ns,round,layers,size,elapsed_ns without a header, plain or gzip.
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    pub replay: Vec<PathBuf>,

    /// Seed of all chance; the same seed gives the same report.
    #[arg(long, default_value_t = 1, conflicts_with = "live")]
    pub seed: u64,

    /// As JSON.
    #[arg(long, conflicts_with = "live")]
    pub json: bool,

    /// Live trials instead.
    #[command(flatten)]
    pub trials: TrialArgs,
}

/// Tests the gate, and prints a line for each check; with `--live`, does what [`trials::live`] does.
///
/// # Errors
///
/// A trace that cannot be read, or what ends live trials.
pub fn selftest(args: &SelftestArgs) -> Result<Exit> {
    if let Some(count) = args.trials.live {
        return trials::live(&args.trials, count);
    }
    args.trials.refuse()?;
    let n_gates = if args.quick { SelftestOptions::N_GATES_QUICK } else { SelftestOptions::N_GATES_FULL };
    let options = SelftestOptions { seed: args.seed, n_gates, replay: args.replay.clone() };
    let report = run(&options, &|part| eprintln!("{part}"))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(std::io::Error::from);
        outln!("{}", text.at("write", "report")?)?;
    } else {
        print(&report)?;
    }
    Ok(if report.is_green() { Exit::Success } else { Exit::Failure })
}

fn print(report: &Report) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "",
        "check",
        "what was done",
        "result",
        "required",
        "inconclusive",
        "blocks",
        "samples",
    ]);
    report.checks.iter().for_each(|it| {
        table.add_row(row(it));
    });
    outln!("{table}")?;
    let red = report.checks.iter().filter(|it| !it.green).count();
    let state = if red == 0 { "all hold".to_owned() } else { format!("{red} RED") };
    outln!("{} checks, seed {}: {state}", report.checks.len(), report.seed)?;
    Ok(())
}

fn row(check: &Check) -> [String; 8] {
    let part = match check.part {
        Part::Exact => "exact",
        Part::Simulated => "simulated",
        Part::Replayed => "replayed",
        Part::Mutation => "mutation",
    };
    let [inconclusive, blocks, samples] = check.gates.map_or_else(Default::default, |it| {
        [it.inconclusive.to_string(), format!("{:.1}", it.blocks_mean()), format!("{:.0}", it.samples_mean())]
    });
    let state = if check.green { "ok" } else { "RED" };
    [
        state.to_owned(),
        format!("{part}: {}", check.name),
        check.done.clone(),
        check.result.clone(),
        check.required.clone(),
        inconclusive,
        blocks,
        samples,
    ]
}
