//! Files that are written for a caller: they show when all of them is there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aufs_host::draft::Draft;
use aufs_host::errno::errno_of;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{StorageErrorKind, failed};

/// Writes `to` anew by `write`; until that has succeeded, a file that is there stays as it was.
///
/// A device or a pipe is written to as it is, since nothing may take its place. Only its
/// owner reads a new file, which may hold what the tree keeps from others.
pub(crate) fn write_whole<E: From<StorageErrorKind>>(
    to: &Path,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<(), E> {
    let target = match fs::metadata(to) {
        Ok(found) if found.is_file() => fs::canonicalize(to).map_err(errno_of).map_err(failed("open", to))?,
        Ok(_) => {
            let opened = File::options().write(true).open(to);
            return write(&opened.map_err(errno_of).map_err(failed("open", to))?);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => to.to_owned(),
        Err(error) => return Err(failed("open", to)(errno_of(error)).into()),
    };
    let parent = target.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().ok_or(Errno::ISDIR).map_err(failed("open", to))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed("open", parent))?;
    let mut draft = Draft::file(dir.as_fd(), 0o600).map_err(failed("create", to))?;
    let file = draft.as_file().ok_or(Errno::INVAL).map_err(failed("create", to))?;
    write(file)?;
    rustix::fs::fsync(file).map_err(failed("fsync", to))?;
    Ok(draft.replace(&dir, name).map_err(failed("rename", to))?)
}
