//! What must wait until all entries are there.
//!
//! - Directories get their attributes last: entries made in one move its times, a default ACL would pass on to them, and
//!   a mode without write permission would keep all but root from making them.
//! - A layer may hold both NAME and `.wh.NAME`, since a whiteout never hides what its own layer brings. In a branch NAME
//!   would beat the whiteout and a directory NAME would merge with those below, so the whiteout goes, and the
//!   directory becomes opaque.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};

use aufs_host::entry::Entry;
use aufs_union::names::{OPAQUE, whiteout_of};
use rustix::fs::{self, AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::error::{Outcome, host};
use super::form::Ground;
use super::limits::{Limited, Limits};
use super::members::Attributes;
use super::name::join;
use super::node::{self, Refused};
use super::options::{ApplyOptions, Owners};
use super::parents::open_beneath;

/// Permission bits of directories that the archive has no entry for, as Docker makes them.
const IMPLIED_MODE: u32 = 0o755;

/// What a record costs besides what it holds, in bytes.
const RECORD_LEN_BYTES: u64 = 128;

/// What one directory gets at the end.
struct Directory {
    path: Vec<u8>,
    /// None where the archive has no entry for it.
    attributes: Option<Attributes>,
}

/// What waits until the end.
pub(crate) struct Waiting<'l> {
    limits: &'l Limits,
    held_bytes: u64,
    /// By device and inode number, as a directory can be reached by several paths.
    directories: HashMap<(u64, u64), Directory>,
    /// Directory and victim of each whiteout.
    whiteouts: Vec<(Vec<u8>, OsString)>,
}

impl<'l> Waiting<'l> {
    pub(crate) fn new(limits: &'l Limits) -> Self {
        Self { limits, held_bytes: 0, directories: HashMap::new(), whiteouts: Vec::new() }
    }

    /// Counts what is held in memory.
    pub(crate) fn hold(&mut self, len_bytes: usize) -> Outcome<()> {
        self.held_bytes += len_bytes as u64 + RECORD_LEN_BYTES;
        self.limits.check(Limited::HeldBytes, self.held_bytes)
    }

    /// Notes the directory that `handle` holds, in place of what was noted of it before.
    pub(crate) fn directory(
        &mut self,
        path: &[u8],
        handle: BorrowedFd<'_>,
        attributes: Option<&Attributes>,
    ) -> Outcome<()> {
        let stat = fs::fstat(handle).map_err(host("fstat"))?;
        let xattr_bytes: usize =
            attributes.map_or(0, |it| it.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum());
        self.hold(path.len() + xattr_bytes)?;
        let directory = Directory { path: path.to_vec(), attributes: attributes.cloned() };
        self.directories.insert((stat.st_dev, stat.st_ino), directory);
        Ok(())
    }

    /// Notes a whiteout of `victim` in the directory `path`.
    pub(crate) fn whiteout(&mut self, path: &[u8], victim: &OsStr) -> Outcome<()> {
        self.hold(path.len() + victim.len())?;
        self.whiteouts.push((path.to_vec(), victim.to_owned()));
        Ok(())
    }

    /// Does all that waited; the path where it failed comes with an error.
    pub(crate) fn finish(
        self,
        ground: &Ground<'_>,
        options: &ApplyOptions,
    ) -> Result<Refused, (Vec<u8>, super::ArchiveErrorKind)> {
        for (path, victim) in &self.whiteouts {
            settle(ground, path, victim).map_err(|kind| (join(path, victim), kind))?;
        }
        let mut directories: Vec<_> = self.directories.into_iter().collect();
        // Those below come first, for who may not enter a directory any more once it has its mode.
        directories.sort_unstable_by(|a, b| b.1.path.cmp(&a.1.path));
        let mut refused = 0;
        for (identity, directory) in directories {
            refused += dress(ground, identity, &directory, options).map_err(|kind| (directory.path, kind))?;
        }
        Ok(refused)
    }
}

/// Whether a directory that was there is there no more, or another entry in its place.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Decides between a whiteout and an entry of the name that it hides.
fn settle(ground: &Ground<'_>, path: &[u8], victim: &OsStr) -> Outcome<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = match ground.open(path, flags) {
        Err(errno) if is_gone(errno) => return Ok(()),
        other => other.map_err(host("openat2"))?,
    };
    let stat = match Entry::At(parent.as_fd(), victim).stat() {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(host("newfstatat"))?,
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let directory = open_beneath(&parent, victim, flags, ground.form).map_err(host("openat2"))?;
        match node::create_marker(directory.as_fd(), OsStr::new(OPAQUE)) {
            Ok(()) | Err(Errno::EXIST) => (),
            Err(errno) => return Err(host("openat")(errno)),
        }
    }
    match fs::unlinkat(&parent, whiteout_of(victim), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(host("unlinkat")(errno)),
    }
}

/// Gives a directory its attributes, if it is still there.
fn dress(
    ground: &Ground<'_>,
    identity: (u64, u64),
    directory: &Directory,
    options: &ApplyOptions,
) -> Outcome<Refused> {
    let path = &directory.path;
    let (handle, is_open) = match ground.open(path, OFlags::DIRECTORY | OFlags::RDONLY) {
        Err(Errno::ACCESS) => (ground.open(path, OFlags::DIRECTORY | OFlags::PATH), false),
        other => (other, true),
    };
    let handle = match handle {
        Err(errno) if is_gone(errno) => return Ok(0),
        other => other.map_err(host("openat2"))?,
    };
    let stat = fs::fstat(&handle).map_err(host("fstat"))?;
    if (stat.st_dev, stat.st_ino) != identity {
        return Ok(0);
    }
    let entry = if is_open { Entry::Open(handle.as_fd()) } else { Entry::Held(handle.as_fd()) };
    match &directory.attributes {
        Some(attributes) => node::dress(entry, attributes, options, true),
        None => {
            if let Owners::Given { uid, gid } = options.owners {
                entry.chown(Some(uid), Some(gid)).map_err(host("fchown"))?;
            }
            entry.chmod(IMPLIED_MODE).map_err(host("fchmod")).map(|()| 0)
        }
    }
}
