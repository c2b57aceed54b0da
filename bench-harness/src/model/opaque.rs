//! A tree of a layer removed and its directory made anew, as `rm -r DIR; mkdir DIR`: the new one must hide the old.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use rustix::fs::{Mode, mkdirat};

use super::marker::space_of;
use super::remove_tree::{put_back, remove};
use super::walk::{DIRS, Met, walk};
use super::{Bed, Lower, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::tree::Shape;

/// A directory made anew.
#[derive(Debug)]
pub struct Opaque;

/// Mode of the new directory, which the layers' has not.
const MODE: u32 = 0o700;

impl Model for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn about(&self) -> &'static str {
        "A tree of a layer removed, one file after the other, and its directory made anew, which is empty."
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

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            walk(bed.root(), &file.path)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let removed = remove(bed.root(), &file.path);
        let made = mkdirat(bed.root(), &file.path, Mode::from_raw_mode(MODE));
        let elapsed_ns = elapsed_ns(start);
        removed?;
        made.at("create directory", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let met = walk(bed.root(), &file.path)?;
        if met != Met::default() {
            return Err(bed.incorrect(file, format!("a walk met {met:?} in a new directory")));
        }
        // How a branch says that a directory is opaque is each union's own; that it has the directory is not.
        for root in [Some(&bed.view.root), bed.view.upper.as_ref()].into_iter().flatten() {
            let path = root.join(&file.path);
            let mode = std::fs::symlink_metadata(&path).at("stat", &path)?.permissions().mode() & 0o7777;
            if mode != MODE {
                return Err(bed.incorrect(file, format!("has mode {mode:o} instead of {MODE:o}")));
            }
        }
        Ok(())
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let path = bed.view.root.join(&file.path);
        std::fs::remove_dir(&path).at("remove", &path)?;
        put_back(bed, file)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_path(file).map(|it| space_of(&it))
    }
}
