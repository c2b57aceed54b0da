//! Many small files unpacked as `tar` does as root, in this process, so that no start of a program is measured.
//!
//! For each directory `mkdir`; for each file `open(O_CREAT|O_EXCL)`, `write`,
//! `utimensat`, `fchown`, `fchmod`, `close`; at the end mode and times of the
//! directories, which the files have changed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, fchmod, fchown, futimens, mkdirat,
    openat, utimensat,
};

use super::read_files::step_of;
use super::walk::{DIRS, walk};
use super::{Bed, Lower, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};
use crate::tree::{Shape, Tree};

/// An archive unpacked.
#[derive(Debug)]
pub struct Untar;

/// Seconds since 1970 that the archive gives its files.
const MTIME_S: i64 = 1_600_000_000;

/// An archive: directories, and files with their contents, in the order of unpacking.
struct Archive {
    dirs: Vec<PathBuf>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Archive {
    fn of(bed: &Bed<'_>, file: &FileSpec) -> Self {
        let tree = Tree::new(file, Shape::Dirs(DIRS));
        let mut files = tree.files(&file.path);
        // A directory's files follow each other, as an archive has them.
        files.sort_by(|a, b| (a.0.parent(), a.1).cmp(&(b.0.parent(), b.1)));
        let content = |(path, number)| (path, bed.pattern.small(number, file.len_bytes));
        Self { dirs: tree.dirs(&file.path), files: files.into_iter().map(content).collect() }
    }
}

fn times() -> Timestamps {
    let mtime = Timespec { tv_sec: MTIME_S, tv_nsec: 0 };
    Timestamps { last_access: mtime, last_modification: mtime }
}

fn unpack_file(bed: &Bed<'_>, path: &PathBuf, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut open = File::from(openat(bed.root(), path, flags, Mode::from_raw_mode(0o600))?);
    open.write_all(content)?;
    futimens(&open, &times())?;
    fchown(&open, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fchmod(&open, Mode::from_raw_mode(0o644))?;
    close(open)
}

fn unpack(bed: &Bed<'_>, archive: &Archive) -> Result<()> {
    for dir in &archive.dirs {
        mkdirat(bed.root(), dir, Mode::from_raw_mode(0o700)).at("create directory", dir)?;
    }
    for (path, content) in &archive.files {
        unpack_file(bed, path, content).at("unpack", path)?;
    }
    for dir in archive.dirs.iter().rev() {
        chmodat(bed.root(), dir, Mode::from_raw_mode(0o755), AtFlags::empty()).at("chmod", dir)?;
        utimensat(bed.root(), dir, &times(), AtFlags::empty()).at("set times of", dir)?;
    }
    Ok(())
}

impl Model for Untar {
    fn name(&self) -> &'static str {
        "untar"
    }

    fn about(&self) -> &'static str {
        "Many small files unpacked into directories, with owner, mode and times."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn is_sized(&self) -> bool {
        true
    }

    fn takes_many(&self) -> bool {
        true
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let archive = Archive::of(bed, file);
        let start = Instant::now();
        let unpacked = unpack(bed, &archive);
        let elapsed_ns = elapsed_ns(start);
        unpacked.map(|()| elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.expect_met(file, walk(bed.root(), &file.path)?)?;
        let files = Tree::new(file, Shape::Dirs(DIRS)).files(&file.path);
        for (path, number) in files.iter().step_by(step_of(extent)) {
            bed.check_small(path, *number, file.len_bytes)?;
            bed.check_copied(&FileSpec { path: path.clone(), entries: 0, ..file.clone() })?;
            let full = bed.view.root.join(path);
            let stat = std::fs::symlink_metadata(&full).at("stat", &full)?;
            if (stat.mode() & 0o7777, stat.mtime(), stat.uid()) != (0o644, MTIME_S, 0) {
                let is = format!("mode {:o}, time {}, owner {}", stat.mode(), stat.mtime(), stat.uid());
                return Err(bed.incorrect(file, format!("{} has {is}", path.display())));
            }
        }
        Ok(())
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let root = bed.view.root.join(&file.path);
        std::fs::remove_dir_all(&root).at("remove", &root)
    }
}
