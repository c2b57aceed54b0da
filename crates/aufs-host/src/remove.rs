//! Removes an entry with all that lies below it, however deep that is.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{self, Errno};

use crate::listing;

/// How many directories on the way down stay open, so that no depth uses descriptors up.
const OPEN_MAX: usize = 32;

/// A directory on the way down.
struct Level {
    name: OsString,
    /// What is still in it.
    names: Vec<OsString>,
    /// Device and number, by which it is known again.
    identity: (u64, u64),
    handle: Option<OwnedFd>,
}

/// Removes `name` in `dir` with all that lies below it, following nothing and entering no other mount.
///
/// # Errors
///
/// The first failure, `EXDEV` for a mount, `ESTALE` when somebody moves a directory meanwhile; what was
/// removed until then stays removed.
pub fn remove_tree(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    if !is_left(&dir, name)? {
        return Ok(());
    }
    let mut levels = vec![enter(dir.as_fd(), name.to_owned())?];
    while let Some(level) = levels.last_mut() {
        let inside = level.handle.as_ref().ok_or(Errno::STALE)?;
        match level.names.pop() {
            Some(name) if is_left(inside, &name)? => {
                let below = enter(inside.as_fd(), name)?;
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN_MAX + 1) {
                    levels[far].handle = None;
                }
            }
            Some(_) => (),
            None => leave(dir.as_fd(), &mut levels)?,
        }
    }
    Ok(())
}

/// Opens a directory to empty it.
fn enter(above: BorrowedFd<'_>, name: OsString) -> io::Result<Level> {
    let handle = open(above, &name)?;
    let names = listing::read(&handle, |entry| entry.name.to_owned())?;
    Ok(Level { name, names, identity: identity(&fs::fstat(&handle)?), handle: Some(handle) })
}

/// Removes the last directory, which is empty by now.
fn leave(dir: BorrowedFd<'_>, levels: &mut Vec<Level>) -> io::Result<()> {
    let Some(Level { name, handle, .. }) = levels.pop() else { return Ok(()) };
    if let Some(above) = levels.last_mut()
        && above.handle.is_none()
    {
        let found = open(handle.ok_or(Errno::STALE)?.as_fd(), OsStr::new(".."))?;
        if identity(&fs::fstat(&found)?) != above.identity {
            return Err(Errno::STALE);
        }
        above.handle = Some(found);
    }
    let above = levels.last().and_then(|it| it.handle.as_ref()).map_or(dir, AsFd::as_fd);
    fs::unlinkat(above, name, AtFlags::REMOVEDIR)
}

fn open(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Removes `name` unless it is a directory, which stays.
fn is_left(dir: impl AsFd, name: &OsStr) -> io::Result<bool> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(false),
        Err(Errno::ISDIR) => Ok(true),
        Err(errno) => Err(errno),
    }
}
