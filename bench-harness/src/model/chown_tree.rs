//! A tree of a layer given to another user, as `chown -R USER` does: every entry below, then its directory.
//!
//! The change that copies a whole image tree up where a union copies whole files for a new owner.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, Uid, chownat};

use super::listing::{list, name_of, open_dir};
use super::marker::space_of;
use super::read_files::step_of;
use super::walk::{DIRS, walk};
use super::{Bed, Lower, Model, Timing};
use crate::cell::Cache;
use crate::driver::Driver;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::tree::{Shape, Tree};

/// A tree given away.
#[derive(Debug)]
pub struct ChownTree;

const SHAPE: Shape = Shape::Dirs(DIRS);

/// Who owns the tree afterwards; layers are root's.
const OWNER: u32 = 1;

/// Gives `name` below `parent` and all that lies in it to `owner`.
fn chown_tree(parent: BorrowedFd<'_>, name: &Path, owner: u32) -> Result<()> {
    let dir = open_dir(parent, name, name)?;
    let mut inner = Vec::new();
    list(dir.as_fd(), name, |entry, kind| {
        if kind == FileType::Directory {
            inner.push(name_of(entry));
            return Ok(());
        }
        chownat(&dir, entry, Some(Uid::from_raw(owner)), None, AtFlags::SYMLINK_NOFOLLOW)
            .at("chown entry of", name)
    })?;
    inner.iter().try_for_each(|it| chown_tree(dir.as_fd(), Path::new(it), owner))?;
    chownat(parent, name, Some(Uid::from_raw(owner)), None, AtFlags::SYMLINK_NOFOLLOW).at("chown", name)
}

/// Whether the user id `OWNER` exists in the namespace whose `/proc/self/uid_map` is `map`.
fn has_owner(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|it| it.parse::<u64>().unwrap_or(0));
        let (first, _, len) = (numbers.next(), numbers.next(), numbers.next());
        let (first, len) = (first.unwrap_or(u64::MAX), len.unwrap_or(0));
        first <= u64::from(OWNER) && u64::from(OWNER) < first.saturating_add(len)
    })
}

impl ChownTree {
    /// Checks owner and mode of `path` below the mount.
    fn check_owner(bed: &Bed<'_>, file: &FileSpec, path: &PathBuf) -> Result<()> {
        let shown = bed.view.root.join(path);
        let stat = std::fs::symlink_metadata(&shown).at("stat", &shown)?;
        if stat.uid() != OWNER {
            let what = format!("{} is owned by {} instead of {OWNER}", path.display(), stat.uid());
            return Err(bed.incorrect(file, what));
        }
        let lower = bed.layers.lower_path(&FileSpec { path: path.clone(), ..file.clone() });
        let below = std::fs::symlink_metadata(&lower).at("stat layer file", &lower)?;
        if below.uid() == OWNER || below.mode() != stat.mode() {
            let (mode, uid, is) = (below.mode(), below.uid(), stat.mode());
            let what = format!("{} has mode {is:o}; the layer's has {mode:o}, owner {uid}", path.display());
            return Err(bed.incorrect(file, what));
        }
        Ok(())
    }
}

impl Model for ChownTree {
    fn name(&self) -> &'static str {
        "chown-tree"
    }

    fn about(&self) -> &'static str {
        "A tree of a layer given to another user, entry by entry, as chown -R does."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn lower(&self) -> Lower {
        Lower::Tree(SHAPE)
    }

    fn refuses(&self, _driver: &dyn Driver) -> Option<&'static str> {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        (!has_owner(&map))
            .then_some("this user namespace has no second user id to give files to; run as root")
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            walk(bed.root(), &file.path)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let given = chown_tree(bed.root(), &file.path, OWNER);
        let elapsed_ns = elapsed_ns(start);
        given.map(|()| elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.expect_met(file, walk(bed.root(), &file.path)?)?;
        let tree = Tree::new(file, SHAPE);
        tree.dirs(&file.path).iter().try_for_each(|dir| Self::check_owner(bed, file, dir))?;
        for (path, number) in tree.files(&file.path).iter().step_by(step_of(extent)) {
            Self::check_owner(bed, file, path)?;
            bed.check_small(path, *number, file.len_bytes)?;
            bed.check_copied(&FileSpec { path: path.clone(), ..file.clone() })?;
        }
        Ok(())
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        chown_tree(bed.root(), &file.path, 0)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_path(file).map(|it| space_of(&it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_with_one_user_are_known() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n", false),
            ("0 1000 1\n1 100000 65536\n", true),
            ("0 100000 65536\n", true),
            ("5 1000 10\n", false),
            ("", false),
        ] {
            assert_eq!(has_owner(map), expected, "{map:?}");
        }
    }
}
