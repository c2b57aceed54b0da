//! What a directory is that archives are made of and unpacked into.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io;

use super::name::join_bytes;
use super::parents::open_in_root;

/// What a directory is.
///
/// |                       | branch                     | tree                                              |
/// |-----------------------|----------------------------|---------------------------------------------------|
/// | who sees it           | nobody, until it is whole  | programs, all the time                            |
/// | `.wh.NAME`            | a whiteout                 | no name that an archive may bring                 |
/// | an entry that exists  | goes, whatever it is       | is replaced at once; a directory only merges      |
/// | a new file            | grows under its name       | gets its name when it is whole                    |
/// | what is mounted in it | an accident, and an error  | belongs to it                                     |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A layer's own directory.
    #[default]
    Branch,
    /// What a union shows, or any directory of the host.
    Tree,
}

/// A directory to unpack into, and what its symbolic links take for the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'r> {
    pub(crate) root: BorrowedFd<'r>,
    /// The directory itself.
    pub(crate) base: BorrowedFd<'r>,
    /// Its path from the root, without a slash in front.
    pub(crate) path: &'r [u8],
    pub(crate) form: Form,
}

impl<'r> Ground<'r> {
    /// A directory that is its own root.
    pub(crate) fn whole(root: BorrowedFd<'r>, form: Form) -> Self {
        Self { root, base: root, path: b"", form }
    }

    /// Opens what a process with this root sees at `path` below the directory.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        open_in_root(self.root, &join_bytes(self.path, path), flags, self.form)
    }
}
