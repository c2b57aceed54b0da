//! Tests the gate itself: is it right where the answer is known?
//!
//! | part       | what is known                                                            |
//! |------------|--------------------------------------------------------------------------|
//! | `exact`    | mathematics: brute force, printed tables, bounds that invert tests       |
//! | `simulate` | noise of a model with a slow-down that was put in                        |
//! | `replay`   | recorded latencies, dealt to both arms by fresh coins                    |
//! | `mutate`   | a gate broken on purpose must turn the check that watches over it red    |
//!
//! All of it is a function of the seed, takes no time of any file system and
//! needs no privilege.

mod check;
mod exact;
mod mutate;
mod noise;
mod replay;
mod simulate;
mod trial;

use std::path::PathBuf;

use serde::Serialize;

pub use check::{Check, Part};

use crate::error::Result;

/// What to test, and how long.
#[derive(Debug, Clone)]
pub struct SelftestOptions {
    /// Seed of all chance.
    pub seed: u64,
    /// Gates of each check that counts gates.
    pub n_gates: u64,
    /// Traces to replay instead of the one inside the program.
    pub replay: Vec<PathBuf>,
}

impl SelftestOptions {
    /// Gates of each check in the short form.
    pub const N_GATES_QUICK: u64 = 200;
    /// Gates of each check in the full form; with fewer, shares are judged by what chance allows.
    pub const N_GATES_FULL: u64 = 1000;

    /// Whether shares are judged as they were counted.
    fn is_full(&self) -> bool {
        Self::N_GATES_FULL <= self.n_gates
    }
}

/// What was found.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    /// Seed of all chance; the same one gives the same report.
    pub seed: u64,
    /// Gates of each check that counts gates.
    pub n_gates: u64,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every check holds.
    pub fn is_green(&self) -> bool {
        self.checks.iter().all(|it| it.green)
    }
}

/// Runs all checks; `progress` hears of each part before it starts.
///
/// # Errors
///
/// A trace that cannot be read, or is too short for a gate. A check that does
/// not hold is no error, but in the report.
pub fn run(options: &SelftestOptions, progress: &dyn Fn(&str)) -> Result<Report> {
    let traces = replay::traces(&options.replay)?;
    progress("exact mathematics");
    let mut checks = exact::checks(options.seed);
    progress("gates in simulated noise");
    checks.extend(simulate::checks(options)?);
    for trace in &traces {
        progress(&format!("replays of {}", trace.name));
        checks.extend(replay::checks(trace, options)?);
    }
    progress("gates broken on purpose");
    checks.extend(mutate::checks(options)?);
    Ok(Report { seed: options.seed, n_gates: options.n_gates, checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_report() {
        let report = |seed| {
            let options = SelftestOptions { seed, n_gates: 1, replay: Vec::new() };
            run(&options, &|_| ()).unwrap()
        };
        let first = report(1);
        assert_eq!(first, report(1));
        assert_ne!(first, report(2));
        for part in [Part::Exact, Part::Simulated, Part::Replayed, Part::Mutation] {
            assert!(first.checks.iter().any(|it| it.part == part), "{part:?}");
        }
    }
}
