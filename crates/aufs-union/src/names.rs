//! Names AUFS reserves inside a branch.
//!
//! AUFS writes deletions into the namespace itself, so a branch stays an
//! ordinary directory that `tar` can carry:
//!
//! | name on the branch | meaning                                            |
//! |--------------------|----------------------------------------------------|
//! | `.wh.NAME`         | whiteout: hides `NAME` in every branch below       |
//! | `.wh..wh..opq`     | opaque: hides all that lies below this directory   |
//! | other `.wh..wh.*`  | bookkeeping (`aufs`, `plnk`, `orph`, `draft`)      |
//!
//! This module only names things and does no I/O; `marker.rs` reads and
//! writes the markers.
//!
//! Source: `include/uapi/linux/aufs_type.h` of aufs 6.x.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::error::UnionErrorKind;

/// Longest name a user may create, in bytes.
///
/// `NAME_MAX` less two whiteout prefixes and the dot and four digits of a temporary name.
pub const NAME_LEN_MAX: usize = 255 - 2 * PREFIX.len() - 1 - 4;

/// The marker that makes its directory opaque.
pub const OPAQUE: &str = ".wh..wh..opq";
/// The file at a branch's root that every whiteout is a hard link of.
pub const WHITEOUT_BASE: &str = ".wh..wh.aufs";
/// The directory at a branch's root for pseudo-links.
pub const PSEUDO_LINKS: &str = ".wh..wh.plnk";
/// The directory at a branch's root where kernel aufs keeps removed but open files.
pub const ORPHANS: &str = ".wh..wh.orph";
/// The directory at a branch's root where we build entries before they are published.
pub const DRAFTS: &str = ".wh..wh.draft";

const PREFIX: &[u8] = b".wh.";
const RESERVED_PREFIX: &[u8] = b".wh..wh.";

/// What a name found on a branch stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchName<'a> {
    /// An entry the user may see.
    Plain(&'a OsStr),
    /// A whiteout of the contained name.
    Whiteout(&'a OsStr),
    /// The marker that makes its directory opaque.
    Opaque,
    /// AUFS bookkeeping, neither shown nor creatable.
    Reserved,
}

impl<'a> BranchName<'a> {
    /// Classifies one directory entry of a branch.
    pub fn of(name: &'a OsStr) -> Self {
        let bytes = name.as_bytes();
        match bytes.strip_prefix(PREFIX) {
            None => Self::Plain(name),
            Some(_) if bytes == OPAQUE.as_bytes() => Self::Opaque,
            Some(_) if bytes.starts_with(RESERVED_PREFIX) => Self::Reserved,
            Some(b"") => Self::Reserved,
            Some(target) => Self::Whiteout(OsStr::from_bytes(target)),
        }
    }
}

/// Returns the name of the whiteout that hides `name`.
pub fn whiteout_of(name: &OsStr) -> OsString {
    let mut whiteout = OsString::from(".wh.");
    whiteout.push(name);
    whiteout
}

/// Refuses what no user may look up or create, as kernel aufs does.
///
/// # Errors
///
/// [`UnionErrorKind::ReservedName`] for `.wh.*`; [`UnionErrorKind::NameTooLong`] above [`NAME_LEN_MAX`];
/// [`UnionErrorKind::Invalid`] for what is no single name.
pub fn check(name: &OsStr) -> Result<(), UnionErrorKind> {
    let bytes = name.as_bytes();
    if bytes.starts_with(PREFIX) {
        return Err(UnionErrorKind::ReservedName);
    }
    if NAME_LEN_MAX < bytes.len() {
        return Err(UnionErrorKind::NameTooLong);
    }
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(UnionErrorKind::Invalid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_by_prefix() {
        use BranchName::{Opaque, Plain, Reserved, Whiteout};
        let plain = |name| Plain(OsStr::new(name));
        let whiteout = |name| Whiteout(OsStr::new(name));

        for (name, expected) in [
            ("passwd", plain("passwd")),
            (".wh", plain(".wh")),
            ("a.wh.b", plain("a.wh.b")),
            (".wh.passwd", whiteout("passwd")),
            (".wh..bashrc", whiteout(".bashrc")),
            (".wh.", Reserved),
            (".wh..wh..opq", Opaque),
            (".wh..wh.plnk", Reserved),
        ] {
            assert_eq!(BranchName::of(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn users_get_no_reserved_and_no_overlong_names() {
        assert_eq!(NAME_LEN_MAX, 242);
        let longest = "n".repeat(NAME_LEN_MAX);
        let too_long = "n".repeat(NAME_LEN_MAX + 1);
        for (name, expected) in [
            ("a", Ok(())),
            ("a.wh.b", Ok(())),
            (longest.as_str(), Ok(())),
            (too_long.as_str(), Err(UnionErrorKind::NameTooLong)),
            (".wh.a", Err(UnionErrorKind::ReservedName)),
            (".wh..wh..opq", Err(UnionErrorKind::ReservedName)),
            ("", Err(UnionErrorKind::Invalid)),
            ("..", Err(UnionErrorKind::Invalid)),
            ("a/b", Err(UnionErrorKind::Invalid)),
        ] {
            assert_eq!(check(OsStr::new(name)), expected, "{name}");
        }
        assert_eq!(BranchName::of(&whiteout_of(OsStr::new("x"))), BranchName::Whiteout(OsStr::new("x")));
    }
}
