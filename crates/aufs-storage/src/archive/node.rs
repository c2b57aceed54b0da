//! Makes one entry of a layer in its directory, with its attributes.
//!
//! Everything here names one entry of an open directory; nothing follows a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;

use aufs_host::entry::Entry;
use aufs_host::{errno_of, xattr};
use rustix::fs::{self, FileType, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::error::{ArchiveErrorKind, Outcome, host};
use super::members::{Attributes, Members};
use super::numbers::Time;
use super::options::{ApplyOptions, Owners, Privileges};
use super::sparse::Extent;

/// Permission bits of whiteouts and opaque markers, as kernel aufs makes them.
const MARKER_MODE: Mode = Mode::RUSR.union(Mode::RGRP).union(Mode::ROTH);

/// The bits that make a program run as its owner or group.
const SET_ID: u32 = 0o6000;

/// Flags with which files come to be: never through a link, never over what is there.
const NEW: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes an empty file that only we can use until it gets its attributes.
pub(crate) fn create(parent: BorrowedFd<'_>, name: &OsStr) -> Result<File, Errno> {
    fs::openat(parent, name, NEW, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Makes a whiteout or an opaque marker.
pub(crate) fn create_marker(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let file = fs::openat(parent, name, NEW, MARKER_MODE)?;
    fs::fchmod(&file, MARKER_MODE)?; // The umask may have taken bits away.
    close(file)
}

/// Makes a FIFO or a device node.
pub(crate) fn create_special(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    file_type: FileType,
    device: (u32, u32),
) -> Result<(), Errno> {
    fs::mknodat(parent, name, file_type, Mode::RUSR | Mode::WUSR, fs::makedev(device.0, device.1))
}

/// Closes a file and reports what only then comes to light, as on NFS or with quotas.
pub(crate) fn close(file: impl IntoRawFd) -> Result<(), Errno> {
    nix::unistd::close(file).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// Writes the data of the current member of `archive` to `file`, and leaves holes between `extents`.
pub(crate) fn write_data<R: Read>(
    file: &File,
    archive: &mut Members<'_, R>,
    len: u64,
    extents: Option<&[Extent]>,
) -> Outcome<()> {
    let Some(extents) = extents else {
        return write_run(file, archive, len);
    };
    fs::ftruncate(file, len).map_err(host("ftruncate"))?;
    for extent in extents {
        fs::seek(file, SeekFrom::Start(extent.offset)).map_err(host("lseek"))?;
        write_run(file, archive, extent.len)?;
    }
    Ok(())
}

/// Writes the next `len` bytes at the place where the file is.
fn write_run<R: Read>(mut file: &File, archive: &mut Members<'_, R>, mut len: u64) -> Outcome<()> {
    while 0 < len {
        let chunk = archive.chunk()?;
        let count = chunk.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        if count == 0 {
            return Err(ArchiveErrorKind::Truncated);
        }
        file.write_all(&chunk[..count]).map_err(|error| host("write")(errno_of(error)))?;
        archive.consume(count);
        len -= count as u64;
    }
    Ok(())
}

/// Attributes that the host would not take, which is no error; see [`Applied`](super::Applied).
pub(crate) type Refused = u64;

/// Gives `entry` its attributes, and returns how many extended ones were refused.
///
/// A change of the owner clears set-id bits and capabilities, hence the order; and everything moves times. Symbolic links have no
/// permission bits.
pub(crate) fn dress(
    entry: Entry<'_>,
    attributes: &Attributes,
    options: &ApplyOptions,
    has_mode: bool,
) -> Outcome<Refused> {
    let owner = match options.owners {
        Owners::Archive => Some((attributes.uid, attributes.gid)),
        Owners::Given { uid, gid } => Some((uid, gid)),
        Owners::Caller => None,
    };
    if let Some((uid, gid)) = owner {
        entry.chown(Some(uid), Some(gid)).map_err(host("fchownat"))?;
    }
    let refused = set_xattrs(entry, &attributes.xattrs, options.privileges)?;
    if has_mode {
        let kept = if options.privileges == Privileges::Drop { !SET_ID } else { !0 };
        entry.chmod(attributes.mode & kept).map_err(host("fchmodat2"))?;
    }
    entry.set_times(&times(attributes)).map_err(host("utimensat"))?;
    Ok(refused)
}

/// Sets extended attributes, and returns how many the host refused.
///
/// Docker goes on where a file system has no attributes or a container may not set one, and so do we. The label of
/// SELinux is the host's.
fn set_xattrs(entry: Entry<'_>, xattrs: &[(Vec<u8>, Vec<u8>)], privileges: Privileges) -> Outcome<Refused> {
    let mut refused = 0;
    for (name, value) in xattrs {
        let name = OsStr::from_bytes(name);
        let is_dropped = privileges == Privileges::Drop && xattr::in_namespace(name, "security.");
        if is_dropped || name == "security.selinux" {
            continue;
        }
        match xattr::set(entry, name, value, XattrFlags::empty()) {
            Ok(()) => (),
            Err(errno @ (Errno::OPNOTSUPP | Errno::PERM)) => {
                tracing::debug!(?name, %errno, "the host refused an attribute");
                refused += 1;
            }
            Err(errno) => return Err(host("setxattr")(errno)),
        }
    }
    Ok(refused)
}

/// A file is never read before it was written.
fn times(attributes: &Attributes) -> Timestamps {
    let atime = attributes.atime.map_or(attributes.mtime, |it| it.max(attributes.mtime));
    Timestamps { last_access: timespec(atime), last_modification: timespec(attributes.mtime) }
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}
