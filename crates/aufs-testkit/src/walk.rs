//! Paths and permissions on a union without a mount, as the VFS has them.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use aufs_union::attr::Attr;
use aufs_union::{Found, Node, Union};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::subject::{Fault, Final, Outcome};

/// As the kernel's `MAXSYMLINKS`.
const SYMLINKS_MAX: u32 = 40;

/// Rights to ask for, as in one digit of a mode.
pub const READ: u32 = 4;
/// See [`READ`].
pub const WRITE: u32 = 2;
/// See [`READ`].
pub const SEARCH: u32 = 1;

/// Who makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group; there are no others.
    pub gid: u32,
}

impl Caller {
    /// Whether no permission is checked.
    pub fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Whether the caller counts as the owner of `attr`.
    pub fn owns(self, attr: &Attr) -> bool {
        self.is_root() || self.uid == attr.uid
    }

    /// Refuses with `EACCES` what the permission bits do not grant.
    ///
    /// # Errors
    ///
    /// `EACCES`. Root may all but execute a file that nobody may.
    pub fn may(self, attr: &Attr, rights: u32) -> Outcome<()> {
        let granted = if self.is_root() {
            let can_search = attr.file_type() == FileType::Directory || attr.mode & 0o111 != 0;
            if can_search { 7 } else { 6 }
        } else if self.uid == attr.uid {
            attr.mode >> 6
        } else if self.gid == attr.gid {
            attr.mode >> 3
        } else {
            attr.mode
        };
        if rights & !(granted & 7) == 0 { Ok(()) } else { Err(Errno::ACCESS.into()) }
    }

    /// Whether `victim` may be removed from `dir`: write permission, and the sticky bit's rule.
    ///
    /// # Errors
    ///
    /// `EACCES`; `EPERM` for the sticky bit.
    pub fn may_delete(self, dir: &Attr, victim: &Attr) -> Outcome<()> {
        self.may(dir, WRITE | SEARCH)?;
        let is_sticky = dir.mode & 0o1000 != 0;
        if is_sticky && !self.is_root() && self.uid != dir.uid && self.uid != victim.uid {
            return Err(Errno::PERM.into());
        }
        Ok(())
    }
}

/// Where a path ends: a name in a directory, and what it shows.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directories walked through; the last one holds `name`.
    pub dirs: Vec<Found>,
    /// The last name; none when the path ends at a directory by `.`, `..` or the root.
    pub name: Option<OsString>,
    /// What is there.
    pub found: Option<Found>,
}

impl Place {
    /// What is there, or `ENOENT`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub fn existing(self) -> Outcome<Found> {
        self.found.ok_or(Fault::Errno(Errno::NOENT))
    }

    /// The directory that holds the name.
    ///
    /// # Errors
    ///
    /// [`Fault::Broken`] when there is none; [`walk`] never returns that.
    pub fn dir(&self) -> Outcome<&Found> {
        self.dirs.last().ok_or_else(|| Fault::Broken("a path without directories".to_owned()))
    }

    /// The last name, or `errno` where the path has none.
    ///
    /// # Errors
    ///
    /// `errno`.
    pub fn name_or(&self, errno: Errno) -> Outcome<&OsStr> {
        self.name.as_deref().ok_or(Fault::Errno(errno))
    }
}

/// Walks `path` from the root, following symlinks but perhaps the last.
///
/// # Errors
///
/// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, and what the union's lookup reports.
/// A symlink to an absolute path leads out of the union: [`Fault::Unsupported`].
pub fn walk(union: &Union, caller: Caller, path: &str, last: Final) -> Outcome<Place> {
    if path.is_empty() {
        return Err(Errno::NOENT.into());
    }
    let mut left: Vec<OsString> = parts(path.as_ref());
    let mut dirs = vec![found(union, union.root())?];
    let mut followed = 0;
    while let Some(name) = left.pop() {
        let is_last = left.is_empty();
        let dir = dirs.last().cloned().ok_or_else(|| Fault::Broken("walked above the root".to_owned()))?;
        if dir.node.file_type() != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        caller.may(&dir.attr, SEARCH)?;
        if name == "." || name == ".." {
            if name == ".." && 1 < dirs.len() {
                dirs.pop();
            }
            continue;
        }
        let next = union.lookup(&dir.node, &name).map_err(errno_of)?;
        let is_link = next.as_ref().is_some_and(|it| it.node.file_type() == FileType::Symlink);
        match next {
            Some(link) if is_link && (!is_last || last == Final::Follow) => {
                followed += 1;
                if SYMLINKS_MAX < followed {
                    return Err(Errno::LOOP.into());
                }
                let target = union.read_link(&link.node).map_err(errno_of)?;
                if target.as_encoded_bytes().first() == Some(&b'/') {
                    return Err(Fault::Unsupported("an absolute symlink leads out of the union"));
                }
                left.extend(parts(&target));
            }
            next if is_last => return Ok(Place { dirs, name: Some(name), found: next }),
            Some(next) => dirs.push(next),
            None => return Err(Errno::NOENT.into()),
        }
    }
    let end = dirs.last().cloned();
    Ok(Place { dirs, name: None, found: end })
}

/// The components of `path`, the first one last; a final slash asks for the directory itself.
fn parts(path: &OsStr) -> Vec<OsString> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_bytes();
    let mut parts: Vec<OsString> = bytes
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect();
    if bytes.last() == Some(&b'/') {
        parts.push(OsString::from("."));
    }
    parts.reverse();
    parts
}

/// A node with its attributes at this moment.
///
/// # Errors
///
/// What the union reports.
pub fn found(union: &Union, node: &Arc<Node>) -> Outcome<Found> {
    Ok(Found { node: Arc::clone(node), attr: union.attributes(node).map_err(errno_of)? })
}

/// What a mount would report for `error`.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn errno_of(error: aufs_union::UnionError) -> Fault {
    Fault::Errno(error.errno())
}
