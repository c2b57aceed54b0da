//! Reads a directory of the host with `getdents64(2)` and a large buffer.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, FileType, Mode, OFlags, RawDir};
use rustix::io;

/// One entry of a host directory.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// Its type, `Unknown` where the file system does not say.
    pub file_type: FileType,
    /// Its inode number.
    pub ino: u64,
}

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Returns what `keep` makes of each entry of `dir`, `.` and `..` left out; `dir` may be an `O_PATH` handle.
///
/// # Errors
///
/// What `openat(2)` and `getdents64(2)` report.
pub fn read<T>(dir: impl AsFd, mut keep: impl FnMut(Listed<'_>) -> T) -> io::Result<Vec<T>> {
    let readable =
        fs::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER_LEN_BYTES];
    let mut entries = RawDir::new(&readable, &mut buffer);
    let mut kept = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            kept.push(keep(Listed { name, file_type: entry.file_type(), ino: entry.ino() }));
        }
    }
    Ok(kept)
}
