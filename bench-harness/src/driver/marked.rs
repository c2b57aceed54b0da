//! Processes that were started for a branch, known by a mark in their environment.
//!
//! A server that put itself into the background is no child of ours, and one
//! that is stuck answers no question. Its environment names its branch all the
//! same.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::warn;

/// The variable that holds the home of the branch.
pub const MARK: &str = "AUFS_BENCH_BRANCH";

/// A marked process, held so that its number cannot pass to another.
#[derive(Debug)]
pub struct Marked {
    /// Its number.
    pub pid: i32,
    handle: OwnedFd,
}

impl Marked {
    /// Ends it by SIGKILL; one that has ended by itself is fine.
    pub fn kill(&self) {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => warn!(pid = self.pid, %errno, "a process of a driver could not be ended"),
        }
    }

    /// A descriptor that becomes readable when the process ends.
    pub fn handle(&self) -> &OwnedFd {
        &self.handle
    }
}

/// The processes that were started for `home` or for a branch below it.
pub fn below(home: &Path) -> Vec<Marked> {
    let Some(own_start) = Process::myself().ok().and_then(|it| start_of(&it)) else { return Vec::new() };
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    // Older ones are none of ours, and reading the environment of a foreign process that is stuck may block.
    let younger = |it: &Process| start_of(it).is_some_and(|start| own_start <= start);
    processes.flatten().filter(younger).filter_map(|it| hold(&it, home)).collect()
}

/// Ends all of [`below`] by SIGKILL, and says how many there were.
pub fn kill_below(home: &Path) -> usize {
    let marked = below(home);
    marked.iter().for_each(Marked::kill);
    marked.len()
}

fn start_of(process: &Process) -> Option<u64> {
    Some(process.stat().ok()?.starttime)
}

/// Opens `process` if its mark says `home` or a path below it.
fn hold(process: &Process, home: &Path) -> Option<Marked> {
    let is_ours = || branch_of(process).is_some_and(|it| it.starts_with(home));
    if !is_ours() {
        return None;
    }
    let pid = process.pid();
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Read again: the number may have passed to another process before it was opened.
    is_ours().then_some(Marked { pid, handle })
}

fn branch_of(process: &Process) -> Option<PathBuf> {
    Some(PathBuf::from(process.environ().ok()?.remove(OsStr::new(MARK))?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_was_started_below_is_found_and_ended() {
        let sleep = |home: &str| Command::new("sleep").arg("1000").env(MARK, home).spawn().unwrap();
        let own = format!("/marked-{}", std::process::id());
        let (mut inner, mut other) = (sleep(&format!("{own}/b0/1")), sleep(&format!("{own}x")));
        // A program that is just being started has no environment yet.
        let is_started = |it: &std::process::Child| {
            std::fs::read(format!("/proc/{}/environ", it.id())).is_ok_and(|it| !it.is_empty())
        };
        while !(is_started(&inner) && is_started(&other)) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let found: Vec<i32> = below(Path::new(&own)).iter().map(|it| it.pid).collect();
        let (killed, status) = (kill_below(Path::new(&own)), inner.wait().unwrap());
        let lives = other.try_wait().unwrap().is_none();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(found, [i32::try_from(inner.id()).unwrap()]);
        assert_eq!((killed, status.success(), lives), (1, false, true));
        assert!(below(Path::new(&own)).is_empty());
    }
}
