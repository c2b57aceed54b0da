//! A walk of a tree, as `find -size` does: each directory listed, each entry looked up and its attributes read.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, statat};

use super::listing::{list, name_of, open_dir};
use super::{Bed, Chill, Lower, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::tree::Shape;

/// Directories that the files of a walked tree are spread over.
pub(super) const DIRS: u32 = 100;

/// A walk.
#[derive(Debug)]
pub struct Walk;

/// What a walk has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Met {
    /// Files.
    pub files: u64,
    /// Directories below the one where it began.
    pub dirs: u64,
    /// Sum of the files' lengths.
    pub len_bytes: u64,
}

impl Bed<'_> {
    /// An error where a walk has not met what the tree `file` holds.
    pub(super) fn expect_met(&self, file: &FileSpec, met: Met) -> Result<()> {
        let files = u64::from(file.entries);
        let dirs = u64::from(file.entries.min(DIRS));
        let expected = Met { files, dirs, len_bytes: files * file.len_bytes };
        if met == expected {
            return Ok(());
        }
        Err(self.incorrect(file, format!("a walk met {met:?} instead of {expected:?}")))
    }
}

/// Walks the tree `name` below `dir`; `path` names it in errors.
pub(super) fn walk(dir: BorrowedFd<'_>, path: &Path) -> Result<Met> {
    let mut met = Met::default();
    visit(dir, path, &mut met)?;
    Ok(met)
}

fn visit(parent: BorrowedFd<'_>, name: &Path, met: &mut Met) -> Result<()> {
    let dir = open_dir(parent, name, name)?;
    let mut inner = Vec::new();
    list(dir.as_fd(), name, |entry, _| {
        let stat = statat(&dir, entry, AtFlags::SYMLINK_NOFOLLOW).at("stat entry of", name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            met.dirs += 1;
            inner.push(name_of(entry));
        } else {
            met.files += 1;
            met.len_bytes += u64::try_from(stat.st_size).unwrap_or_default();
        }
        Ok(())
    })?;
    inner.iter().try_for_each(|name| visit(dir.as_fd(), Path::new(name), met))
}

impl Model for Walk {
    fn name(&self) -> &'static str {
        "walk"
    }

    fn about(&self) -> &'static str {
        "A tree listed, and each of its entries looked at (lstat)."
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Dirs(DIRS))
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn chills(&self) -> Chill {
        Chill::Names
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            walk(bed.root(), &file.path)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let met = walk(bed.root(), &file.path);
        let elapsed_ns = elapsed_ns(start);
        bed.expect_met(file, met?)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        // The sample has counted files, directories and bytes; what is left is that nothing was copied up.
        bed.check_not_copied(file)
    }
}
