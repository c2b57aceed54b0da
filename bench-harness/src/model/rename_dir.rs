//! A directory of a layer renamed, by `rename(2)` or, where the union refuses with EXDEV, as `mv` does it then.
//!
//! Overlayfs without `redirect_dir` and most unions refuse. What follows is `mv`'s copy and removal, one file
//! after the other, so that the time of such a driver is that of a copy; the metric `exdev` says which it was.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, copy_file_range, fchmod, fchown,
    futimens, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use super::listing::{list, name_of, open_dir};
use super::marker::space_of;
use super::read_files::step_of;
use super::rename::moved;
use super::walk::{Met, walk};
use super::{Bed, Lower, Model, Timing, close};
use crate::cell::Cache;
use crate::error::{At as _, BenchError, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::run::journal::Metric;
use crate::tree::{Shape, Tree};

/// A lower directory renamed.
#[derive(Debug)]
pub struct RenameDir;

/// Copies the file `name` with mode, owner and times.
fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &Path) -> std::io::Result<()> {
    let source = File::from(openat(from, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = File::from(openat(to, name, flags, Mode::from_raw_mode(0o600))?);
    let stat = source.metadata()?;
    while 0 < copy_file_range(&source, None, &target, None, 1 << 30)? {}
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.atime(), tv_nsec: stat.atime_nsec() },
        last_modification: Timespec { tv_sec: stat.mtime(), tv_nsec: stat.mtime_nsec() },
    };
    futimens(&target, &times)?;
    fchown(&target, Some(Uid::from_raw(stat.uid())), Some(Gid::from_raw(stat.gid())))?;
    fchmod(&target, Mode::from_raw_mode(stat.mode() & 0o7777))?;
    close(target)
}

/// What `mv` does where it cannot rename: the files copied, then the directory removed with all in it.
fn copy_and_remove(bed: &Bed<'_>, from: &Path, to: &Path) -> Result<()> {
    let source = open_dir(bed.root(), from, from)?;
    mkdirat(bed.root(), to, Mode::from_raw_mode(0o700)).at("create directory", to)?;
    let target = open_dir(bed.root(), to, to)?;
    let mut names = Vec::new();
    list(source.as_fd(), from, |entry, _| {
        names.push(name_of(entry));
        Ok(())
    })?;
    // All of it is timed: paths are made for errors only.
    let failed = |op, it: &OsString, error: std::io::Error| BenchError::new(op, from.join(it), error);
    names.iter().try_for_each(|it| {
        copy_file(&source, &target, Path::new(it)).map_err(|error| failed("copy", it, error))
    })?;
    chmodat(bed.root(), to, Mode::from_raw_mode(0o755), AtFlags::empty()).at("chmod", to)?;
    names.iter().try_for_each(|it| {
        unlinkat(&source, it, AtFlags::empty()).map_err(|errno| failed("unlink", it, errno.into()))
    })?;
    unlinkat(bed.root(), from, AtFlags::REMOVEDIR).at("remove directory", from)
}

/// Renames, or copies where that is refused, and says whether it was.
fn move_dir(bed: &Bed<'_>, from: &Path, to: &Path) -> Result<bool> {
    match renameat(bed.root(), from, bed.root(), to) {
        Err(Errno::XDEV) => copy_and_remove(bed, from, to).map(|()| true),
        renamed => renamed.at("rename", from).map(|()| false),
    }
}

impl Model for RenameDir {
    fn name(&self) -> &'static str {
        "rename-dir"
    }

    fn about(&self) -> &'static str {
        "A directory of a layer renamed; where that gives EXDEV its files are copied and removed, as mv does, and \
         the metric exdev is 1."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Flat)
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            walk(bed.root(), &file.path)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let to = moved(file);
        let start = Instant::now();
        let was_copied = move_dir(bed, &file.path, &to.path);
        let elapsed_ns = elapsed_ns(start);
        let metrics = vec![(Metric::Exdev, u64::from(was_copied?))];
        Ok(Timing { elapsed_ns, open_ns: None, metrics })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_gone(file)?;
        bed.check_marked(file)?;
        let to = moved(file);
        let met = walk(bed.root(), &to.path)?;
        let files = u64::from(file.entries);
        let expected = Met { files, dirs: 0, len_bytes: files * file.len_bytes };
        if met != expected {
            return Err(bed.incorrect(&to, format!("a walk met {met:?} instead of {expected:?}")));
        }
        if bed.upper_path(&to).is_some_and(|it| !it.is_dir()) {
            return Err(bed.incorrect(&to, "is no directory of the writable branch".to_owned()));
        }
        let all = Tree::new(file, Shape::Flat).files(&to.path);
        all.iter()
            .step_by(step_of(extent))
            .try_for_each(|(path, number)| bed.check_small(path, *number, file.len_bytes))
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        move_dir(bed, &moved(file).path, &file.path).map(|_| ())
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        Some(space_of(&bed.upper_path(&moved(file))?) + bed.marker_bytes(file)?)
    }
}
