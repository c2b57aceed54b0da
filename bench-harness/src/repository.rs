//! Repositories that lie in layers, made and asked by the `git` program.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::find_program;

/// The index below the root of a repository, in which git keeps what `stat` said of each file.
pub const INDEX: &str = ".git/index";

/// Seconds since 1970 of the one commit, and of the last change of all files.
const DATE_S: u64 = 1_600_000_000;

/// Whether the `git` program can be found.
pub fn has_git() -> bool {
    find_program("git").is_some()
}

/// `git` on the repository `dir`, deaf to the user's and the host's configuration.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").stdin(Stdio::null());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "bench").env(format!("GIT_{role}_EMAIL"), "bench@localhost");
        command.env(format!("GIT_{role}_DATE"), format!("{DATE_S} +0000"));
    }
    // The owner of a layer's files need not be who measures; and nothing may run behind a sample.
    command.args(["-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
    command.args(["-c", "core.fsmonitor=false", "-C"]).arg(dir);
    // A group of its own: Ctrl-C must reach the bench alone, which ends the run in order.
    command.process_group(0);
    command
}

/// Runs `command`, and returns what it printed.
fn said(mut command: Command, dir: &Path) -> Result<String> {
    let output = command.output().at("run git in", dir)?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() || !words.is_empty() {
        let what = BenchErrorKind::Tool(format!("git ended with {}: {words}", output.status));
        return Err(BenchError::new("run git in", dir, what));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Commits all files of `dir` with a fixed identity and date, and packs the objects, as a clone has them.
///
/// Afterwards `files` get one old time, as an archive would give them: the index then knows none of them again,
/// as it is with a repository in an image that was built elsewhere.
///
/// # Errors
///
/// git is missing or fails, or any I/O error.
pub fn commit(dir: &Path, files: &[PathBuf]) -> Result<()> {
    for arguments in [
        &["init", "--quiet", "--template=", "--initial-branch=main"][..],
        &["add", "--all"],
        &["commit", "--quiet", "--message=all"],
        &["repack", "-a", "-d", "--quiet"],
    ] {
        let mut command = git(dir);
        command.args(arguments);
        said(command, dir)?;
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(DATE_S);
    files.iter().try_for_each(|path| {
        let file = File::open(path).at("open", path)?;
        file.set_modified(time).at("set time of", path)
    })
}

/// What `git status --porcelain` prints of the repository `dir`: nothing where no file differs.
///
/// # Errors
///
/// git cannot be started, fails, or complains.
pub fn status(dir: &Path) -> Result<String> {
    let mut command = git(dir);
    command.args(["status", "--porcelain"]);
    said(command, dir)
}

/// Whether the indexes of the repositories `one` and `other` are the same, byte for byte.
///
/// # Errors
///
/// Any I/O error.
pub fn same_index(one: &Path, other: &Path) -> Result<bool> {
    let read = |dir: &Path| fs::read(dir.join(INDEX)).at("read", dir.join(INDEX));
    Ok(read(one)? == read(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_tree_says_nothing_and_any_change_something() {
        if !has_git() {
            return println!("skipped: no git");
        }
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let heads = [&one, &two].map(|dir| {
            let files = ["a", "b"].map(|name| dir.path().join(name));
            files.iter().for_each(|it| fs::write(it, "text").unwrap());
            commit(dir.path(), &files).unwrap();
            fs::copy(dir.path().join(INDEX), dir.path().join(".git/built")).unwrap();
            assert_eq!(status(dir.path()).unwrap(), "");
            let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
            assert_ne!(read(".git/built"), read(INDEX), "the first status knows no file again");
            read(".git/refs/heads/main")
        });
        assert_eq!(heads[0], heads[1], "the same commit each time");
        fs::write(one.path().join("a"), "other").unwrap();
        fs::write(two.path().join("c"), "new").unwrap();
        assert_eq!(status(one.path()).unwrap(), " M a\n");
        assert_eq!(status(two.path()).unwrap(), "?? c\n");
        assert!(!same_index(one.path(), two.path()).unwrap());
        fs::remove_file(one.path().join(INDEX)).unwrap();
        assert!(same_index(one.path(), two.path()).is_err());
    }

    #[test]
    fn git_is_in_a_group_of_its_own() {
        if !has_git() {
            return println!("skipped: no git");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut command = git(dir.path());
        // Field 5 of a stat line is the process group.
        command.args(["-c", "alias.group=!cut -d' ' -f5 /proc/self/stat", "group"]);
        let group: i32 = said(command, dir.path()).unwrap().trim().parse().unwrap();
        assert_ne!(group, nix::unistd::getpgrp().as_raw(), "Ctrl-C would end it with the bench");
    }
}
