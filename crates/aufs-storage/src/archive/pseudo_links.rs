//! Files that only hard links of the same layer refer to.
//!
//! Docker up to 1.3 put aufs's pseudo-links into layers: `.wh..wh.plnk/KEY` has the data, and its names are hard links
//! to it. They are kept in a directory of the branch that no entry can name, and each hard link becomes one of the
//! file, so that they stay one file; Docker makes a copy of each.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aufs_host::remove::remove_tree;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::{ArchiveErrorKind, Outcome, host};
use super::form::Form;
use super::parents::open_beneath;

/// Where they are kept; entries with such a name are left out at the branch's root.
const DIRECTORY: &str = ".wh..wh.apply";

/// A file that is kept.
struct Kept {
    name: String,
    len: u64,
    is_used: bool,
}

/// The files that are kept for hard links to them.
pub(crate) struct PseudoLinks<'r> {
    root: BorrowedFd<'r>,
    directory: Option<OwnedFd>,
    kept: HashMap<OsString, Kept>,
    count: u64,
}

impl<'r> PseudoLinks<'r> {
    pub(crate) fn new(root: BorrowedFd<'r>) -> Self {
        Self { root, directory: None, kept: HashMap::new(), count: 0 }
    }

    /// Says where the file `key` of `len` bytes is to be made; it takes the place of an earlier one.
    pub(crate) fn place(&mut self, key: &OsStr, len: u64) -> Outcome<(BorrowedFd<'_>, String)> {
        let name = self.count.to_string();
        self.count += 1;
        self.kept.insert(key.to_owned(), Kept { name: name.clone(), len, is_used: false });
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => none.insert(make_directory(self.root)?),
        };
        Ok((OwnedFd::as_fd(directory), name))
    }

    /// Makes `name` in `parent` a hard link to the file `key`, and returns the bytes that this adds to the layer.
    pub(crate) fn link(
        &mut self,
        key: &OsStr,
        mut link: impl FnMut(BorrowedFd<'_>, &OsStr) -> Outcome<()>,
    ) -> Outcome<u64> {
        let (Some(kept), Some(directory)) = (self.kept.get_mut(key), &self.directory) else {
            return Err(ArchiveErrorKind::PseudoLinkUnknown);
        };
        link(directory.as_fd(), OsStr::new(&kept.name))?;
        let is_first = !std::mem::replace(&mut kept.is_used, true);
        Ok(if is_first { kept.len } else { 0 })
    }

    /// Takes away what is kept; the hard links to it stay.
    pub(crate) fn clear(&mut self) -> Outcome<()> {
        if self.directory.take().is_none() {
            return Ok(());
        }
        remove_tree(self.root, OsStr::new(DIRECTORY)).map_err(host("unlinkat"))
    }
}

/// Makes the directory, in place of what an apply that was killed may have left.
fn make_directory(root: BorrowedFd<'_>) -> Outcome<OwnedFd> {
    match fs::unlinkat(root, DIRECTORY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => (),
        Err(_) => remove_tree(root, OsStr::new(DIRECTORY)).map_err(host("unlinkat"))?,
    }
    fs::mkdirat(root, DIRECTORY, Mode::RWXU).map_err(host("mkdirat"))?;
    open_beneath(root, OsStr::new(DIRECTORY), OFlags::PATH | OFlags::DIRECTORY, Form::Branch)
        .map_err(host("openat2"))
}
