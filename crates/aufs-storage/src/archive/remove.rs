//! Removes an entry with all that is below it, following nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use aufs_host::listing;
use rustix::fs::{self, AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::error::{Outcome, host};
use super::parents::open_beneath;

/// Removes `name` from `parent`; a missing one is an error.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Outcome<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => (), // POSIX answers EPERM to what Linux calls EISDIR.
        Err(errno) => return Err(host("unlinkat")(errno)),
    }
    let mut directories = vec![name.to_owned()];
    let mut emptied = 0;
    // Paths instead of handles on the way down, so that no depth uses descriptors up.
    while let Some(path) = directories.get(emptied).cloned() {
        directories.append(&mut empty(parent, &path)?);
        emptied += 1;
    }
    for path in directories.iter().rev() {
        let (above, name) = split(path);
        let outcome = match above {
            None => fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
            Some(above) => open_beneath(parent, above, OFlags::PATH | OFlags::DIRECTORY)
                .and_then(|above| fs::unlinkat(above, name, AtFlags::REMOVEDIR)),
        };
        outcome.map_err(host("unlinkat"))?;
    }
    Ok(())
}

/// Removes all from the directory `path` but directories, and returns the paths of those.
fn empty(parent: BorrowedFd<'_>, path: &OsStr) -> Outcome<Vec<OsString>> {
    let directory =
        open_beneath(parent, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(host("openat2"))?;
    let entries = listing::read(&directory, |entry| (entry.name.to_owned(), entry.file_type))
        .map_err(host("getdents64"))?;
    let mut below = Vec::new();
    for (name, file_type) in entries {
        let removed = match file_type {
            FileType::Directory => Err(Errno::ISDIR),
            _ => fs::unlinkat(&directory, &name, AtFlags::empty()),
        };
        match removed {
            Ok(()) => (),
            Err(Errno::ISDIR) => {
                let path = [path.as_bytes(), b"/", name.as_bytes()].concat();
                below.push(OsString::from_vec(path));
            }
            Err(errno) => return Err(host("unlinkat")(errno)),
        }
    }
    Ok(below)
}

fn split(path: &OsStr) -> (Option<&OsStr>, &OsStr) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (Some(OsStr::from_bytes(&bytes[..at])), OsStr::from_bytes(&bytes[at + 1..])),
        None => (None, path),
    }
}
