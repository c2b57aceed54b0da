//! Extended attributes of an [`Entry`], without following symbolic links.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{self, XattrFlags};
use rustix::io::{self, Errno};

use crate::entry::{Entry, Reach};

/// Longest value and longest list of names, in bytes: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const LEN_BYTES_MAX: usize = 65536;

/// Returns the value of `name`, or none when there is no such attribute.
///
/// # Errors
///
/// `EOPNOTSUPP` where the file system has none; else what `getxattr(2)` reports.
pub fn get(entry: Entry<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let reach = entry.reach()?;
    let value = grown(|buffer| match &reach {
        Reach::Descriptor(fd) => fs::fgetxattr(fd, name, buffer),
        Reach::Followed(path) => fs::getxattr(path, name, buffer),
        Reach::Unfollowed(path) => fs::lgetxattr(path, name, buffer),
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns the names of all attributes.
///
/// # Errors
///
/// What `listxattr(2)` reports.
pub fn list(entry: Entry<'_>) -> io::Result<Vec<OsString>> {
    let reach = entry.reach()?;
    let bytes = grown(|buffer| match &reach {
        Reach::Descriptor(fd) => fs::flistxattr(fd, buffer),
        Reach::Followed(path) => fs::listxattr(path, buffer),
        Reach::Unfollowed(path) => fs::llistxattr(path, buffer),
    })?;
    Ok(bytes
        .split(|&byte| byte == 0)
        .filter(|it| !it.is_empty())
        .map(|it| OsString::from_vec(it.to_vec()))
        .collect())
}

/// Sets `name` to `value`.
///
/// # Errors
///
/// `EEXIST`, `ENODATA` as `flags` ask; `ENOSPC`; else what `setxattr(2)` reports.
pub fn set(entry: Entry<'_>, name: &OsStr, value: &[u8], flags: XattrFlags) -> io::Result<()> {
    match entry.reach()? {
        Reach::Descriptor(fd) => fs::fsetxattr(fd, name, value, flags),
        Reach::Followed(path) => fs::setxattr(path, name, value, flags),
        Reach::Unfollowed(path) => fs::lsetxattr(path, name, value, flags),
    }
}

/// Removes `name`.
///
/// # Errors
///
/// `ENODATA` when there is none; else what `removexattr(2)` reports.
pub fn remove(entry: Entry<'_>, name: &OsStr) -> io::Result<()> {
    match entry.reach()? {
        Reach::Descriptor(fd) => fs::fremovexattr(fd, name),
        Reach::Followed(path) => fs::removexattr(path, name),
        Reach::Unfollowed(path) => fs::lremovexattr(path, name),
    }
}

/// Copies every attribute of `source` to `target`, and returns whether it has any; `may_skip` says which failures are acceptable.
///
/// # Errors
///
/// The first failure that `may_skip` does not accept; file systems without attributes count as having none.
pub fn copy_all(
    source: Entry<'_>,
    target: Entry<'_>,
    mut may_skip: impl FnMut(&OsStr, Errno) -> bool,
) -> io::Result<bool> {
    let names = match list(source) {
        Err(Errno::OPNOTSUPP) => return Ok(false),
        other => other?,
    };
    for name in &names {
        let copied = match get(source, name) {
            Ok(Some(value)) => set(target, name, &value, XattrFlags::empty()),
            Ok(None) => Ok(()),
            Err(errno) => Err(errno),
        };
        match copied {
            Err(errno) if !may_skip(name, errno) => return Err(errno),
            _ => (),
        }
    }
    Ok(!names.is_empty())
}

/// Calls `read` with a small buffer first, and with the largest that can be needed when that is too short.
fn grown(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(len) => Ok(small[..len.min(small.len())].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LEN_BYTES_MAX];
            let len = read(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

/// Whether `name` lies in the namespace `prefix`, such as `user.`.
pub fn in_namespace(name: &OsStr, prefix: &str) -> bool {
    name.as_bytes().starts_with(prefix.as_bytes())
}
