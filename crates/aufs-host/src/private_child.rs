//! Runs a few syscalls in a child process that has a mount namespace of its own.
//!
//! What the child mounts, nobody else sees, and it is gone when the child ends,
//! however it ends. A thread would do for root, but a user namespace cannot be
//! entered by a process with threads; hence a child, for both.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use tracing::debug;

/// Longest time a trial may take; a child that needs more is killed.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Which namespaces the child of a trial gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// A mount namespace; needs `CAP_SYS_ADMIN`.
    Mount,
    /// A user namespace in which the caller is root, and a mount namespace.
    UserAndMount,
}

/// What a trial was doing when it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Step {
    /// Starting the child process.
    Start = 1,
    /// `unshare(2)`.
    Unshare,
    /// Writing `/proc/self/setgroups`, `uid_map` and `gid_map`.
    MapIds,
    /// Making every mount private, so that the trial cannot be seen outside.
    MakePrivate,
    /// Mounting a tmpfs to work in.
    MountScratch,
    /// Creating files and directories in that tmpfs.
    FillScratch,
    /// Opening `/dev/fuse`.
    OpenFuse,
    /// The mount that is on trial.
    Mount,
    /// Reading `/proc/self/mountinfo`.
    ReadMountinfo,
    /// Reading the kernel's INIT request.
    ReadInit,
    /// Answering the INIT request.
    ReplyInit,
    /// `FUSE_DEV_IOC_BACKING_OPEN`.
    OpenBacking,
    /// Waiting for the child's answer.
    Answer,
}

impl Step {
    const ALL: [Self; 13] = [
        Self::Start,
        Self::Unshare,
        Self::MapIds,
        Self::MakePrivate,
        Self::MountScratch,
        Self::FillScratch,
        Self::OpenFuse,
        Self::Mount,
        Self::ReadMountinfo,
        Self::ReadInit,
        Self::ReplyInit,
        Self::OpenBacking,
        Self::Answer,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start a child process",
            Self::Unshare => "unshare",
            Self::MapIds => "map user and group ids",
            Self::MakePrivate => "make mounts private",
            Self::MountScratch => "mount tmpfs",
            Self::FillScratch => "create files in a tmpfs",
            Self::OpenFuse => "open /dev/fuse",
            Self::Mount => "mount",
            Self::ReadMountinfo => "read /proc/self/mountinfo",
            Self::ReadInit => "read FUSE_INIT",
            Self::ReplyInit => "answer FUSE_INIT",
            Self::OpenBacking => "FUSE_DEV_IOC_BACKING_OPEN",
            Self::Answer => "wait for the trial",
        })
    }
}

/// A trial was refused; says at which step and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{step}")]
pub struct TrialError {
    /// What was refused.
    pub step: Step,
    /// The errno of the refusal.
    #[source]
    pub errno: Errno,
}

impl Step {
    /// Makes this step's refusal out of an errno.
    pub(crate) fn refused(self, errno: Errno) -> TrialError {
        TrialError { step: self, errno }
    }
}

/// What the child told before it ended.
#[derive(Debug)]
pub(crate) struct Report {
    /// The bytes that the trial wrote.
    pub(crate) payload: Vec<u8>,
    /// How the trial ended.
    pub(crate) end: Result<(), TrialError>,
}

/// The child's way to tell something to its parent.
#[derive(Debug)]
pub(crate) struct Teller<'a>(BorrowedFd<'a>);

