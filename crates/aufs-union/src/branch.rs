//! Branches of a union and how each may be used.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Key of a branch in its stack: what is less lies above.
///
/// It stays the branch's own while others come and go, and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchIndex(pub u32);

/// How a branch may be used, as written in `br:/path=PERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BranchPerm {
    /// `rw`: changes land here; its whiteouts are always honored.
    ReadWrite,
    /// `ro` or `ro+wh`: never written through this union.
    ReadOnly {
        /// Whether whiteouts on this branch are honored (`+wh`).
        whiteouts: bool,
    },
    /// `rr` or `rr+wh`: read-only by nature (ISO 9660, squashfs), so its
    /// content never changes behind our back.
    RealReadOnly {
        /// Whether whiteouts on this branch are honored (`+wh`).
        whiteouts: bool,
    },
}

/// The text is not a branch permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown branch permission {0:?}, expected rw, ro[+wh] or rr[+wh]")]
pub struct BranchPermError(String);

impl BranchPerm {
    /// Whether whiteouts and opaque markers of the branch count.
    ///
    /// Source: `au_br_whable` of `fs/aufs/branch.h`.
    pub fn honors_whiteouts(self) -> bool {
        match self {
            Self::ReadWrite => true,
            Self::ReadOnly { whiteouts } | Self::RealReadOnly { whiteouts } => whiteouts,
        }
    }

    /// Whether changes may land on the branch.
    pub fn is_writable(self) -> bool {
        self == Self::ReadWrite
    }
}

impl FromStr for BranchPerm {
    type Err = BranchPermError;

    fn from_str(text: &str) -> Result<Self, BranchPermError> {
        match text {
            "rw" => Ok(Self::ReadWrite),
            "ro" => Ok(Self::ReadOnly { whiteouts: false }),
            "ro+wh" => Ok(Self::ReadOnly { whiteouts: true }),
            "rr" => Ok(Self::RealReadOnly { whiteouts: false }),
            "rr+wh" => Ok(Self::RealReadOnly { whiteouts: true }),
            _ => Err(BranchPermError(text.to_owned())),
        }
    }
}

impl fmt::Display for BranchPerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadWrite => "rw",
            Self::ReadOnly { whiteouts: false } => "ro",
            Self::ReadOnly { whiteouts: true } => "ro+wh",
            Self::RealReadOnly { whiteouts: false } => "rr",
            Self::RealReadOnly { whiteouts: true } => "rr+wh",
        })
    }
}

/// One branch as the user names it: a host directory and its permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSpec {
    /// The host directory.
    pub path: PathBuf,
    /// How the union may use it.
    pub perm: BranchPerm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_back_as_printed() {
        for text in ["rw", "ro", "ro+wh", "rr", "rr+wh"] {
            assert_eq!(text.parse::<BranchPerm>().map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "RW", "rw+wh", "ro+", "wo"] {
            assert!(text.parse::<BranchPerm>().is_err(), "{text}");
        }
    }
}
