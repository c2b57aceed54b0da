//! What an operation on a container fails with.

use super::copy_rules::CopyFault;
use crate::archive::ArchiveError;
use crate::error::{StorageError, StorageErrorKind};
use crate::image::error::ImageError;

/// An operation on a container failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} container {what}")]
pub struct ContainerError {
    /// What was done.
    pub op: &'static str,
    /// The container.
    pub what: String,
    /// What went wrong.
    #[source]
    pub kind: Box<ContainerErrorKind>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerErrorKind {
    /// There is nothing of this name or id.
    #[error("no such container; aufs container ls shows those that are there")]
    Unknown,
    /// Several ids begin so.
    #[error("{count} containers have an id that begins so; give more of it")]
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// A name that no container can have.
    #[error("no name for a container; letters, digits and _ . - after a letter or digit are")]
    Name,
    /// Another container is called so.
    #[error("{other} is called so; choose another name, or remove that container")]
    NameTaken {
        /// The other.
        other: String,
    },
    /// It is started.
    #[error("started; stop it first, or force the removal")]
    Started,
    /// It is not started.
    #[error("not started")]
    Stopped,
    /// A copy cannot go where it is to go.
    #[error(transparent)]
    Copy(#[from] CopyFault),
    /// Whoever wanted a copy wants it no more.
    #[error("interrupted; what was copied until then stays")]
    Interrupted,
    /// Something about its image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The driver.
    #[error(transparent)]
    Driver(#[from] StorageError),
    /// The driver, or a file of ours.
    #[error(transparent)]
    Storage(#[from] StorageErrorKind),
}

impl From<ArchiveError> for ContainerErrorKind {
    fn from(error: ArchiveError) -> Self {
        Self::Storage(error.into())
    }
}

impl ContainerErrorKind {
    pub(super) fn during(self, op: &'static str, what: impl ToString) -> ContainerError {
        ContainerError { op, what: what.to_string(), kind: Box::new(self) }
    }

    /// Returns the errno that fits.
    pub fn errno(&self) -> rustix::io::Errno {
        use rustix::io::Errno;
        match self {
            Self::Unknown => Errno::NOENT,
            Self::Copy(fault) => fault.errno(),
            Self::Interrupted => Errno::CANCELED,
            Self::NameTaken { .. } => Errno::EXIST,
            Self::Started => Errno::BUSY,
            Self::Ambiguous { .. } | Self::Name | Self::Stopped => Errno::INVAL,
            Self::Image(error) => error.kind.errno(),
            Self::Driver(error) => error.kind.errno(),
            Self::Storage(kind) => kind.errno(),
        }
    }
}
