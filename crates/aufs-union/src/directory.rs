//! Lists a merged directory.

use std::ffi::OsString;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::error::{During, Outcome, UnionError};
use crate::index::FIRST_OFFSET;
use crate::node::{DirState, Node};
use crate::union::Union;

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: OsString,
    /// Its inode number, the same as `stat` reports.
    pub ino: u64,
    /// Its type.
    pub file_type: FileType,
    /// Where the listing goes on after this entry; stable while other names come and go.
    pub next_offset: u64,
}

impl Union {
    /// Returns at most `limit` entries of `dir` from `offset` on, without `.` and `..`.
    ///
    /// Offset 0 is the beginning; else it must be the `next_offset` of an entry.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`; else what reading the branches reports.
    pub fn read_directory(
        &self,
        dir: &Arc<Node>,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<DirEntry>, UnionError> {
        self.list(dir, offset, limit).during_on("list", dir)
    }

    /// Whether listing `dir` needs no reading of branches any more.
    pub fn is_indexed(&self, dir: &Arc<Node>) -> bool {
        !self.revalidate && dir.lock_dir().is_ok_and(|state| state.is_indexed || state.gone)
    }

    fn list(&self, dir: &Arc<Node>, offset: u64, limit: usize) -> Outcome<Vec<DirEntry>> {
        let mut state = dir.lock_dir()?;
        if state.gone {
            return Ok(Vec::new());
        }
        if self.revalidate && offset <= FIRST_OFFSET {
            self.merge_root_again(dir, &mut state)?;
            state.forget_index();
        }
        let mut entries = Vec::new();
        self.index(dir, &mut state)?.visit_from(offset, |at, name, held| {
            entries.push(DirEntry {
                name: name.to_owned(),
                ino: held.ino,
                file_type: held.file_type,
                next_offset: at + 1,
            });
            entries.len() < limit
        });
        // A name with other links may have been copied up under one of those.
        for entry in &mut entries {
            if entry.file_type != FileType::Directory
                && let Some(node) = state.index.child(&entry.name)
            {
                entry.ino = node.ino();
            }
        }
        Ok(entries)
    }

    /// Whether `dir` shows any entry.
    pub(crate) fn is_empty_locked(&self, dir: &Arc<Node>, state: &mut DirState) -> Outcome<bool> {
        if self.revalidate {
            state.forget_index();
        }
        let mut is_empty = true;
        self.index(dir, state)?.visit_from(0, |_, _, _| {
            is_empty = false;
            false
        });
        Ok(is_empty)
    }
}
