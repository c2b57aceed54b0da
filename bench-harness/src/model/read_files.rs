//! Many small files read once each: `open`, one `read`, `close`.
//!
//! With `cache = hot` two passes go before, so that the sample is the third:
//! from there on a server that answers neither opens nor reads has no part in it.

use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, openat};

use super::walk::DIRS;
use super::{Bed, Chill, Lower, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::tree::{Shape, Tree};

/// Many small files read.
#[derive(Debug)]
pub struct ReadFiles;

/// Of a checked tree, one file in so many is compared where not all are.
const SPREAD: usize = 16;

/// How many of the files of a tree a check of `extent` passes over with each step.
pub(super) fn step_of(extent: Extent) -> usize {
    if extent == Extent::Whole { 1 } else { SPREAD }
}

fn paths(file: &FileSpec) -> Vec<(PathBuf, u64)> {
    Tree::new(file, Shape::Dirs(DIRS)).files(&file.path)
}

/// Reads each of `paths`, and returns the bytes read.
fn pass(bed: &Bed<'_>, paths: &[(PathBuf, u64)], buffer: &mut [u8]) -> Result<u64> {
    let mut sum = 0;
    for (path, _) in paths {
        let open = openat(bed.root(), path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let open = open.at("open", path)?;
        sum += rustix::io::read(&open, &mut *buffer).at("read", path)? as u64;
    }
    Ok(sum)
}

impl Model for ReadFiles {
    fn name(&self) -> &'static str {
        "read-files"
    }

    fn about(&self) -> &'static str {
        "Each of many small files opened, read and closed; hot is the third pass over them."
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

    fn chills(&self) -> Chill {
        Chill::Data
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            let (paths, mut buffer) = (paths(file), vec![0; 64 << 10]);
            pass(bed, &paths, &mut buffer)?;
            pass(bed, &paths, &mut buffer)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let (paths, mut buffer) = (paths(file), vec![0; 64 << 10]);
        let start = Instant::now();
        let sum = pass(bed, &paths, &mut buffer);
        let elapsed_ns = elapsed_ns(start);
        let (sum, expected) = (sum?, u64::from(file.entries) * file.len_bytes.min(64 << 10));
        if sum != expected {
            return Err(bed.incorrect(file, format!("{sum} bytes were read instead of {expected}")));
        }
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let files = paths(file);
        let mut some = files.iter().step_by(step_of(extent));
        some.try_for_each(|(path, number)| bed.check_small(path, *number, file.len_bytes))?;
        bed.check_not_copied(file)
    }
}
