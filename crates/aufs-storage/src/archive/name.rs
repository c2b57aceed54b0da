//! What the path of an entry stands for. Pure.
//!
//! | path in the archive                     | in the branch                                            |
//! |-----------------------------------------|----------------------------------------------------------|
//! | `.`, `/`, nothing                       | the branch itself, left as it is                         |
//! | `d/.wh..wh..opq`                        | a marker, whatever the entry's type is                   |
//! | `d/.wh.NAME`                            | a whiteout, whatever the entry's type is                 |
//! | `.wh..wh.plnk/KEY`                      | kept aside, for hard links to it                         |
//! | other `.wh..wh.*`, and all below it     | left out: bookkeeping of the host that wrote the layer   |
//! | `.wh.`, `.wh..`, `.wh...`, `.wh.NAME/x` | refused                                                  |
//! | anything else                           | itself                                                   |
//!
//! Paths are cleaned as Docker does it: a leading `/` and `./` say nothing, and `a/../b` is `b`. What would lead
//! above the branch is refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use aufs_union::names::{BranchName, PSEUDO_LINKS};

use super::error::{ArchiveErrorKind, Outcome};
use super::form::Form;
use super::limits::{Limited, Limits};

/// Longest name of one entry, in bytes.
///
/// Source: `NAME_MAX` of `include/uapi/linux/limits.h`.
const NAME_LEN_MAX: usize = 255;

/// Returns the path of `name` in the directory at `path`, which is empty for the branch itself.
pub(crate) fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    join_bytes(path, name.as_bytes()).into_vec()
}

/// Divides a path into that of the directory, empty for the topmost, and the last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Joins two paths, each of which may be empty.
pub(crate) fn join_bytes(path: &[u8], below: &[u8]) -> OsString {
    let slash: &[u8] = if path.is_empty() || below.is_empty() { b"" } else { b"/" };
    OsString::from_vec([path, slash, below].concat())
}

/// Why a path cannot be one of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// It leads out of the layer.
    #[error("leads out of the layer")]
    Outside,
    /// It holds a zero byte.
    #[error("holds a zero byte")]
    Zero,
    /// One of its names is longer than a name can be.
    #[error("has a name of more than 255 bytes")]
    NameTooLong,
    /// It is a whiteout of nothing, of `.` or of `..`.
    #[error("is a whiteout of no name")]
    WhiteoutOfNothing,
    /// It lies below a whiteout or an opaque marker, which are no directories.
    #[error("lies below a whiteout")]
    BelowWhiteout,
    /// A name in it begins with `.wh.`, which a union keeps for itself; see [`Form::Tree`].
    #[error("has a name that begins with .wh., which unions keep for whiteouts")]
    Reserved,
    /// It is empty.
    #[error("is empty")]
    Empty,
}

/// A cleaned path: names that are none of `.` and `..`, with single slashes between; empty for the branch itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CleanPath(Vec<u8>);

