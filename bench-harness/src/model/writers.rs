//! Several writers at once: each copies files up that no other touches, one right after the other.
//!
//! The files are the same number for any number of threads, and the last thread ends the sample, so that the
//! time by one thread divided by that by four is what four gain.

use std::os::unix::fs::FileExt as _;

use rustix::fs::OFlags;

use super::threads::time_all;
use super::{Bed, Chill, Lower, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::run::journal::Metric;
use crate::tree::{Shape, Tree};

/// Directories of the tree: a number of threads that divides it gives each directories of its own.
const DIRS: u32 = 64;

/// Several writers.
#[derive(Debug)]
pub struct Writers;

/// The files of the tree `file`, as single ones.
fn files(file: &FileSpec) -> Vec<FileSpec> {
    let all = Tree::new(file, Shape::Dirs(DIRS)).files(&file.path);
    all.into_iter().map(|(path, number)| FileSpec { path, number, entries: 0, ..file.clone() }).collect()
}

/// The first write to `file`: open, one byte, close.
fn write(bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
    let open = bed.open(file, OFlags::RDWR)?;
    open.write_all_at(&[bed.stamp()], 0).at("write", &file.path)?;
    close(open).at("close", &file.path)
}

impl Model for Writers {
    fn name(&self) -> &'static str {
        "writers"
    }

    fn about(&self) -> &'static str {
        "Threads that each write a byte to files of a layer of their own, until the last is done; writes_per_s in metrics.csv."
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Dirs(DIRS))
    }

    fn takes_threads(&self) -> bool {
        true
    }

    fn chills(&self) -> Chill {
        Chill::Data
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        files(file).iter().try_for_each(|it| bed.warm(it))
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let (files, n) = (files(file), bed.params.threads.max(1) as usize);
        let own = |thread: usize| files.iter().skip(thread).step_by(n);
        let elapsed_ns = time_all(n, |thread| own(thread).try_for_each(|it| write(bed, it)))?;
        let per_s = (files.len() as u64).saturating_mul(1_000_000_000) / elapsed_ns.max(1);
        Ok(Timing { elapsed_ns, open_ns: None, metrics: vec![(Metric::Writes, per_s)] })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        files(file).iter().try_for_each(|it| bed.check_written(it, &[bed.stamp()], extent))
    }
}
