//! Sets permission bits by name in one step, where the kernel has a call for it.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{self, Errno};

use crate::errno::last_errno;

/// Whether the kernel said that it has no such call (before 6.6).
static IS_MISSING: AtomicBool = AtomicBool::new(false);

/// Sets the permission bits of `name` in `dir`, or of `dir` itself when `name` is empty.
///
/// False when it has to be done another way: the kernel, or a filter in front of it, has no `fchmodat2(2)`.
///
/// # Errors
///
/// What `fchmodat2(2)` reports; `EOPNOTSUPP` on a symbolic link.
pub(crate) fn without_following(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<bool> {
    if IS_MISSING.load(Ordering::Relaxed) {
        return Ok(false);
    }
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { libc::AT_SYMLINK_NOFOLLOW };
    let path = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    match fchmodat2(dir, &path, mode, flags) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS) => {
            IS_MISSING.store(true, Ordering::Relaxed);
            Ok(false)
        }
        // Old filters of system calls answer so to all they do not know; the other way tells the truth.
        Err(Errno::PERM) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// `fchmodat2(dir, path, mode, flags)` - as `fchmodat(2)`, but the flags count.
///
/// # References
///
/// - [chmod(2)](https://man7.org/linux/man-pages/man2/chmod.2.html)
#[expect(
    unsafe_code,
    reason = "rustix has no fchmodat2(2), and nix calls the C library, which may emulate it"
)]
fn fchmodat2(dir: BorrowedFd<'_>, path: &CString, mode: u32, flags: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open and the string valid for the whole call; the call keeps neither.
    let result = unsafe { libc::syscall(libc::SYS_fchmodat2, dir.as_raw_fd(), path.as_ptr(), mode, flags) };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno())
}
