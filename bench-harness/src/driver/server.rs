//! Programs and FUSE servers that the bench starts, waits for and ends.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::limits::Limits;
use super::marked;
use super::view::{Branch, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// `f_type` of a FUSE mount, from `linux/magic.h`.
const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;

/// Starts `command`, a server that stays in the foreground, and waits for its mount on the branch's target.
///
/// # Errors
///
/// As [`start_child`].
pub fn start(command: Command, branch: Branch) -> Result<View> {
    let child = start_child(command, &branch)?;
    Ok(View::server(branch, child))
}

/// As [`start`], for callers that make their own view.
///
/// # Errors
///
/// The program does not start, ends early (the error carries its last words), or
/// shows no mount in time; it is ended then.
pub fn start_child(mut command: Command, branch: &Branch) -> Result<Child> {
    let limit = Limits::chosen().mount;
    let log = quiet(&mut command, &branch.home)?;
    let mut child = command.spawn().at("start", command.get_program())?;
    let program = command.get_program();
    let start = Instant::now();
    let reason = loop {
        match child.try_wait().at("wait for", program)? {
            Some(status) => break BenchErrorKind::Tool(format!("ended with {status}: {}", last_words(&log))),
            None if shows_fuse(&branch.target) => return Ok(child),
            None if limit < start.elapsed() => break BenchErrorKind::timed_out(limit),
            None => sleep(Duration::from_micros(200)),
        }
    };
    kill(&mut child, &branch.home)?;
    Err(BenchError::new("start", program, reason))
}

/// Runs `command` for the branch in `home` until it ends.
///
/// # Errors
///
/// - `Refused`, with its last words: it failed. A trial of a driver takes them as the reason of a skip.
/// - `TimedOut`: it was ended, and all that it had started.
pub fn run(mut command: Command, home: &Path) -> Result<()> {
    let log = quiet(&mut command, home)?;
    let mut child = command.spawn().at("run", command.get_program())?;
    let status = wait(&mut child, home, Limits::chosen().mount)?;
    if status.success() {
        return Ok(());
    }
    let reason = BenchErrorKind::Refused(format!("{} ({status})", last_words(&log)));
    Err(BenchError::new("run", command.get_program(), reason))
}

/// Gives `command` no terminal, a log in `home`, whose path it returns, and the mark of the branch.
fn quiet(command: &mut Command, home: &Path) -> Result<std::path::PathBuf> {
    let log = home.join("log");
    // Files, not pipes: a server that kept one open would make us wait for ever.
    let stderr = File::options().create(true).append(true).open(&log).at("create", &log)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).env(marked::MARK, home);
    // A group of its own: Ctrl-C must reach the bench, which then ends its servers in order.
    command.process_group(0);
    Ok(log)
}

/// Waits for `child` to end after its mount is gone; kills it when it does not.
///
/// # Errors
///
/// `TimedOut`: it had to be killed.
pub fn end(mut child: Child, home: &Path) -> Result<()> {
    wait(&mut child, home, Limits::chosen().mount).map(|_| ())
}

/// Waits until no process of the branch in `home` is left; kills those that stay.
///
/// # Errors
///
/// `TimedOut`: some had to be killed.
pub fn end_marked(home: &Path) -> Result<()> {
    let limit = Limits::chosen().mount;
    let deadline = Instant::now() + limit;
    for process in marked::below(home) {
        if !ends_by(process.handle(), deadline).at("wait for", home)? {
            marked::kill_below(home);
            return Err(BenchError::new("end server of", home, BenchErrorKind::timed_out(limit)));
        }
    }
    Ok(())
}

/// Waits for `child`, at most `limit`; kills it and every process of the branch in `home` after that.
///
/// # Errors
///
/// `TimedOut`: it had to be killed.
pub fn wait(child: &mut Child, home: &Path, limit: Duration) -> Result<ExitStatus> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).at("open process of", home)?;
    if ends_by(&handle, Instant::now() + limit).at("wait for", home)? {
        return child.wait().at("wait for process of", home);
    }
    kill(child, home)?;
    Err(BenchError::new("wait for process of", home, BenchErrorKind::timed_out(limit)))
}

/// Kills `child`, and first what serves the mount that it may be stuck in.
fn kill(child: &mut Child, home: &Path) -> Result<()> {
    marked::kill_below(home);
    child.kill().at("kill process of", home)?;
    child.wait().at("wait for process of", home).map(|_| ())
}

/// Whether the process behind `handle` ends before `deadline`.
fn ends_by(handle: &OwnedFd, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
        let left = left.map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)], Some(&left)) {
            // A signal asks the bench to stop; it is noticed between samples.
            Err(Errno::INTR) => {}
            other => return Ok(0 < other?),
        }
    }
}

/// The last line of a log that says something.
pub fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_owned()
}

fn shows_fuse(target: &Path) -> bool {
    rustix::fs::statfs(target).is_ok_and(|it| it.f_type == FUSE_SUPER_MAGIC)
}
