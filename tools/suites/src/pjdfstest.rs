//! Runs pjdfstest, the POSIX test suite of the BSDs, and reads what it prints.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::outcome::Outcome;
use crate::subject::Place;

/// Everything Linux has; remounting needs rights that a user namespace lacks.
fn configuration(may_remount: bool) -> String {
    format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\nutimensat = {{}}\n\
         [settings]\nnaptime = 0.01\nallow_remount = {may_remount}\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n"
    )
}

/// Runs every test in `place`.
///
/// Those that make the file system read-only run alone, as others keep files
/// open for writing, and only where the caller may remount.
pub fn run(place: &Place, bin: &Path, may_remount: bool) -> anyhow::Result<Outcome> {
    let mut outcome = run_matching(place, bin, false, None)?;
    if may_remount {
        let read_only = run_matching(place, bin, true, Some("erofs"))?;
        outcome.passed += read_only.passed;
        outcome.skipped.retain(|name| !name.contains("erofs"));
        outcome.failed.extend(read_only.failed);
        outcome.skipped.extend(read_only.skipped);
    }
    Ok(outcome)
}

fn run_matching(
    place: &Place,
    bin: &Path,
    may_remount: bool,
    pattern: Option<&str>,
) -> anyhow::Result<Outcome> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("pjdfstest.toml");
    std::fs::write(&file, configuration(may_remount))?;
    let program = bin.join("pjdfstest");
    let mut command = Command::new(&program);
    // /dev/shm is another file system, for what must not cross to one.
    command.arg("-c").arg(&file).args(["-s", "/dev/shm", "-p"]).arg(&place.directory);
    command.args(pattern);
    command.current_dir(&place.directory).stdin(Stdio::null());
    let done = command.output().with_context(|| format!("run {}", program.display()))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let outcome = read(&text);
    if outcome.passed == 0 {
        bail!("pjdfstest ran nothing: {}{text}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(outcome)
}

/// Reads the lines `NAME ok`, `NAME FAILED` and `NAME skipped`; others are explanations.
fn read(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut unexplained = None;
    for line in text.lines() {
        if line.starts_with(char::is_whitespace) {
            // The first line after the verdict says what was wrong, the others where.
            if let Some(said) = unexplained.take().and_then(|it| outcome.failed.get_mut(it)) {
                line.trim().clone_into(said);
            }
            continue;
        }
        unexplained = None;
        let mut words = line.split_whitespace();
        let (Some(name), Some(verdict), None) = (words.next(), words.next(), words.next()) else { continue };
        if !name.contains("::") && verdict != "ok" {
            continue;
        }
        match verdict {
            "ok" => outcome.passed += 1,
            "FAILED" => {
                outcome.failed.insert(name.to_owned(), String::new());
                unexplained = Some(name);
            }
            "skipped" => {
                outcome.skipped.insert(name.to_owned());
            }
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_told_from_explanations() {
        let text = "unlink::remove_type::fifo      ok\n\
                    rename::updates_link_parent    FAILED\n\
                    \tassertion `left == right` failed\n   6: core::panicking\n\
                    open::erofs_named              skipped\n\tRemounts are not allowed\n\
                    Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\n";
        let outcome = read(text);
        assert_eq!((outcome.passed, outcome.skipped.len()), (1, 1));
        let said = "assertion `left == right` failed".to_owned();
        assert_eq!(
            outcome.failed.into_iter().collect::<Vec<_>>(),
            [("rename::updates_link_parent".to_owned(), said)]
        );
    }
}