/// What an entry stands for, by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands<'a> {
    /// The branch itself.
    Root,
    /// An entry of the branch.
    Plain,
    /// A whiteout of this name, or an opaque marker where it is none.
    Marker(Option<&'a OsStr>),
    /// A file that hard links of the same archive refer to by this name.
    PseudoLink(&'a OsStr),
    /// What concerns only the host that wrote the layer.
    Bookkeeping,
}

/// The faults of [`CleanPath::of`]: limits are of the path, not of the entry.
pub(crate) enum CleanFault {
    Name(NameFault),
    Limit(ArchiveErrorKind),
}

impl CleanPath {
    /// Cleans `raw`.
    pub(crate) fn of(raw: &[u8], limits: &Limits) -> Result<Self, CleanFault> {
        if raw.contains(&0) {
            return Err(CleanFault::Name(NameFault::Zero));
        }
        let mut clean: Vec<u8> = Vec::with_capacity(raw.len().min(4096));
        let mut depth = 0_u64;
        for name in raw.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => {
                    let Some(left) = depth.checked_sub(1) else {
                        return Err(CleanFault::Name(NameFault::Outside));
                    };
                    depth = left;
                    clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                }
                _ if NAME_LEN_MAX < name.len() => return Err(CleanFault::Name(NameFault::NameTooLong)),
                _ => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                    depth += 1;
                    limits.check(Limited::Depth, depth).map_err(CleanFault::Limit)?;
                }
            }
        }
        Ok(Self(clean))
    }

    /// Returns the bytes, without a slash at either end.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the directory that holds the entry, and its name.
    pub(crate) fn split(&self) -> (&[u8], &OsStr) {
        let (directory, name) = split(&self.0);
        (directory, OsStr::from_bytes(name))
    }

    /// Says what the path stands for.
    pub(crate) fn stands_for(&self) -> Result<Stands<'_>, NameFault> {
        if self.0.is_empty() {
            return Ok(Stands::Root);
        }
        let (dirs, base) = self.split();
        for dir in dirs.split(|byte| *byte == b'/').map(OsStr::from_bytes) {
            match BranchName::of(dir) {
                BranchName::Plain(_) => (),
                BranchName::Whiteout(_) | BranchName::Opaque => return Err(NameFault::BelowWhiteout),
                BranchName::Reserved if dir == ".wh." => return Err(NameFault::WhiteoutOfNothing),
                BranchName::Reserved if dirs == PSEUDO_LINKS.as_bytes() => {
                    return Ok(Stands::PseudoLink(base));
                }
                BranchName::Reserved => return Ok(Stands::Bookkeeping),
            }
        }
        match BranchName::of(base) {
            BranchName::Plain(_) => Ok(Stands::Plain),
            BranchName::Opaque => Ok(Stands::Marker(None)),
            BranchName::Whiteout(victim) if victim == "." || victim == ".." => {
                Err(NameFault::WhiteoutOfNothing)
            }
            BranchName::Whiteout(victim) => Ok(Stands::Marker(Some(victim))),
            BranchName::Reserved if base == ".wh." => Err(NameFault::WhiteoutOfNothing),
            BranchName::Reserved => Ok(Stands::Bookkeeping),
        }
    }
}

impl CleanPath {
    /// Says what the path stands for in a directory of this form.
    pub(crate) fn stands_in(&self, form: Form) -> Result<Stands<'_>, NameFault> {
        if form == Form::Branch {
            return self.stands_for();
        }
        let is_plain = |name: &[u8]| matches!(BranchName::of(OsStr::from_bytes(name)), BranchName::Plain(_));
        if !self.0.split(|byte| *byte == b'/').all(is_plain) {
            return Err(NameFault::Reserved);
        }
        Ok(if self.0.is_empty() { Stands::Root } else { Stands::Plain })
    }
}

/// Cleans the path of an entry.
pub(crate) fn entry_path(raw: &[u8], limits: &Limits) -> Outcome<CleanPath> {
    limits.check(Limited::PathLen, raw.len() as u64)?;
    CleanPath::of(raw, limits).map_err(|fault| match fault {
        CleanFault::Name(fault) => ArchiveErrorKind::Name(fault),
        CleanFault::Limit(kind) => kind,
    })
}

