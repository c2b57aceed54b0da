//! What an operation of the driver fails with.

use std::path::PathBuf;

use aufs_mount::error::{MountError, MountErrorKind};
use aufs_union::{OpenUnionError, UnionError};
use rustix::io::Errno;

use crate::archive::{ArchiveError, ArchiveErrorKind};
use crate::id::LayerId;
use crate::layers_file::LayersFileError;

/// An operation on a layer, or on the driver's home, failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {what}")]
pub struct StorageError {
    /// What was done: `create`, `get`, `put`, `remove`, `open`, ….
    pub op: &'static str,
    /// The layer or the directory.
    pub what: String,
    /// What went wrong.
    #[source]
    pub kind: Box<StorageErrorKind>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// There is no such layer.
    #[error("no such layer")]
    Unknown,
    /// There is one already.
    #[error("a layer of this id exists; remove it first, or choose another id")]
    Exists,
    /// It was to lie on a layer that there is not.
    #[error("its parent {parent} does not exist")]
    UnknownParent {
        /// The parent.
        parent: LayerId,
    },
    /// Somebody works in it.
    #[error("in use by {count}; stop what uses it, or force the removal")]
    InUse {
        /// How many have got it and not put it back.
        count: u64,
    },
    /// An archive, or the tree it is made of or goes to.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Docker's driver has no options of a layer either.
    #[error("--storage-opt is not supported for aufs")]
    StorageOption,
    /// Its file in `layers/` cannot be understood.
    #[error("its file in layers/: {0}")]
    LayersFile(#[from] LayersFileError),
    /// The file system of the home cannot hold branches.
    #[error("AUFS is not supported over {fs}; choose a root on another file system")]
    Backing {
        /// Its name.
        fs: &'static str,
    },
    /// An object of ours on disk cannot be understood.
    #[error("{path}: {error}", path = path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// Something of somebody else is mounted where the layer is to be.
    #[error("a file system of type {fs_type} is mounted at {}; unmount it", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Its type.
        fs_type: String,
    },
    /// Its branches cannot be opened.
    #[error(transparent)]
    Branches(#[from] OpenUnionError),
    /// Something cannot be done in the union of its branches.
    #[error(transparent)]
    Union(#[from] UnionError),
    /// Mounting or unmounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The host refused.
    #[error("{call} {path}: {}", nix::errno::Errno::from_raw(errno.raw_os_error()).desc(), path = path.display())]
    Call {
        /// The system call.
        call: &'static str,
        /// What it was made on.
        path: PathBuf,
        /// Its errno.
        errno: Errno,
    },
}

impl StorageErrorKind {
    /// Says during which operation on which layer it went wrong.
    pub fn during(self, op: &'static str, what: impl ToString) -> StorageError {
        StorageError { op, what: what.to_string(), kind: Box::new(self) }
    }

    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unknown | Self::UnknownParent { .. } => Errno::NOENT,
            Self::Exists => Errno::EXIST,
            Self::InUse { .. } | Self::Foreign { .. } => Errno::BUSY,
            Self::StorageOption => Errno::NOTSUP,
            Self::Archive(error) => match error.kind {
                ArchiveErrorKind::Host { errno, .. } => errno,
                _ => Errno::INVAL,
            },
            Self::Backing { .. } | Self::LayersFile(_) | Self::Record { .. } => Errno::INVAL,
            Self::Mount(error) if matches!(error.kind, MountErrorKind::Busy) => Errno::BUSY,
            Self::Mount(error) => {
                error.kind.errno().map_or(Errno::IO, |it| Errno::from_raw_os_error(it as i32))
            }
            Self::Branches(error) => error.errno(),
            Self::Union(error) => error.errno(),
            Self::Call { errno, .. } => *errno,
        }
    }
}

/// Says which call on which path failed, for `map_err`.
pub(crate) fn failed(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> StorageErrorKind {
    let path = path.into();
    move |errno| StorageErrorKind::Call { call, path, errno }
}
