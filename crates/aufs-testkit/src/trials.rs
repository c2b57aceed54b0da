//! The golden scenarios as tests: one trial for each scenario and subject.
//!
//! `fixtures/golden-deviations.toml` says which scenarios a subject does not
//! reproduce, and why; a trial fails whenever that is not so, in either
//! direction, so the list stays true.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

use crate::compare::differences;
use crate::error::KitError;
use crate::isolate::{Target, replay_isolated, take_role};
use crate::needs::Need;
use crate::scenario::Scenario;

/// The scenarios on one subject.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The subject's name in the list of deviations; names the trials.
    pub subject: &'static str,
    /// Who answers the calls.
    pub target: Target,
    /// What the machine must have.
    pub needs: Vec<Need>,
    /// Whether listed failures may pass, as those of another kernel's overlayfs.
    pub may_pass: bool,
}

/// The list of deviations, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    deviation: Vec<Deviation>,
    cannot: Vec<Cannot>,
}

/// Scenarios that some subjects do not reproduce.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    scenarios: Vec<String>,
    subjects: Vec<String>,
    /// What differs from the recording.
    differs: String,
    /// Why that is right for users.
    why: String,
}

/// Scenarios that some subjects cannot run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cannot {
    scenarios: Vec<String>,
    subjects: Vec<String>,
    why: String,
}

/// What is expected of one subject; scenarios that are not named pass.
#[derive(Debug, Clone, Default)]
struct Expected {
    /// Scenarios that differ, with what differs.
    differ: BTreeMap<String, String>,
    /// Scenarios that the subject cannot run, with the reason.
    skip: BTreeMap<String, String>,
    /// Ids that are listed more than once.
    doubles: Vec<String>,
}

impl Expected {
    fn of(list: &List, subject: &str) -> Self {
        let mut expected = Self::default();
        let is_for = |subjects: &[String]| subjects.iter().any(|it| it == subject);
        for it in list.deviation.iter().filter(|it| is_for(&it.subjects)) {
            for id in &it.scenarios {
                let text = format!("{}; {}", it.differs, it.why);
                if expected.differ.insert(id.clone(), text).is_some() {
                    expected.doubles.push(id.clone());
                }
            }
        }
        for it in list.cannot.iter().filter(|it| is_for(&it.subjects)) {
            for id in &it.scenarios {
                let is_double = expected.skip.insert(id.clone(), it.why.clone()).is_some();
                if is_double || expected.differ.contains_key(id) {
                    expected.doubles.push(id.clone());
                }
            }
        }
        expected
    }
}

/// What became of a scenario.
#[derive(Debug)]
enum Verdict {
    Passed,
    Differs(Vec<String>),
    Skipped(String),
}

/// How the scenarios of one subject ended, for the line at the end.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    passed: usize,
    deviated: usize,
    cannot: usize,
    wrong: usize,
}

static COUNTS: Mutex<BTreeMap<&str, Counts>> = Mutex::new(BTreeMap::new());

fn count(subject: &'static str, change: impl FnOnce(&mut Counts)) {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    change(counts.entry(subject).or_default());
}

/// Says for each subject how many scenarios are as recorded or as listed.
fn tell_counts() {
    for (subject, counts) in &*COUNTS.lock().unwrap_or_else(PoisonError::into_inner) {
        let Counts { passed, deviated, cannot, wrong } = counts;
        let all = passed + deviated + wrong;
        tell(&format!(
            "{subject}: {} of {all} scenarios pass ({deviated} deviations listed, {cannot} cannot run there)",
            passed + deviated
        ));
    }
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
        Ok(trials) => {
            let conclusion = libtest_mimic::run(&arguments, trials);
            tell_counts();
            conclusion.exit_code()
        }
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
    let path = fixtures().join("golden-deviations.toml");
    let text = fs::read_to_string(&path).map_err(KitError::at("read", &path))?;
    let list: List =
        toml::from_str(&text).map_err(|error| KitError::new("parse", &path, std::io::Error::other(error)))?;
    let golden = fixtures().join("golden");
    let scenarios = Scenario::read_all(&golden)?;
    let mut trials = Vec::new();
    for suite in suites {
        let expected = Expected::of(&list, suite.subject);
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
        if let Some(id) = expected.differ.keys().chain(expected.skip.keys()).find(|it| !ids.contains(it)) {
            return Err(Failed::from(format!("{id} is listed, but is no scenario")));
        }
        match expected.doubles.first() {
            Some(id) => Err(Failed::from(format!("{id} is listed twice"))),
            None => Ok(()),
        }
    })
}

fn check(suite: &Suite, expected: &Expected, scenario: &Scenario, file: &Path) -> Result<(), Failed> {
    if let Some(reason) = crate::needs::missing(&suite.needs).map_err(Failed::from)? {
        tell(&format!("skipped {}: {reason}", scenario.id));
        return Ok(());
    }
    let verdict = judge(suite, scenario, file).map_err(|error| Failed::from(full(&error)))?;
    record(suite, &scenario.id, &verdict).map_err(|error| Failed::from(full(&error)))?;
    let (id, subject) = (&scenario.id, suite.subject);
    let is_listed = expected.differ.contains_key(id) || expected.skip.contains_key(id);
    let wrong = match verdict {
        Verdict::Passed if !is_listed || suite.may_pass => {
            count(subject, |it| it.passed += 1);
            return Ok(());
        }
        Verdict::Passed => format!("{id} passes now: it is no deviation of {subject} any more"),
        Verdict::Differs(lines) => match expected.differ.get(id) {
            Some(reason) => {
                count(subject, |it| it.deviated += 1);
                tell(&format!("{subject} {id} differs ({reason}): {}", short(&lines)));
                return Ok(());
            }
            None => format!("{id} differs:\n  {}", lines.join("\n  ")),
        },
        Verdict::Skipped(reason) if expected.skip.contains_key(id) => {
            count(subject, |it| it.cannot += 1);
            tell(&format!("{subject} {id} skipped: {reason}"));
            return Ok(());
        }
        Verdict::Skipped(reason) => format!("{id} is skipped ({reason}), but not listed so"),
    };
    count(subject, |it| it.wrong += 1);
    Err(wrong.into())
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
