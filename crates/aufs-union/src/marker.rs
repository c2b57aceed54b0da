//! Writes and reads whiteouts and opaque markers.
//!
//! As in kernel aufs each is a hard link of one empty file at the branch's
//! root, so that a deletion costs no inode; when that file has no links left
//! to give, another takes its place. Where there can be none, a marker is a
//! file of its own.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};

use aufs_host::entry::Entry;
use aufs_host::listing;
use aufs_host::remove::remove_tree;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::{self, Errno};

use crate::error::{Outcome, UnionErrorKind};
use crate::names::{BranchName, OPAQUE, WHITEOUT_BASE, whiteout_of};

/// Hides `name` in all branches below; `root` is the root of the branch that `dir` lies on.
pub(crate) fn put_whiteout(root: &OwnedFd, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    put(root, dir, &whiteout_of(name))
}

/// Hides all that lies below the directory `dir`.
pub(crate) fn put_opaque(root: &OwnedFd, dir: &OwnedFd) -> io::Result<()> {
    put(root, dir, OsStr::new(OPAQUE))
}

fn put(root: &OwnedFd, dir: &OwnedFd, marker: &OsStr) -> io::Result<()> {
    let base = Entry::At(root.as_fd(), OsStr::new(WHITEOUT_BASE));
    let linked = match base.link(dir, marker) {
        Err(Errno::MLINK) => renew_base(root).and_then(|()| base.link(dir, marker)),
        other => other,
    };
    match linked {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // Out of links, gone, or on another file system mounted inside the branch.
        Err(Errno::MLINK | Errno::NOENT | Errno::XDEV | Errno::PERM) => create_empty(dir, marker),
        Err(errno) => Err(errno),
    }
}

/// Makes the file that markers are links of, if there is none.
pub(crate) fn make_base(root: &OwnedFd) -> io::Result<()> {
    create_empty(root, OsStr::new(WHITEOUT_BASE))
}

/// Puts a fresh file in the place of one without links to give; its links are markers still.
///
/// Who comes in between finds none, and makes a marker that is a file of its own.
fn renew_base(root: &OwnedFd) -> io::Result<()> {
    match fs::unlinkat(root, WHITEOUT_BASE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => make_base(root),
        Err(errno) => Err(errno),
    }
}

fn create_empty(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match fs::openat(dir, name, flags, Mode::from_raw_mode(0o444)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes the whiteout of `name`, if there is one.
pub(crate) fn remove_whiteout(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match fs::unlinkat(dir, whiteout_of(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether `dir` holds a whiteout of `name`.
pub(crate) fn has_whiteout(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    exists(dir, &whiteout_of(name))
}

/// Whether the directory `dir` is opaque.
pub(crate) fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    exists(dir, OsStr::new(OPAQUE))
}

/// Whether the subdirectory `name` of `dir` is opaque.
pub(crate) fn is_child_opaque(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let mut path = OsString::from(name);
    path.push("/");
    path.push(OPAQUE);
    exists(dir, &path)
}

fn exists(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match Entry::At(dir.as_fd(), name).stat() {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes every marker and leftover in `dir`, which shows nothing.
pub(crate) fn clear(dir: &OwnedFd) -> Outcome<()> {
    let names = listing::read(dir, |it| it.name.to_owned())?;
    if names.iter().any(|name| matches!(BranchName::of(name), BranchName::Plain(_))) {
        return Err(UnionErrorKind::NotEmpty);
    }
    for name in names {
        remove_tree(dir, &name)?;
    }
    Ok(())
}
