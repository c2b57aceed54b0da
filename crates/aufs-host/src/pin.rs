//! Pins branch directories: a private clone of the mount they lie on, read-only where asked.
//!
//! Through a read-only clone the kernel itself refuses every write, so a bug
//! cannot change a lower branch; and what is mounted over a branch later does
//! not show.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::errno::last_errno;

/// A handle on a branch's root directory.
#[derive(Debug)]
pub struct Pinned {
    /// The directory.
    pub root: OwnedFd,
    /// Why the kernel does not guard it; none when it does.
    pub unguarded: Option<Errno>,
}

/// Opens the directory at `path` through a clone of its mount; `read_only` also stops atime updates.
///
/// Without the privilege to clone mounts the directory is opened plainly, and [`Pinned::unguarded`] says so.
///
/// # Errors
///
/// `ENOENT`, `ENOTDIR`, `EACCES`; else what `open(2)` reports.
pub fn pin(path: &Path, read_only: bool) -> io::Result<Pinned> {
    let plain = open_plain(path)?;
    match clone_of(&plain, read_only) {
        Ok(tree) => Ok(Pinned { root: readable(tree), unguarded: None }),
        Err(errno) => Ok(Pinned { root: readable(plain), unguarded: Some(errno) }),
    }
}

/// Returns an ordinary descriptor on the directory, or what there is where it must not be read.
///
/// It keeps a clone of a mount alive just as the descriptor of the clone does.
fn readable(dir: OwnedFd) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat(&dir, ".", flags, Mode::empty()).unwrap_or(dir)
}

/// Opens the directory at `path` on the mount it lies on; symbolic links on the way are followed.
///
/// # Errors
///
/// What `open(2)` reports.
pub fn open_plain(path: &Path) -> io::Result<OwnedFd> {
    fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn clone_of(dir: &OwnedFd, read_only: bool) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, "", flags)?;
    if read_only {
        match set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOATIME) {
            // A user namespace may not change how times are kept on a mount it did not make.
            Err(Errno::PERM) => set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY)?,
            other => other?,
        }
    }
    Ok(tree)
}

/// `mount_setattr(tree, "", AT_EMPTY_PATH, &attr, size)` - sets attributes of one mount.
///
/// # References
///
/// - [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html)
#[expect(unsafe_code, reason = "neither nix nor rustix wraps mount_setattr(2)")]
fn set_mount_attributes(tree: &OwnedFd, attributes: u64) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: clear_for(attributes),
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open for the whole call, the path is a constant
    // C string, and `attr` outlives the call, which reads exactly the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno())
}

/// The access-time bits are one field of several values, which must be cleared whole to set one.
fn clear_for(attributes: u64) -> u64 {
    if attributes & libc::MOUNT_ATTR_NOATIME == 0 { 0 } else { libc::MOUNT_ATTR__ATIME }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, openat};

    use super::*;

    #[test]
    fn root_a_read_only_pin_refuses_writes() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        let pinned = pin(scratch.path(), true).unwrap();
        if let Some(errno) = pinned.unguarded {
            assert!(
                !std::env::var("REQUIRE").unwrap_or_default().contains("root"),
                "root is required but mounts cannot be cloned: {errno}"
            );
            return eprintln!("skipped: mounts cannot be cloned here: {errno}");
        }
        assert_eq!(openat(&pinned.root, "file", OFlags::RDWR, Mode::empty()).unwrap_err(), Errno::ROFS);
        assert!(openat(&pinned.root, "file", OFlags::RDONLY, Mode::empty()).is_ok());
    }
}
