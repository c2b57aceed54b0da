//! A check-up of the machine: what would disturb a measurement, and what helps.
//!
//! Each part reads what it judges and judges it by a pure function, so that the
//! judgement is tested without the machine. Nothing is changed but a scratch
//! directory of the noise probe, which is removed.

mod drivers;
mod noise;
mod processor;
mod rivals;
mod storage;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::environment::Environment;
use crate::error::Result;
use crate::sandbox;
use crate::{backing, host};

pub use noise::Prediction;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Numbers are noisier, or something cannot be measured.
    Warn,
    /// A run would fail, or its numbers would say little.
    Red,
}

impl Level {
    /// The word of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Red => "RED",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    /// Nothing to do.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), remedy: None }
    }

    /// Something that makes numbers noisier.
    pub fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Something that must be mended before a run.
    pub fn red(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Red, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// All findings, and what the noise probe predicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckUp {
    /// One for each check, in the order of the table.
    pub findings: Vec<Finding>,
    /// What a gate needs here.
    pub prediction: Prediction,
}

impl CheckUp {
    /// The worst level of all.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|it| it.level).max().unwrap_or(Level::Ok)
    }

    /// `fit to measure`, or how many things are not.
    pub fn verdict(&self) -> String {
        let count = |level| self.findings.iter().filter(|it| it.level == level).count();
        match (count(Level::Red), count(Level::Warn)) {
            (0, 0) => "fit to measure".to_owned(),
            (0, warn) => format!("fit to measure, with {warn} warnings"),
            (red, warn) => format!("not fit to measure: {red} red, {warn} warnings"),
        }
    }
}

/// Examines the machine, for runs below `backing`; looks for stolen time for `watch`.
///
/// # Errors
///
/// `backing` cannot be written, or the kernel's files cannot be read.
pub fn examine(backing: &Path, watch: Duration) -> Result<CheckUp> {
    let root = Path::new("/");
    let environment = Environment::read(root);
    let mut findings = rivals::findings(root, backing)?;
    let scratch = backing::scratch(backing)?;
    // Busy meanwhile: from an idle machine nothing is stolen.
    let before = processor::Times::read(root);
    let probe = noise::Probe::take(scratch.path(), watch)?;
    findings.extend(processor::findings(root, &environment, &before, &processor::Times::read(root)));
    findings.push(processor::clock(&environment, probe.null_ns()));
    findings.extend(storage::findings(root, backing)?);
    let prediction = probe.prediction();
    findings.push(prediction.finding());
    findings.extend(drivers::findings(root));
    drop(scratch);
    let entered = sandbox::enter().map(drop).map_err(|error| error.line());
    findings.push(drivers::privilege(entered, sandbox::in_user_namespace()));
    findings.push(build(&environment));
    Ok(CheckUp { findings, prediction })
}

/// How the bench was built, and from what.
fn build(environment: &Environment) -> Finding {
    let rev = host::git_rev().unwrap_or_else(|| "no commit".to_owned());
    let found = format!("{}, {rev}", environment.rustc);
    if environment.optimised {
        return Finding::ok("build", found);
    }
    Finding::warn("build", format!("without optimisation; {found}"), "cargo build --release -p bench-harness")
}
