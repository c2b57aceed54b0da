//! How much a layer may ask for.

use std::fmt;

/// The most that a layer may ask for; more is [`ArchiveErrorKind::Limit`](super::ArchiveErrorKind::Limit).
///
/// The defaults let every image through that we know of, and end a hostile one before it fills memory or disk.
/// What a compressed stream may become is limited by [`CompressionLimits`](super::CompressionLimits).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries, those that are left out included. Default: 4 Mi.
    pub entries: u64,
    /// Bytes of all files together, holes included. Default: 64 GiB.
    pub bytes: u64,
    /// Bytes of the archive itself, its end included. Default: 128 GiB.
    pub archive_bytes: u64,
    /// Bytes of a path. Default: 4095, what one call may name.
    pub path_len_bytes: u64,
    /// Names in a path. Default: 1024.
    pub depth: u64,
    /// Bytes of a link's target. Default: 4095.
    pub link_len_bytes: u64,
    /// Bytes of all attributes of an entry, names included. Default: 256 KiB.
    pub xattr_bytes: u64,
    /// Bytes of an extended header, or of a long name. Default: 1 MiB, as Docker has it.
    pub extended_header_bytes: u64,
    /// Pieces of data in a sparse file. Default: 1 Mi.
    pub extents: u64,
    /// Bytes of memory for what waits until the end: paths and attributes of directories, whiteouts. Default: 256 MiB.
    pub held_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4 << 20,
            bytes: 64 << 30,
            archive_bytes: 128 << 30,
            path_len_bytes: 4095,
            depth: 1024,
            link_len_bytes: 4095,
            xattr_bytes: 256 << 10,
            extended_header_bytes: 1 << 20,
            extents: 1 << 20,
            held_bytes: 256 << 20,
        }
    }
}

/// What of a layer is limited; see the fields of [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limited {
    /// [`Limits::entries`].
    Entries,
    /// [`Limits::bytes`].
    Bytes,
    /// [`Limits::archive_bytes`].
    ArchiveBytes,
    /// [`Limits::path_len_bytes`].
    PathLen,
    /// [`Limits::depth`].
    Depth,
    /// [`Limits::link_len_bytes`].
    LinkLen,
    /// [`Limits::xattr_bytes`].
    XattrBytes,
    /// [`Limits::extended_header_bytes`].
    ExtendedHeaderBytes,
    /// [`Limits::extents`].
    Extents,
    /// [`Limits::held_bytes`].
    HeldBytes,
}

impl Limits {
    /// Returns the limit on `what`.
    pub fn of(&self, what: Limited) -> u64 {
        match what {
            Limited::Entries => self.entries,
            Limited::Bytes => self.bytes,
            Limited::ArchiveBytes => self.archive_bytes,
            Limited::PathLen => self.path_len_bytes,
            Limited::Depth => self.depth,
            Limited::LinkLen => self.link_len_bytes,
            Limited::XattrBytes => self.xattr_bytes,
            Limited::ExtendedHeaderBytes => self.extended_header_bytes,
            Limited::Extents => self.extents,
            Limited::HeldBytes => self.held_bytes,
        }
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes of files",
            Self::ArchiveBytes => "bytes of archive",
            Self::PathLen => "bytes of a path",
            Self::Depth => "names in a path",
            Self::LinkLen => "bytes of a link's target",
            Self::XattrBytes => "bytes of attributes of an entry",
            Self::ExtendedHeaderBytes => "bytes of an extended header",
            Self::Extents => "pieces of a sparse file",
            Self::HeldBytes => "bytes of directories and whiteouts in memory",
        })
    }
}
