//! Listings by `getdents64(2)` with a buffer of 32 KiB, as the C library has, and no copies in between.

use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::path::Arg;

use crate::error::{At as _, Result};

/// Opens a directory below `dir`; `path` names it in errors.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: impl Arg, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(dir, name, flags, Mode::empty()).at("open directory", path)
}

/// Calls `each` with every entry of the open directory `dir` but `.` and `..`.
///
/// # Errors
///
/// What reading reports, or `each`.
pub(super) fn list(
    dir: BorrowedFd<'_>,
    path: &Path,
    mut each: impl FnMut(&CStr, FileType) -> Result<()>,
) -> Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.at("read directory", path)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name(), entry.file_type())?;
        }
    }
    Ok(())
}

/// Returns a name that outlives its listing.
pub(super) fn name_of(entry: &CStr) -> OsString {
    OsStr::from_bytes(entry.to_bytes()).to_owned()
}