/// Cleans the target of a hard link, which is a path of the same archive.
pub(crate) fn link_path(raw: &[u8], limits: &Limits) -> Outcome<CleanPath> {
    if raw.is_empty() {
        return Err(ArchiveErrorKind::LinkTarget(NameFault::Empty));
    }
    CleanPath::of(raw, limits).map_err(|fault| match fault {
        CleanFault::Name(fault) => ArchiveErrorKind::LinkTarget(fault),
        CleanFault::Limit(kind) => kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> Result<String, String> {
        match entry_path(raw.as_bytes(), &Limits { depth: 3, path_len_bytes: 300, ..Limits::default() }) {
            Ok(path) => Ok(String::from_utf8(path.as_bytes().to_vec()).unwrap()),
            Err(kind) => Err(kind.to_string()),
        }
    }

    #[test]
    fn paths_are_cleaned_and_stay_inside() {
        for (raw, expected) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("a", "a"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("a/b/..", "a"),
            ("a/..", ""),
            ("...", "..."),
            ("a/b/c/../../../x", "x"),
        ] {
            assert_eq!(clean(raw), Ok(expected.to_owned()), "{raw}");
        }
        let outside = Err("its path leads out of the layer".to_owned());
        for raw in ["..", "../a", "/..", "a/../..", "a/../../a", "./../a/b"] {
            assert_eq!(clean(raw), outside, "{raw}");
        }
        assert_eq!(clean("a\0b"), Err("its path holds a zero byte".to_owned()));
        assert_eq!(clean("a/b/c/d"), Err("more than 3 names in a path".to_owned()));
        assert_eq!(clean(&"a/../".repeat(100)), Err("more than 300 bytes of a path".to_owned()));
        assert_eq!(clean(&"n".repeat(256)), Err("its path has a name of more than 255 bytes".to_owned()));
        assert_eq!(clean(&"n".repeat(255)), Ok("n".repeat(255)));
    }

    #[test]
    fn a_tree_takes_no_name_that_unions_keep() {
        for (path, expected) in [
            ("", Ok(Stands::Root)),
            ("a/b", Ok(Stands::Plain)),
            ("a.wh.b", Ok(Stands::Plain)),
            (".wh", Ok(Stands::Plain)),
            (".wh.a", Err(NameFault::Reserved)),
            ("a/.wh.", Err(NameFault::Reserved)),
            (".wh.a/b", Err(NameFault::Reserved)),
            ("a/.wh..wh..opq", Err(NameFault::Reserved)),
            (".wh..wh.plnk/1.2", Err(NameFault::Reserved)),
        ] {
            assert_eq!(CleanPath(path.as_bytes().to_vec()).stands_in(Form::Tree), expected, "{path}");
        }
    }

    #[test]
    fn the_base_name_says_what_an_entry_stands_for() {
        let whiteout = |name| Ok(Stands::Marker(Some(OsStr::new(name))));
        let nothing = Err(NameFault::WhiteoutOfNothing);
        for (path, expected) in [
            ("", Ok(Stands::Root)),
            ("a/b", Ok(Stands::Plain)),
            (".wh", Ok(Stands::Plain)),
            (".wh.a", whiteout("a")),
            ("d/.wh.a", whiteout("a")),
            (".wh..baz", whiteout(".baz")),
            (".wh....", whiteout("...")),
            (".wh..wh..opq", Ok(Stands::Marker(None))),
            ("a/b/.wh..wh..opq", Ok(Stands::Marker(None))),
            (".wh..wh.aufs", Ok(Stands::Bookkeeping)),
            (".wh..wh.orph/x/y", Ok(Stands::Bookkeeping)),
            (".wh..wh.plnk", Ok(Stands::Bookkeeping)),
            (".wh..wh.plnk/1.2", Ok(Stands::PseudoLink(OsStr::new("1.2")))),
            (".wh..wh.plnk/.wh.x", Ok(Stands::PseudoLink(OsStr::new(".wh.x")))),
            (".wh..wh.plnk/1/2", Ok(Stands::Bookkeeping)),
            ("a/.wh..wh.plnk/1.2", Ok(Stands::Bookkeeping)),
            ("a/.wh..wh.b.1a2b", Ok(Stands::Bookkeeping)),
            ("a/.wh..wh.b.1a2b/c", Ok(Stands::Bookkeeping)),
            (".wh.", nothing),
            ("a/.wh.", nothing),
            ("a/.wh./b", nothing),
            (".wh..", nothing),
            (".wh...", nothing),
            (".wh.a/b", Err(NameFault::BelowWhiteout)),
            ("a/.wh..wh..opq/b", Err(NameFault::BelowWhiteout)),
        ] {
            let path = CleanPath(path.as_bytes().to_vec());
            assert_eq!(path.stands_for(), expected, "{path:?}");
        }
    }
}
