//! Calls that only the kernel can make on a union: what a [`Subject`] without a mount cannot answer.

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::process::Mapping;
use crate::subject::{Fault, Outcome, Subject};

/// Copies from one file and offset to another with `copy_file_range`; returns how many bytes.
///
/// # Errors
///
/// Those of `open(2)` and `copy_file_range(2)`.
pub fn copy_range<S: Subject>(
    on: &mut S,
    from: (&str, u64),
    to: (&str, u64),
    len_bytes: usize,
) -> Outcome<usize> {
    let source = on.open(from.0, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    let target = on.open(to.0, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
    let (mut read_at, mut write_at) = (from.1, to.1);
    let (source, target) = (on.host_fd(&source)?, on.host_fd(&target)?);
    Ok(fs::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), len_bytes)?)
}

/// Stores `data` through a shared mapping; `short` where the file ends before that.
///
/// # Errors
///
/// Those of `open(2)` and `mmap(2)`.
pub fn map_write<S: Subject>(on: &mut S, path: &str, offset: usize, data: &[u8]) -> Outcome<&'static str> {
    let handle = on.open(path, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty())?;
    let end = offset.saturating_add(data.len());
    if on.fstat(&handle)?.size < u64::try_from(end).unwrap_or(u64::MAX) || end == 0 {
        return Ok("short");
    }
    Mapping::new(on.host_fd(&handle)?, end)?.write(offset, data)?;
    Ok("stored")
}

/// Sets the modification time alone, of a symlink itself.
///
/// # Errors
///
/// Those of `utimensat(2)`.
pub fn set_mtime<S: Subject>(on: &mut S, path: &str, seconds: i64) -> Outcome<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    let path = on.host_path(path)?;
    fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno: Errno| Fault::Errno(errno))
}
