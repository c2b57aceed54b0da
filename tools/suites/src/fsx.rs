//! Runs fsx: random reads, writes, truncations and maps of one file, each checked.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::outcome::Outcome;
use crate::subject::Place;

/// How long and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Operations of each run.
    pub operations: u32,
    /// A run for each.
    pub seeds: Vec<u64>,
}

/// Runs fsx once for each seed; the first works on a file that lies on the lower branch.
pub fn run(place: &Place, bin: &Path, plan: &Plan) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let artifacts = tempfile::tempdir()?;
    for (index, seed) in plan.seeds.iter().enumerate() {
        let file = if index == 0 { "fsx".to_owned() } else { format!("fsx-{index}") };
        let program = bin.join("fsx");
        let mut command = Command::new(&program);
        command.args(["-q", "-N", &plan.operations.to_string(), "-S", &seed.to_string(), "-P"]);
        command.arg(artifacts.path()).arg(place.directory.join(file)).stdin(Stdio::null());
        let done = command.output().with_context(|| format!("run {}", program.display()))?;
        if done.status.success() {
            outcome.passed += 1;
        } else {
            let said = String::from_utf8_lossy(&done.stdout).trim_end().to_owned();
            outcome.failed.insert(format!("seed {seed}"), said);
        }
    }
    Ok(outcome)
}
