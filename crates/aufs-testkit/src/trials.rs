//! The golden scenarios as tests: one trial for each scenario and subject.
//!
//! `fixtures/golden-expected.toml` says for each subject which scenarios pass;
//! a trial fails whenever that is not so, in either direction, so the list
//! stays true.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

use crate::compare::differences;
use crate::error::KitError;
use crate::isolate::{Target, replay_isolated, take_role};
use crate::needs::Need;
use crate::op::Op;
use crate::scenario::{Recorded, Run, Scenario};

/// The scenarios on one subject.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The subject's table in the list of expectations; names the trials.
    pub subject: &'static str,
    /// Who answers the calls.
    pub target: Target,
    /// What the machine must have.
    pub needs: Vec<Need>,
    /// Whether listed failures may pass, as those of another kernel's overlayfs.
    pub may_pass: bool,
}

/// The expectations for one subject.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Scenarios as recorded.
    pass: Vec<String>,
    /// Scenarios that differ, with the reason.
    #[serde(default)]
    differ: BTreeMap<String, String>,
    /// Scenarios that the subject cannot run, with the reason.
    #[serde(default)]
    skip: BTreeMap<String, String>,
}

/// What became of a scenario.
#[derive(Debug)]
enum Verdict {
    Passed,
    Differs(Vec<String>),
    Skipped(String),
}

