//! Why a directory cannot be looked at.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A directory cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} {}", path.display())]
pub struct DetectError {
    /// What was being done: `open` or `statfs`.
    pub op: &'static str,
    /// The directory as the caller named it.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub kind: DetectErrorKind,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DetectErrorKind {
    /// There is something else under this path.
    #[error("not a directory")]
    NotADirectory,
    /// A FUSE server died and left its mount behind.
    #[error("its FUSE server has ended; unmount it with: fusermount3 -uz or umount -l")]
    DeadMount,
    /// A syscall was refused.
    #[error(transparent)]
    Refused(Errno),
}

impl DetectErrorKind {
    /// Adds what was being done, and to which directory.
    pub(crate) fn during(self, op: &'static str, path: &Path) -> DetectError {
        DetectError { op, path: path.to_owned(), kind: self }
    }
}

impl From<Errno> for DetectErrorKind {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOTDIR => Self::NotADirectory,
            Errno::NOTCONN => Self::DeadMount,
            other => Self::Refused(other),
        }
    }
}
