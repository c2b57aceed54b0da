//! What goes wrong with images.

use std::io;
use std::path::PathBuf;

use aufs_host::errno::errno_of;
use rustix::io::Errno;

use super::digest::{Digest, DigestError};
use super::reference::ReferenceError;
use crate::archive::{ArchiveError, ArchiveErrorKind};
use crate::error::{StorageError, StorageErrorKind};

/// An operation on an image failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {what}")]
pub struct ImageError {
    /// What was done: `load`, `save`, `remove`, `tag`, `look for`, ….
    pub op: &'static str,
    /// The image, or the file it comes from.
    pub what: String,
    /// What went wrong.
    #[source]
    pub kind: Box<ImageErrorKind>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// There is nothing of this name or id.
    #[error("no such image; aufs image ls shows those that are there")]
    Unknown,
    /// Several ids begin so.
    #[error("{count} images have an id that begins so; give more of it")]
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// The text can be neither name nor id.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image is still needed.
    #[error("in use by {by}; remove that first")]
    InUse {
        /// Who needs it.
        by: String,
    },
    /// The file or directory holds no images.
    #[error("neither an OCI image layout nor what docker save writes: {reason}")]
    NotAnImage {
        /// What is missing.
        reason: String,
    },
    /// A part of the image is missing.
    #[error("{member} is missing")]
    MissingMember {
        /// Its name in the archive.
        member: String,
    },
    /// A part of the image is longer than it may be.
    #[error("{member} is longer than {len_max} bytes")]
    TooLong {
        /// Its name in the archive.
        member: String,
        /// The most that is taken.
        len_max: u64,
    },
    /// A part of the image cannot be understood.
    #[error("{member}: {reason}")]
    Malformed {
        /// Its name in the archive.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the image is of no known kind.
    #[error("{member} is of the unknown media type {media_type:?}")]
    MediaType {
        /// Its name in the archive.
        member: String,
        /// What it says of itself.
        media_type: String,
    },
    /// A digest that is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A part of the image is not what its digest says.
    #[error("{what} has the digest {found} instead of {expected}; get the image again")]
    WrongDigest {
        /// The part.
        what: String,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// The archive of a layer cannot be unpacked.
    #[error("layer {diff_id}")]
    Layer {
        /// The layer.
        diff_id: Digest,
        /// Why.
        #[source]
        error: ArchiveError,
    },
    /// A layer cannot be put together as it was.
    #[error("layer {diff_id} cannot be written as it was read: {reason}")]
    NotReproducible {
        /// The layer.
        diff_id: Digest,
        /// Why.
        reason: String,
    },
    /// The driver, or a file of ours.
    #[error(transparent)]
    Storage(#[from] StorageErrorKind),
    /// The driver.
    #[error(transparent)]
    Driver(#[from] StorageError),
    /// Reading or writing a file that the caller named failed.
    #[error("{call} {path}: {error}", path = path.display())]
    Io {
        /// What was done.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

impl ImageErrorKind {
    /// Says during which operation on which image it went wrong.
    pub fn during(self, op: &'static str, what: impl ToString) -> ImageError {
        ImageError { op, what: what.to_string(), kind: Box::new(self) }
    }

    pub(crate) fn io(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { call, path, error }
    }

    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unknown | Self::MissingMember { .. } => Errno::NOENT,
            Self::InUse { .. } => Errno::BUSY,
            Self::Storage(kind) => kind.errno(),
            Self::Driver(error) => error.kind.errno(),
            Self::Io { error, .. } => Errno::from_io_error(error).unwrap_or(Errno::IO),
            Self::Layer { error, .. } => match error.kind {
                ArchiveErrorKind::Host { errno, .. } => errno,
                _ => Errno::INVAL,
            },
            Self::Ambiguous { .. }
            | Self::Reference(_)
            | Self::NotAnImage { .. }
            | Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::MediaType { .. }
            | Self::Digest(_)
            | Self::WrongDigest { .. }
            | Self::NotReproducible { .. } => Errno::INVAL,
        }
    }
}

/// An errno as an error of std, for what std reads and writes.
pub(crate) fn host(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// The errno of an error of std, for what the driver reports.
pub(crate) fn refused(
    call: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ImageErrorKind {
    let path = path.into();
    move |error| StorageErrorKind::Call { call, path, errno: errno_of(error) }.into()
}
