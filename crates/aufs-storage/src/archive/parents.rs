//! Handles on the directories in which entries are made.
//!
//! A layer's entries stand beside each other, so the chain of handles down to the directory in use is kept, and a
//! neighbour costs no call. A step down follows nothing; only where it meets a symbolic link is the whole path resolved
//! from the branch with `RESOLVE_IN_ROOT`, as inside a chroot.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};

use super::error::{ArchiveErrorKind, Outcome, host};
use super::form::{Form, Ground};

/// How many handles are kept at the lower end of the chain: more than directories are nested, but for attacks.
const KEPT_MAX: usize = 32;

/// How often a path is resolved again because somebody renamed a directory meanwhile.
const TRIES_MAX: usize = 100;

/// Opens `path` beneath `dir` without following anything.
///
/// # Errors
///
/// `ELOOP` at a symbolic link, `EXDEV` at a mount in a branch; else what `openat2(2)` reports.
pub(crate) fn open_beneath(dir: impl AsFd, path: &OsStr, flags: OFlags, form: Form) -> io::Result<OwnedFd> {
    open_resolved(dir, path, flags, form, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Opens `path` as a process would whose root is `root`.
///
/// # Errors
///
/// `EXDEV` at a mount in a branch; else what `openat2(2)` reports.
pub(crate) fn open_in_root(root: impl AsFd, path: &OsStr, flags: OFlags, form: Form) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, form, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

fn open_resolved(
    dir: impl AsFd,
    path: &OsStr,
    flags: OFlags,
    form: Form,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let resolve = match form {
        // A layer lies on one file system; what is mounted in it by accident is none of its business.
        Form::Branch => resolve | ResolveFlags::NO_XDEV,
        Form::Tree => resolve,
    };
    let path = if path.is_empty() { OsStr::new(".") } else { path };
    for _ in 1..TRIES_MAX {
        match fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => (),
            other => return other,
        }
    }
    fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// A directory of the chain: where its name ends in the chain's path, and its handle unless that is too far up.
struct Level {
    end: usize,
    handle: Option<OwnedFd>,
}

/// The chain of directories down to the one in use.
pub(crate) struct Parents<'r> {
    ground: Ground<'r>,
    path: Vec<u8>,
    levels: Vec<Level>,
}

/// Flags of handles in the chain.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

impl<'r> Parents<'r> {
    pub(crate) fn new(ground: Ground<'r>) -> Self {
        Self { ground, path: Vec::new(), levels: Vec::new() }
    }

    /// Returns the directory that is unpacked into.
    pub(crate) fn ground(&self) -> Ground<'r> {
        self.ground
    }

    /// Forgets all handles, since a directory or a symbolic link has gone.
    pub(crate) fn forget(&mut self) {
        self.path.clear();
        self.levels.clear();
    }

    /// Returns the directory `path`, a cleaned one; what is missing of it is made, and `made` is told of it.
    pub(crate) fn open_or_make(
        &mut self,
        path: &[u8],
        mut made: impl FnMut(&[u8], BorrowedFd<'_>) -> Outcome<()>,
    ) -> Outcome<BorrowedFd<'_>> {
        self.keep_common(path)?;
        while self.path.len() < path.len() {
            let start = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
            let rest = path.get(start..).unwrap_or_default();
            let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let end = start + len;
            let name = OsStr::from_bytes(&rest[..len]);
            let parent = self.last();
            let handle = match open_beneath(parent, name, DIRECTORY, self.ground.form) {
                Err(Errno::NOENT) => {
                    let handle = make(parent, name)?;
                    made(&path[..end], handle.as_fd())?;
                    handle
                }
                Err(Errno::LOOP) => follow(&self.ground, &path[..end])?,
                other => other.map_err(no_directory("openat2"))?,
            };
            self.push(&path[..end], handle);
        }
        Ok(self.last())
    }

    /// Takes a directory that was just opened or made in the directory in use as the next of the chain.
    pub(crate) fn push(&mut self, path: &[u8], handle: OwnedFd) {
        self.path.clear();
        self.path.extend_from_slice(path);
        self.levels.push(Level { end: path.len(), handle: Some(handle) });
        if let Some(at) = self.levels.len().checked_sub(KEPT_MAX + 1) {
            self.levels[at].handle = None;
        }
    }

    /// Shortens the chain to what it has in common with `path`.
    fn keep_common(&mut self, path: &[u8]) -> Outcome<()> {
        let is_common = |level: &&Level| {
            path.get(..level.end) == self.path.get(..level.end)
                && matches!(path.get(level.end), None | Some(b'/'))
        };
        let count = self.levels.iter().take_while(is_common).count();
        self.levels.truncate(count);
        let end = self.levels.last().map_or(0, |it| it.end);
        self.path.truncate(end);
        if let Some(last) = self.levels.last_mut()
            && last.handle.is_none()
        {
            last.handle = Some(follow(&self.ground, &self.path)?);
        }
        Ok(())
    }

    fn last(&self) -> BorrowedFd<'_> {
        match self.levels.last() {
            Some(Level { handle: Some(handle), .. }) => handle.as_fd(),
            _ => self.ground.base,
        }
    }
}

/// Opens a directory whose path leads over a symbolic link.
fn follow(ground: &Ground<'_>, path: &[u8]) -> Outcome<OwnedFd> {
    ground.open(path, DIRECTORY).map_err(no_directory("openat2"))
}

/// Makes a directory that only we can use until it gets its attributes.
fn make(parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<OwnedFd> {
    fs::mkdirat(parent, name, Mode::RWXU).map_err(host("mkdirat"))?;
    // Nothing is mounted on what was just made.
    open_beneath(parent, name, DIRECTORY, Form::Branch).map_err(host("openat2"))
}

/// Tells a parent that is no directory from what else a call may report.
pub(crate) fn no_directory(call: &'static str) -> impl Fn(Errno) -> ArchiveErrorKind {
    move |errno| match errno {
        Errno::NOTDIR | Errno::NOENT | Errno::LOOP => ArchiveErrorKind::ParentNotDirectory,
        errno => host(call)(errno),
    }
}