impl Teller<'_> {
    /// Sends `bytes`. A parent that no longer listens is no error of the trial.
    pub(crate) fn tell(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(self.0, bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Tries whether the caller may enter `namespaces` and mount a tmpfs on `scratch` there.
///
/// # Errors
///
/// The step that was refused.
#[expect(unsafe_code, reason = "calls `run`")]
pub fn try_namespaces(namespaces: Namespaces, scratch: &Path) -> Result<(), TrialError> {
    // SAFETY: the trial does nothing.
    unsafe { run(namespaces, scratch, |_| Ok(())) }?.end
}

/// Runs `trial` in a child that has entered `namespaces` and has an empty tmpfs on the directory `scratch`.
///
/// # Safety
///
/// The child is a copy of one thread of a process that may have many, so a lock may be held for
/// ever: `trial` must only make syscalls on what it was given, and neither allocate, lock nor panic.
#[expect(unsafe_code, reason = "fork and _exit have no safe form")]
pub(crate) unsafe fn run(
    namespaces: Namespaces,
    scratch: &Path,
    trial: impl FnOnce(&Teller<'_>) -> Result<(), TrialError>,
) -> Result<Report, TrialError> {
    let scratch = c_path(scratch)?;
    let ids = IdMaps::of_caller();
    let (mut reader, writer) = std::io::pipe().map_err(|error| Step::Start.refused(errno_of(&error)))?;

    // SAFETY: the child runs `enter` and `trial`, which only make syscalls (the latter as its caller
    // promises), and ends by `_exit`, so it never runs destructors or handlers of the parent's state.
    match unsafe { fork() }.map_err(|errno| Step::Start.refused(from_nix(errno)))? {
        ForkResult::Child => {
            let teller = Teller(writer.as_fd());
            let end = enter(namespaces, &ids, &scratch).and_then(|()| trial(&teller));
            teller.tell(&encode_end(end));
            // SAFETY: `_exit` is async-signal-safe and has no memory to invalidate.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let bytes = read_until_closed(&mut reader);
            reap(child, bytes.is_err());
            decode_report(bytes?)
        }
    }
}

/// Enters the namespaces and mounts the scratch tmpfs. Runs in the child: syscalls only.
fn enter(namespaces: Namespaces, ids: &IdMaps, scratch: &CStr) -> Result<(), TrialError> {
    let flags = match namespaces {
        Namespaces::Mount => CloneFlags::CLONE_NEWNS,
        Namespaces::UserAndMount => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER,
    };
    nix::sched::unshare(flags).map_err(|errno| Step::Unshare.refused(from_nix(errno)))?;
    if namespaces == Namespaces::UserAndMount {
        ids.write().map_err(|errno| Step::MapIds.refused(errno))?;
    }
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| Step::MakePrivate.refused(errno))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"aufs-trial", scratch, c"tmpfs", flags, Some(c"size=1m"))
        .map_err(|errno| Step::MountScratch.refused(errno))
}

/// The texts that make the caller root in its new user namespace.
#[derive(Debug)]
struct IdMaps {
    user: String,
    group: String,
}

impl IdMaps {
    fn of_caller() -> Self {
        let user = format!("0 {} 1\n", rustix::process::geteuid().as_raw());
        let group = format!("0 {} 1\n", rustix::process::getegid().as_raw());
        Self { user, group }
    }

    /// Runs in the child: syscalls only.
    fn write(&self) -> Result<(), Errno> {
        // Without this an unprivileged process may not map its group (user_namespaces(7)).
        write_file(c"/proc/self/setgroups", b"deny")?;
        write_file(c"/proc/self/uid_map", self.user.as_bytes())?;
        write_file(c"/proc/self/gid_map", self.group.as_bytes())
    }
}

fn write_file(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

/// The trailer of the child's answer: step (0 when all went well) and errno.
fn encode_end(end: Result<(), TrialError>) -> [u8; 8] {
    let (step, errno) = match end {
        Ok(()) => (0, 0),
        Err(refusal) => (refusal.step as u8, refusal.errno.raw_os_error()),
    };
    let [a, b, c, d] = errno.to_le_bytes();
    [step, 0, 0, 0, a, b, c, d]
}

/// Splits the child's answer into payload and trailer.
fn decode_report(mut bytes: Vec<u8>) -> Result<Report, TrialError> {
    // A child that was killed leaves no trailer.
    let Some((payload, &[step, 0, 0, 0, a, b, c, d])) = bytes.split_last_chunk() else {
        return Err(Step::Answer.refused(Errno::PIPE));
    };
    let errno = i32::from_le_bytes([a, b, c, d]);
    let end = match (step, Step::ALL.iter().find(|it| **it as u8 == step)) {
        (0, _) => Ok(()),
        (_, Some(step)) => Err(step.refused(Errno::from_raw_os_error(errno))),
        (_, None) => return Err(Step::Answer.refused(Errno::PROTO)),
    };
    let payload_len = payload.len();
    bytes.truncate(payload_len);
    Ok(Report { payload: bytes, end })
}

fn read_until_closed(reader: &mut PipeReader) -> Result<Vec<u8>, TrialError> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(Step::Answer.refused(Errno::TIMEDOUT)),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(Step::Answer.refused(from_nix(errno))),
        }
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Step::Answer.refused(errno_of(&error))),
        }
    }
}

/// Waits for the child, after ending it when it did not answer.
fn reap(child: Pid, hangs: bool) {
    if hangs && let Err(errno) = kill(child, Signal::SIGKILL) {
        debug!(%child, %errno, "cannot end the trial");
    }
    while let Err(errno) = waitpid(child, None) {
        if errno != nix::errno::Errno::EINTR {
            // ECHILD where the program ignores SIGCHLD: the kernel has reaped it.
            debug!(%child, %errno, "trial is reaped already");
            return;
        }
    }
}

/// Turns a path into what syscalls take.
pub(crate) fn c_path(path: &Path) -> Result<CString, TrialError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Step::Start.refused(Errno::INVAL))
}

fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_trial_reads_back_as_told() {
        for end in Step::ALL.map(|step| Err(step.refused(Errno::PERM))).into_iter().chain([Ok(())]) {
            let mut bytes = b"payload".to_vec();
            bytes.extend_from_slice(&encode_end(end));
            let report = decode_report(bytes).unwrap();
            assert_eq!((report.payload.as_slice(), report.end), (&b"payload"[..], end));
        }
        for broken in [&b""[..], b"short", &[99, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(decode_report(broken.to_vec()).is_err(), "{broken:?}");
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "calls `run`")]
    fn a_trial_mounts_nothing_that_others_see() {
        let scratch = tempfile::tempdir().unwrap();
        let user_namespace =
            if rustix::process::geteuid().is_root() { Namespaces::Mount } else { Namespaces::UserAndMount };
        let mounts_before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // SAFETY: one syscall on a constant path.
        let report = unsafe {
            run(user_namespace, scratch.path(), |teller| {
                teller.tell(b"seen");
                rustix::fs::mkdir(c"/proc/nowhere", Mode::RWXU)
                    .map_err(|errno| Step::FillScratch.refused(errno))
            })
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = scratch.path().to_str().unwrap();
        assert!(!mounts.contains(ours) && !mounts_before.contains(ours));
        match report {
            // Some sandboxes forbid namespaces; then the refusal says so and the trial never ran.
            Ok(Report { payload, end: Err(refusal) }) if payload.is_empty() => {
                assert!(refusal.step != Step::FillScratch, "{refusal}");
            }
            Ok(report) => {
                assert_eq!(report.payload, b"seen");
                assert_eq!(report.end, Err(Step::FillScratch.refused(Errno::NOENT)));
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_refused() {
        let missing = Path::new("/nonexistent/scratch");
        let namespaces =
            if rustix::process::geteuid().is_root() { Namespaces::Mount } else { Namespaces::UserAndMount };
        assert!(try_namespaces(namespaces, missing).is_err());
        assert!(try_namespaces(namespaces, Path::new("nul\0byte")).is_err());
    }
}
