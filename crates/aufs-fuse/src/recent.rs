//! Files that were read or written a moment ago, for requests without a handle.
//!
//! In `noopen` mode the kernel neither opens nor closes: each READ and WRITE
//! names a node only. The last few files each keep a descriptor here, so that
//! a long file is not opened for each of its requests.

use std::sync::Arc;

use aufs_union::{OpenFile, Union, UnionError};
use parking_lot::Mutex;

use crate::numbers::Numbered;

/// Parts of the store, each with its own lock.
const PARTS: usize = 16;
/// Files each part keeps at most; a search looks at all of them.
const FILES_PER_PART_MAX: usize = 16;

/// Files by node number, the last used first.
type Part = Mutex<Vec<(u64, Arc<OpenFile>)>>;

/// Recently used files.
#[derive(Debug)]
pub(crate) struct RecentFiles {
    parts: [Part; PARTS],
    files_per_part: usize,
}

impl RecentFiles {
    /// Keeps at most `files_max` files, but one in each part.
    pub(crate) fn new(files_max: usize) -> Self {
        let files_per_part = (files_max / PARTS).clamp(1, FILES_PER_PART_MAX);
        Self { parts: Default::default(), files_per_part }
    }

    /// Returns the file of a number, opened now if it was not used lately.
    ///
    /// # Errors
    ///
    /// As [`Union::open_file`].
    pub(crate) fn get(&self, union: &Union, numbered: &Numbered) -> Result<Arc<OpenFile>, UnionError> {
        if let Some(file) = self.find(numbered.number) {
            return Ok(file);
        }
        let file = Arc::new(union.open_file(&numbered.node)?);
        self.keep(numbered.number, Arc::clone(&file));
        Ok(file)
    }

    /// Returns the file of a number if it was used lately.
    pub(crate) fn find(&self, number: u64) -> Option<Arc<OpenFile>> {
        let mut part = self.part(number).lock();
        let at = part.iter().position(|(it, _)| *it == number)?;
        part[..=at].rotate_right(1);
        part.first().map(|(_, file)| Arc::clone(file))
    }

    /// Keeps a file that was just opened; the one not used for longest goes.
    pub(crate) fn keep(&self, number: u64, file: Arc<OpenFile>) {
        let mut part = self.part(number).lock();
        let oldest = if self.files_per_part <= part.len() { part.pop() } else { None };
        part.insert(0, (number, file));
        drop(part);
        drop(oldest); // Closing a file is not for the time of the lock.
    }

    /// Drops the file of a number the kernel has forgotten.
    pub(crate) fn forget(&self, number: u64) {
        let mut part = self.part(number).lock();
        let gone = part.iter().position(|(it, _)| *it == number).map(|at| part.remove(at));
        drop(part);
        drop(gone);
    }

    /// Drops all files.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            let gone = std::mem::take(&mut *part.lock());
            drop(gone);
        }
    }

    /// Returns how many files are kept.
    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|it| it.lock().len()).sum()
    }

    fn part(&self, number: u64) -> &Part {
        // The lowest bits say where a number lies in its own table, and are as good as any.
        &self.parts[number as usize % PARTS]
    }
}
