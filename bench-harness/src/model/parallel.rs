//! Sixteen threads in sixteen directories, against one thread that does the same in sixteen others.
//!
//! Each thread reads every file of its directory, and creates, writes and
//! removes a new one beside each. The sample is the time of the sixteen; the
//! metric says how much more they did in a second than the one.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::threads::time_all;
use super::{Bed, Lower, Model, Timing, close};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::run::journal::Metric;
use crate::tree::{Shape, Tree};

/// Threads, and directories of each half.
const THREADS: u32 = 16;

/// The directories of both halves.
const SHAPE: Shape = Shape::Dirs(2 * THREADS);

/// Many threads.
#[derive(Debug)]
pub struct Parallel;

/// What one thread does to its files.
fn work(root: BorrowedFd<'_>, paths: &[PathBuf], len_bytes: u64) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    for path in paths {
        let open = openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
        let len = rustix::io::read(&open, &mut buffer[..]).at("read", path)?;
        if len as u64 != len_bytes.min(buffer.len() as u64) {
            let what = BenchErrorKind::Incorrect(format!("{len} bytes were read"));
            return Err(BenchError::new("check", path, what));
        }
        let fresh = path.with_extension("new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let open = openat(root, &fresh, flags, Mode::from_raw_mode(0o644)).at("create", &fresh)?;
        rustix::io::write(&open, &buffer[..len]).at("write", &fresh)?;
        close(open).at("close", &fresh)?;
        unlinkat(root, &fresh, AtFlags::empty()).at("unlink", &fresh)?;
    }
    Ok(())
}

/// Time that one thread takes for the directories `sets`, in ns.
fn time_one(root: BorrowedFd<'_>, sets: &[Vec<PathBuf>], len_bytes: u64) -> Result<u64> {
    let start = Instant::now();
    let done = sets.iter().try_for_each(|paths| work(root, paths, len_bytes));
    let elapsed_ns = elapsed_ns(start);
    done.map(|()| elapsed_ns)
}

/// The files of each directory.
fn sets(file: &FileSpec) -> Vec<Vec<PathBuf>> {
    let mut sets = vec![Vec::new(); 2 * THREADS as usize];
    for (index, (path, _)) in Tree::new(file, SHAPE).files(&file.path).into_iter().enumerate() {
        sets[index % (2 * THREADS as usize)].push(path);
    }
    sets
}

impl Model for Parallel {
    fn name(&self) -> &'static str {
        "parallel"
    }

    fn about(&self) -> &'static str {
        "Sixteen threads that read, create and remove in a directory each; scaling_permille in metrics.csv."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn lower(&self) -> Lower {
        Lower::Tree(SHAPE)
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let (sets, len_bytes) = (sets(file), file.len_bytes);
        let (many, one) = sets.split_at(THREADS as usize);
        let all = || time_all(many.len(), |number| work(bed.root(), &many[number], len_bytes));
        // Whoever comes first warms the server: each in every other block.
        let (many_ns, one_ns) = if bed.block.is_multiple_of(2) {
            let many_ns = all()?;
            (many_ns, time_one(bed.root(), one, len_bytes)?)
        } else {
            let one_ns = time_one(bed.root(), one, len_bytes)?;
            (all()?, one_ns)
        };
        let scaling = one_ns.saturating_mul(1000) / many_ns.max(1);
        Ok(Timing { elapsed_ns: many_ns, open_ns: None, metrics: vec![(Metric::Scaling, scaling)] })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        for paths in sets(file) {
            let Some(dir) = paths.first().and_then(|it| it.parent()) else { continue };
            let n = count(&bed.view.root.join(dir))?;
            if n != paths.len() {
                return Err(bed.incorrect(file, format!("{} has {n} files afterwards", dir.display())));
            }
        }
        Ok(())
    }
}

fn count(dir: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(dir).at("read directory", dir)?.count())
}
