//! How a union is served.

use std::str::FromStr;

pub use aufs_fusedev::transport::Transport;

/// How file data travels between programs and branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataMode {
    /// Passthrough where the kernel grants it, else without opens; cached where branches may change.
    #[default]
    Auto,
    /// The kernel reads and writes branch files itself; refused when it cannot.
    Passthrough,
    /// The kernel neither opens nor closes, caches pages and collects writes.
    NoOpen,
    /// The server opens, reads and writes; the kernel caches pages.
    Cached,
}

/// The text is not a data mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown data mode {0:?}, expected auto, passthrough, noopen or cached")]
pub struct DataModeError(String);

impl FromStr for DataMode {
    type Err = DataModeError;

    fn from_str(text: &str) -> Result<Self, DataModeError> {
        match text {
            "auto" => Ok(Self::Auto),
            "passthrough" => Ok(Self::Passthrough),
            "noopen" => Ok(Self::NoOpen),
            "cached" => Ok(Self::Cached),
            _ => Err(DataModeError(text.to_owned())),
        }
    }
}

impl DataMode {
    /// Returns the word of the `data=` option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Passthrough => "passthrough",
            Self::NoOpen => "noopen",
            Self::Cached => "cached",
        }
    }
}

/// Flags of the mount itself, as `mount(8)` names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlags {
    /// Text shown as the source in mountinfo.
    pub source: String,
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`.
    pub no_suid: bool,
    /// `nodev`.
    pub no_dev: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `noatime`.
    pub no_atime: bool,
    /// `nodiratime`.
    pub no_dir_atime: bool,
    /// `allow_other`: users other than the mounting one may enter.
    pub allow_other: bool,
}

/// Everything the server needs besides the union itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// The wanted data mode.
    pub data: DataMode,
    /// `udba=reval`: branches may change behind the union, so nothing is cached.
    pub revalidate: bool,
    /// Whether a request to flush is answered without flushing.
    pub volatile: bool,
    /// Whether extended attributes are not shown; the union must agree.
    pub no_xattrs: bool,
    /// How requests travel.
    pub transport: Transport,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// Threads that read requests; none means one for each two processors. What takes long has threads of its own.
    pub threads: Option<usize>,
}
