//! `git status` of a repository that lies in a layer.
//!
//! The index of the layer knows none of its files, as in an image that was built elsewhere: it holds other
//! inode numbers and times. The first status (`fresh`) hence reads every file, and writes the index, which is
//! a new file beside the old one, renamed over it. The next (`hot`) looks at each file and reads none.

use std::path::PathBuf;
use std::time::Instant;

use super::walk::DIRS;
use super::{Bed, Lower, Model, Timing};
use crate::cell::Cache;
use crate::driver::Driver;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::repository::{INDEX, has_git, same_index, status};
use crate::tree::Shape;

/// `git status`.
#[derive(Debug)]
pub struct GitStatus;

fn shown(bed: &Bed<'_>, file: &FileSpec) -> PathBuf {
    bed.view.root.join(&file.path)
}

/// Runs it once; anything but silence is an error.
fn timed(bed: &Bed<'_>, file: &FileSpec) -> Result<u64> {
    let dir = shown(bed, file);
    let start = Instant::now();
    let said = status(&dir);
    let elapsed_ns = elapsed_ns(start);
    match said?.lines().next() {
        None => Ok(elapsed_ns),
        Some(line) => Err(bed.incorrect(file, format!("git finds a change where there is none: {line:?}"))),
    }
}

impl Model for GitStatus {
    fn name(&self) -> &'static str {
        "git-status"
    }

    fn about(&self) -> &'static str {
        "git status of a repository of a layer: fresh reads all files and writes the index, hot looks at them only."
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Dirs(DIRS))
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn refuses(&self, _driver: &dyn Driver) -> Option<&'static str> {
        (!has_git()).then_some("git is not installed; apt-get install git")
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            timed(bed, file)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        timed(bed, file).map(Timing::from)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        if same_index(&shown(bed, file), &bed.layers.lower_path(file))? {
            return Err(bed.incorrect(file, "the index is still that of the layer".to_owned()));
        }
        match bed.upper_path(file).map(|it| it.join(INDEX).symlink_metadata()) {
            Some(Err(error)) => Err(bed.incorrect(file, format!("no index on the writable branch: {error}"))),
            _ => Ok(()),
        }
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        // Else the next block would find the index of this one.
        let (from, to) = (bed.layers.lower_path(file).join(INDEX), shown(bed, file).join(INDEX));
        std::fs::copy(&from, &to).map(drop).at("copy index to", &to)
    }
}
