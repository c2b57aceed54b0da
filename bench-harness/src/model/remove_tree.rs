//! A tree of a layer removed, as `rm -r` does: each directory listed, each file unlinked, then the directory.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::listing::{list, name_of, open_dir};
use super::walk::DIRS;
use super::{Bed, Lower, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::tree::{Shape, Tree};

/// A tree removed.
#[derive(Debug)]
pub struct RemoveTree;

/// Removes `name` below `parent` and all that lies in it.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let dir = open_dir(parent, name, name)?;
    let mut entries = Vec::new();
    // All names first: what is removed while a directory is read may be met or not.
    list(dir.as_fd(), name, |entry, kind| {
        entries.push((name_of(entry), kind));
        Ok(())
    })?;
    for (entry, kind) in entries {
        if kind == FileType::Directory {
            remove(dir.as_fd(), Path::new(&entry))?;
        } else {
            unlinkat(&dir, &entry, AtFlags::empty()).at("unlink", Path::new(&entry))?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).at("remove directory", name)
}

/// Makes the removed tree `file` again, with the contents of its layer.
pub(super) fn put_back(bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
    let (root, tree) = (&bed.view.root, Tree::new(file, Shape::Dirs(DIRS)));
    for dir in tree.dirs(&file.path) {
        std::fs::create_dir(root.join(&dir)).at("create", &dir)?;
    }
    tree.files(&file.path).into_iter().try_for_each(|(path, number)| {
        std::fs::write(root.join(&path), bed.pattern.small(number, file.len_bytes)).at("write", &path)
    })
}

impl Model for RemoveTree {
    fn name(&self) -> &'static str {
        "remove-tree"
    }

    fn about(&self) -> &'static str {
        "A tree of a layer removed, one file after the other."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Dirs(DIRS))
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let removed = remove(bed.root(), &file.path);
        let elapsed_ns = elapsed_ns(start);
        removed.map(|()| elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        bed.check_gone(file)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        put_back(bed, file)
    }
}
