//! The text of `-o`: what users write, and what it means.
//!
//! One grammar for three callers: aufs's own (`br:/up=rw:/low=ro+wh`), overlay's
//! (`lowerdir=A:B,upperdir=U,workdir=W`), and the generic words of `mount(8)`.
//! [`parse`] is pure: it reads no file and asks nothing of the host, so a branch
//! it returns may not exist; [`crate::stack`] looks.
//!
//! | in a path | stands for                                        |
//! |-----------|---------------------------------------------------|
//! | `\:` `\,` | the character itself, not a separator             |
//! | `\=`      | a `=` that does not begin a permission            |
//! | `\\`      | one backslash                                     |
//! | `\` else  | a backslash; the next character keeps its meaning |

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use aufs_union::BranchChange;
use aufs_union::branch::BranchSpec;
use serde::{Deserialize, Serialize};

mod live;
mod nearest;
mod parse;
mod print;
mod split;
mod word;

pub(crate) use live::word_of;
pub(crate) use print::context_word;

pub use live::default_perm;
pub use parse::{Dialect, OptionError, OptionErrorKind, OptionParser};

/// Longest option text taken, in bytes: what Linux takes as one argument.
///
/// Source: `MAX_ARG_STRLEN` of `include/uapi/linux/binfmts.h`.
pub const OPTIONS_LEN_MAX: usize = 128 * 1024;

/// How file data travels between programs and branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataMode {
    /// Passthrough where the kernel grants it, else without opens; cached where branches may change.
    #[default]
    Auto,
    /// The kernel reads and writes branch files itself; refused when it cannot.
    Passthrough,
    /// The kernel neither opens nor closes, caches pages and collects writes.
    NoOpen,
    /// The server reads and writes, the kernel caches pages.
    Cached,
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

/// How requests travel between the kernel and our server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By io_uring where the kernel's switch for it is on, else over the device.
    #[default]
    Auto,
    /// By reading and writing `/dev/fuse`.
    Device,
    /// By io_uring; refused where it cannot be had.
    Uring,
}

/// The text is not a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown transport {0:?}, expected auto, device or uring")]
pub struct TransportError(String);

impl Transport {
    /// Returns the word of the `transport=` option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Device => "device",
            Self::Uring => "uring",
        }
    }
}

impl FromStr for Transport {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, TransportError> {
        match text {
            "auto" => Ok(Self::Auto),
            "device" => Ok(Self::Device),
            "uring" => Ok(Self::Uring),
            _ => Err(TransportError(text.to_owned())),
        }
    }
}

/// What the union does about changes made to branches behind its back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Udba {
    /// Nothing: branches belong to the union while it is mounted.
    None,
    /// Every lookup checks the branches again.
    Reval,
}

/// The generic flags of a mount; `None` leaves the default of the mounter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GenericFlags {
    /// `ro` or `rw`.
    pub read_only: Option<bool>,
    /// `nosuid` or `suid`.
    pub no_suid: Option<bool>,
    /// `nodev` or `dev`.
    pub no_dev: Option<bool>,
    /// `noexec` or `exec`.
    pub no_exec: Option<bool>,
    /// `noatime`, or any of the words that undo it.
    pub no_atime: Option<bool>,
    /// `nodiratime` or `diratime`.
    pub no_dir_atime: Option<bool>,
    /// `allow_other`; root has it without asking.
    pub allow_other: bool,
    /// `fsname=`: the source shown in mountinfo.
    pub fsname: Option<OsString>,
    /// `context=` of SELinux, without its quotes.
    pub context: Option<OsString>,
}

/// Everything an option text says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// The branches, topmost first, as written.
    pub branches: Vec<BranchSpec>,
    /// `workdir=`: where drafts of copy-ups are built.
    pub workdir: Option<PathBuf>,
    /// `data=`.
    pub data: Option<DataMode>,
    /// `udba=`.
    pub udba: Option<Udba>,
    /// `sync`: a copy-up is on disk before it shows.
    pub sync: bool,
    /// `volatile`: `fsync(2)` returns at once, and a crash of the host may take anything along.
    pub volatile: bool,
    /// `noxattr`: extended attributes are neither shown nor copied up.
    pub no_xattrs: bool,
    /// Whether each new directory is opaque (`diropq=a`).
    pub always_opaque: bool,
    /// `transport=`.
    pub transport: Option<Transport>,
    /// `remount`: change a live mount instead of making one.
    pub remount: bool,
    /// With `remount`, what is to become of the branches of the live mount, in this order.
    pub changes: Vec<BranchChange>,
    /// The generic words.
    pub flags: GenericFlags,
}

/// Something worth telling the user that does not stop the mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Words that kernel aufs knows and that change nothing here.
    #[error("ignored, as these aufs words do nothing here: {}", words.join(" "))]
    AufsWords {
        /// The words, each once.
        words: Vec<String>,
    },
    /// Words of fuse-overlayfs that are not offered.
    #[error("ignored, as these fuse-overlayfs options are not offered: {}", words.join(" "))]
    FuseOverlayfsWords {
        /// The words, each once.
        words: Vec<String>,
    },
    /// More than one branch was given as `rw`.
    #[error("only the first rw branch is written; taken as ro+wh: {}", paths.join(" "))]
    ManyWritable {
        /// The further ones.
        paths: Vec<String>,
    },
    /// `workdir=` without a writable branch.
    #[error("workdir= does nothing, as no branch is rw")]
    WorkdirUnused,
    /// `ro` was given and the writable branch cannot be written.
    #[error("{path} cannot be written ({reason}); taken as ro+wh, so remount,rw will not help")]
    Demoted {
        /// The branch.
        path: String,
        /// Why.
        reason: String,
    },
    /// The SELinux context reaches only kernel aufs.
    #[error("context= does nothing with the fuse mounter")]
    ContextUnused,
    /// A branch looks like the upper directory of an overlay mount.
    #[error("{path} was written by overlayfs ({marker}); its deletions have no meaning in an aufs branch")]
    OverlayMarkers {
        /// The first such branch.
        path: String,
        /// What was found.
        marker: String,
    },
}

/// A parsed option text and what was odd about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// What was asked for.
    pub options: MountOptions,
    /// What the user should hear.
    pub warnings: Vec<Warning>,
}

/// Parses one option text.
///
/// # Errors
///
/// The first word that cannot be taken, with its remedy.
pub fn parse(text: &OsStr, dialect: Dialect) -> Result<Parsed, OptionError> {
    let mut parser = OptionParser::new(dialect);
    parser.options(text)?;
    parser.finish()
}

/// Shows hostile bytes within one line of a message.
///
/// Text without control characters stays as it is; other text is quoted and escaped.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(char::is_control) { format!("{text:?}") } else { text.into_owned() }
}

/// [`one_line`] of a path.
pub(crate) fn path_line(path: &std::path::Path) -> String {
    one_line(path.as_os_str().as_bytes())
}