/// Runs every scenario on every suite, as libtest would.
///
/// The whole `main` of a test with `harness = false`.
pub fn main(suites: &[Suite]) -> ExitCode {
    if let Some(code) = take_role() {
        return code;
    }
    let arguments = Arguments::from_args();
    match trials(suites) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            tell(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test program tells its reasons there")]
fn tell(line: &str) {
    eprintln!("{line}");
}

/// The directory of the fixtures, in the source tree.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn trials(suites: &[Suite]) -> Result<Vec<Trial>, KitError> {
    let list = fixtures().join("golden-expected.toml");
    let text = fs::read_to_string(&list).map_err(KitError::at("read", &list))?;
    let mut expected: BTreeMap<String, Expected> =
        toml::from_str(&text).map_err(|error| KitError::new("parse", &list, std::io::Error::other(error)))?;
    let golden = fixtures().join("golden");
    let scenarios = Scenario::read_all(&golden)?;
    let mut trials = Vec::new();
    for suite in suites {
        let expected = expected.remove(suite.subject).unwrap_or_default();
        trials.push(list_is_sound(
            suite,
            expected.clone(),
            scenarios.iter().map(|it| it.id.clone()).collect(),
        ));
        for scenario in &scenarios {
            let recorded = suite.target.recorded();
            if scenario.runs_on(recorded).next().is_none() {
                continue;
            }
            let (suite, expected) = (suite.clone(), expected.clone());
            let file = golden.join(format!("{}.json", scenario.id));
            let scenario = scenario.clone();
            trials.push(Trial::test(trial_name(&suite, &scenario.id), move || {
                check(&suite, &expected, &scenario, &file)
            }));
        }
    }
    Ok(trials)
}

fn trial_name(suite: &Suite, id: &str) -> String {
    let need = if suite.needs.iter().any(|it| matches!(it, Need::Fuse)) { "fuse" } else { "root" };
    format!("{need}_{}::{id}", suite.subject)
}

/// Fails on a scenario listed twice or that does not exist.
fn list_is_sound(suite: &Suite, expected: Expected, ids: Vec<String>) -> Trial {
    Trial::test(format!("list_{}", suite.subject), move || {
        let listed = expected.pass.iter().chain(expected.differ.keys()).chain(expected.skip.keys());
        let mut seen = Vec::new();
        for id in listed {
            if !ids.contains(id) {
                return Err(Failed::from(format!("{id} is listed, but is no scenario")));
            }
            if seen.contains(&id) {
                return Err(Failed::from(format!("{id} is listed twice")));
            }
            seen.push(id);
        }
        Ok(())
    })
}

fn check(suite: &Suite, expected: &Expected, scenario: &Scenario, file: &Path) -> Result<(), Failed> {
    if let Some(reason) = crate::needs::missing(&suite.needs).map_err(Failed::from)? {
        tell(&format!("skipped {}: {reason}", scenario.id));
        return Ok(());
    }
    let verdict = judge(suite, scenario, file).map_err(|error| Failed::from(full(&error)))?;
    record(suite, &scenario.id, &verdict).map_err(|error| Failed::from(full(&error)))?;
    let id = &scenario.id;
    let passes = expected.pass.contains(id);
    match verdict {
        Verdict::Passed if passes => Ok(()),
        Verdict::Passed if suite.may_pass => Ok(()),
        Verdict::Passed => Err(format!("{id} passes now: list it under {}.pass", suite.subject).into()),
        Verdict::Differs(lines) => match expected.differ.get(id) {
            Some(reason) => {
                tell(&format!("{} {id} differs ({reason}): {}", suite.subject, short(&lines)));
                Ok(())
            }
            None => Err(format!("{id} differs:\n  {}", lines.join("\n  ")).into()),
        },
        Verdict::Skipped(reason) if expected.skip.contains_key(id) => {
            tell(&format!("{} {id} skipped: {reason}", suite.subject));
            Ok(())
        }
        Verdict::Skipped(reason) => Err(format!("{id} is skipped ({reason}), but not listed so").into()),
    }
}

fn short(lines: &[String]) -> String {
    let first: String = lines.first().map(|it| it.chars().take(220).collect()).unwrap_or_default();
    match lines.len() {
        0 | 1 => first,
        n => format!("{first} (+{})", n - 1),
    }
}

fn full(error: &KitError) -> String {
    error.to_string()
}

/// Replays every recorded run that the subject can run; all must be as recorded.
fn judge(suite: &Suite, scenario: &Scenario, file: &Path) -> Result<Verdict, KitError> {
    let recorded = suite.target.recorded();
    let (mut lines, mut reason, mut ran) = (Vec::new(), None, false);
    for (n, run) in scenario.runs_on(recorded) {
        if recorded == Recorded::Aufs && changes_branches(run) {
            reason = Some("live changes of branches are not offered".to_owned());
            continue;
        }
        let got = replay_isolated(file, n, &suite.target)?;
        if got.unsupported.is_some() {
            reason = got.unsupported;
            continue;
        }
        ran = true;
        lines.extend(
            differences(run, &got).into_iter().map(|line| format!("[{}] {line}", shorten(&run.options))),
        );
    }
    Ok(match (lines.is_empty(), ran) {
        (false, _) => Verdict::Differs(lines),
        (true, true) => Verdict::Passed,
        (true, false) => Verdict::Skipped(reason.unwrap_or_else(|| "no recording".to_owned())),
    })
}

fn shorten(options: &str) -> String {
    let head: String = options.chars().take(80).collect();
    if head.len() < options.len() { format!("{head}…") } else { head }
}

fn changes_branches(run: &Run) -> bool {
    run.ops.iter().flatten().any(|step| matches!(step.op, Op::Remount { .. }))
}

/// With `AUFS_GOLDEN_REPORT=DIR`, writes each verdict to `DIR/SUBJECT/ID`.
fn record(suite: &Suite, id: &str, verdict: &Verdict) -> Result<(), KitError> {
    let Some(directory) = std::env::var_os("AUFS_GOLDEN_REPORT") else { return Ok(()) };
    let directory = PathBuf::from(directory).join(suite.subject);
    fs::create_dir_all(&directory).map_err(KitError::at("mkdir", &directory))?;
    let text = match verdict {
        Verdict::Passed => "pass\n".to_owned(),
        Verdict::Skipped(reason) => format!("skip: {reason}\n"),
        Verdict::Differs(lines) => format!("differs\n{}\n", lines.join("\n")),
    };
    let file = directory.join(id);
    fs::write(&file, text).map_err(KitError::at("write", &file))
}
