//! Errors of the union: the operation, the entry, and why.

use std::ffi::{OsStr, OsString};
use std::fmt;

use rustix::io::Errno;

use crate::node::Node;

/// An operation on the union that did not happen.
#[derive(Debug, thiserror::Error)]
pub struct UnionError {
    /// What was attempted, such as `rename`.
    pub op: &'static str,
    /// The name it concerned; empty for a node without one.
    pub name: OsString,
    /// Why it failed.
    #[source]
    pub kind: UnionErrorKind,
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnionErrorKind {
    /// The union shows nothing under that name.
    #[error("no such entry")]
    NotFound,
    /// The name is taken.
    #[error("entry exists")]
    Exists,
    /// A directory is needed.
    #[error("not a directory")]
    NotDirectory,
    /// A directory cannot be used so.
    #[error("is a directory")]
    IsDirectory,
    /// The directory shows entries.
    #[error("directory not empty")]
    NotEmpty,
    /// A directory with entries in lower branches cannot be renamed in one step.
    #[error("directory has entries in lower branches")]
    CrossBranch,
    /// Each branch at or above the entry is read-only.
    #[error("no writable branch at or above the entry")]
    NoWritableBranch,
    /// The name begins with `.wh.`.
    #[error("names beginning with .wh. are reserved")]
    ReservedName,
    /// The name is longer than [`crate::names::NAME_LEN_MAX`].
    #[error("name longer than 242 bytes")]
    NameTooLong,
    /// The request makes no sense, such as moving a directory into itself.
    #[error("invalid request")]
    Invalid,
    /// The entry changed place under a concurrent change too often.
    #[error("entry keeps moving")]
    Stale,
    /// A branch refused.
    #[error("branch: {0}")]
    Branch(Errno),
}

impl UnionErrorKind {
    /// Returns the errno a program sees.
    pub fn errno(self) -> Errno {
        match self {
            Self::NotFound => Errno::NOENT,
            Self::Exists => Errno::EXIST,
            Self::NotDirectory => Errno::NOTDIR,
            Self::IsDirectory => Errno::ISDIR,
            Self::NotEmpty => Errno::NOTEMPTY,
            Self::CrossBranch => Errno::XDEV,
            Self::NoWritableBranch => Errno::ROFS,
            Self::ReservedName => Errno::PERM,
            Self::NameTooLong => Errno::NAMETOOLONG,
            Self::Invalid => Errno::INVAL,
            Self::Stale => Errno::STALE,
            Self::Branch(errno) => errno,
        }
    }
}

impl From<Errno> for UnionErrorKind {
    fn from(errno: Errno) -> Self {
        Self::Branch(errno)
    }
}

impl fmt::Display for UnionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.op, self.name.display(), self.kind)
    }
}

impl UnionError {
    /// Returns the errno a program sees.
    pub fn errno(&self) -> Errno {
        self.kind.errno()
    }
}

/// Adds the operation and the name to a bare reason.
pub(crate) trait During<T> {
    /// Names what was attempted and on what.
    fn during(self, op: &'static str, name: &OsStr) -> Result<T, UnionError>;

    /// As [`During::during`], for a node, whose path is put together only when there is something to report.
    fn during_on(self, op: &'static str, node: &Node) -> Result<T, UnionError>;
}

impl<T, K: Into<UnionErrorKind>> During<T> for Result<T, K> {
    fn during(self, op: &'static str, name: &OsStr) -> Result<T, UnionError> {
        self.map_err(|kind| UnionError { op, name: name.to_owned(), kind: kind.into() })
    }

    fn during_on(self, op: &'static str, node: &Node) -> Result<T, UnionError> {
        self.map_err(|kind| UnionError { op, name: node.path_for_messages(), kind: kind.into() })
    }
}

/// Result of the parts inside the crate, before operation and name are known.
pub(crate) type Outcome<T> = Result<T, UnionErrorKind>;
