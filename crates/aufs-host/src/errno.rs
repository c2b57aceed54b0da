//! Errnos of errors that std reports.

use std::io;

use rustix::io::Errno;

/// Returns the errno of `error`, `EIO` where it has none.
#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
pub fn errno_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Returns the errno of the C library's call that just failed.
pub(crate) fn last_errno() -> Errno {
    errno_of(io::Error::last_os_error())
}
