//! What can be wrong with an archive, and with making it or making something of it.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::compressed::CompressionError;
use super::limits::{Limited, Limits};
use super::name::NameFault;

/// Most characters of a hostile path that an error shows.
const SHOWN_LEN_MAX: usize = 200;

/// Work on a layer failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}", shown(path))]
pub struct ArchiveError {
    /// What was done: `apply`, `pack`, `changes`, `size`.
    pub op: &'static str,
    /// The path inside the layer, empty where it is about no single entry.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub kind: ArchiveErrorKind,
}

/// A path as an error shows it: quoted, for it may hold anything, and cut.
fn shown(path: &std::path::Path) -> String {
    if path.as_os_str().is_empty() {
        return "layer".to_owned();
    }
    let text = format!("{path:?}");
    if text.chars().count() <= SHOWN_LEN_MAX {
        return text;
    }
    text.chars().take(SHOWN_LEN_MAX).chain("…".chars()).collect()
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveErrorKind {
    /// The archive cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The compressed stream is damaged, or becomes too much.
    #[error(transparent)]
    Compression(CompressionError),
    /// The archive ends in the middle of an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// A header is no header.
    #[error("the header at byte {offset_bytes}: {fault}")]
    Header {
        /// Where it begins.
        offset_bytes: u64,
        /// What is wrong with it.
        fault: HeaderFault,
    },
    /// An extended header is malformed.
    #[error("extended header: {0}")]
    Pax(PaxFault),
    /// The map of a sparse file is malformed.
    #[error("sparse file: {0}")]
    Sparse(SparseFault),
    /// The layer asks for more than it may.
    #[error("more than {max} {what}")]
    Limit {
        /// What there is too much of.
        what: Limited,
        /// How much is allowed.
        max: u64,
    },
    /// The path of an entry cannot be one of a layer.
    #[error("its path {0}")]
    Name(NameFault),
    /// The target of a link cannot be one in a layer.
    #[error("its target {0}")]
    LinkTarget(NameFault),
    /// The layer has nothing under the target of a hard link.
    #[error("a hard link to what the layer does not hold")]
    LinkTargetMissing,
    /// A hard link to a directory.
    #[error("a hard link to a directory")]
    LinkTargetDirectory,
    /// A hard link to a whiteout or an opaque marker, which are no files.
    #[error("a hard link to a whiteout")]
    LinkTargetMarker,
    /// A hard link to a pseudo-link that the layer does not have.
    #[error("a hard link to an unknown pseudo-link")]
    PseudoLinkUnknown,
    /// A type that no layer has.
    #[error("entries of type {0:#04x} are not known")]
    Type(u8),
    /// A parent is no directory, or a symbolic link that leads nowhere.
    #[error("a parent is no directory")]
    ParentNotDirectory,
    /// A directory is in the place of something else; see [`Form::Tree`](super::Form::Tree).
    #[error("a directory is there, and only a directory can be copied onto it")]
    OntoDirectory,
    /// Something else is in the place of a directory; see [`Form::Tree`](super::Form::Tree).
    #[error("what is there is no directory, and no directory can be copied onto it")]
    OntoFile,
    /// A device node that may not be made; see [`Devices`](super::Devices).
    #[error("a device node, which is not allowed here")]
    Device,
    /// The file changed while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// The host refused a call.
    #[error("{call}")]
    Host {
        /// The call.
        call: &'static str,
        /// Its errno.
        #[source]
        errno: Errno,
    },
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The checksum is not that of the bytes.
    #[error("the checksum is wrong")]
    Checksum,
    /// A field holds no number, or one that does not fit.
    #[error("the field {0} holds no number that fits")]
    Number(&'static str),
    /// A single zero block is followed by something.
    #[error("something follows a zero block")]
    AfterEnd,
    /// Extended headers of the same kind follow each other without end, or nothing follows one.
    #[error("an extended header belongs to no entry")]
    Dangling,
}

/// What is wrong with an extended header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaxFault {
    /// A record is not `LEN KEY=VALUE`.
    #[error("a record is malformed")]
    Record,
    /// A name holds a zero byte.
    #[error("a zero byte in {0}")]
    Zero(&'static str),
    /// A value is no number, or none that fits.
    #[error("{0} is no number that fits")]
    Number(&'static str),
}

/// What is wrong with the map of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SparseFault {
    /// The map is no list of numbers.
    #[error("the map is malformed")]
    Map,
    /// Pieces overlap, run backwards or past the end.
    #[error("the pieces overlap or pass the end")]
    Order,
    /// The archive holds more or less data than the map says.
    #[error("the data is not as long as the map says")]
    Length,
}

/// The result of work on one entry.
pub(crate) type Outcome<T> = Result<T, ArchiveErrorKind>;

impl ArchiveErrorKind {
    /// Adds what was done, and to which path.
    pub(crate) fn during(self, op: &'static str, path: impl Into<PathBuf>) -> ArchiveError {
        ArchiveError { op, path: path.into(), kind: self }
    }

    /// Wraps what reading the archive reported.
    pub(crate) fn read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if error.get_ref().is_none() => Self::Truncated,
            _ => match error.downcast::<CompressionError>() {
                Ok(error) => Self::Compression(error),
                Err(error) => Self::Read(error),
            },
        }
    }
}

/// Names the call that the host refused.
pub(crate) fn host(call: &'static str) -> impl Fn(Errno) -> ArchiveErrorKind {
    move |errno| ArchiveErrorKind::Host { call, errno }
}

impl Limits {
    /// Refuses `amount` of `what` when it is more than allowed.
    pub(crate) fn check(&self, what: Limited, amount: u64) -> Outcome<()> {
        let max = self.of(what);
        if max < amount { Err(ArchiveErrorKind::Limit { what, max }) } else { Ok(()) }
    }
}
