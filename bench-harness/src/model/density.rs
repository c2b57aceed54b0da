//! Many containers of one stack at once: each mounted, with a file copied up and a program running.
//!
//! The sample is the sum of the times that each took to come up, one after the other. While all run, their
//! memory, that of their servers, and the space of their branches are read; then all are ended.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::copy_up::open_and_write;
use super::usage::{Disk, Memory};
use super::{Bed, Lower, Model, Timing};
use crate::driver::{Branch, Driver, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::program::Running;
use crate::run::journal::Metric;
use crate::size::human_bytes;

/// Many containers.
#[derive(Debug)]
pub struct Density;

/// Part of the machine's memory that must stay available, so that the bench never drives others out.
const RESERVE: u64 = 16;

/// One container that is up. Dropping ends its program before its mount.
#[derive(Debug)]
struct Container {
    program: Running,
    view: View,
    home: PathBuf,
}

/// Where container `index` of the sample of `file` keeps its branch.
fn home_of(bed: &Bed<'_>, file: &FileSpec, index: u32) -> PathBuf {
    bed.mounting.home.join(format!("d{}-{index}", file.number))
}

/// What is said of container `index`.
fn token_of(bed: &Bed<'_>, file: &FileSpec, index: u32) -> String {
    format!("{}-{}-{index}", file.number, bed.block)
}

/// The same bed, but on `view`.
fn bed_on<'a>(bed: &Bed<'a>, view: &'a View) -> Result<Bed<'a>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = openat(CWD, &view.root, flags, Mode::empty()).at("open", &view.root)?;
    Ok(Bed { view, root, ..*bed })
}

/// Mounts, copies `file` up and starts the program; returns the container with the time it took, in ns.
fn bring_up(bed: &Bed<'_>, file: &FileSpec, index: u32) -> Result<(Container, u64)> {
    let (home, token) = (home_of(bed, file, index), token_of(bed, file, index));
    let mounting = &bed.mounting;
    let branch = Branch::create(&home)?;
    let start = Instant::now();
    let view = mounting.driver.mount(mounting.options, mounting.imported, branch)?;
    open_and_write(&bed_on(bed, &view)?, file, 0)?;
    let program = Running::start(&view.root, &token)?;
    let elapsed_ns = elapsed_ns(start);
    Ok((Container { program, view, home }, elapsed_ns))
}

/// Brings up as many containers as `file` asks for.
fn bring_all_up(bed: &Bed<'_>, file: &FileSpec, free: Memory) -> Result<(Vec<Container>, u64)> {
    let (mut containers, mut elapsed_ns) = (Vec::new(), 0);
    for index in 0..file.entries {
        bed.interrupt.check()?;
        let left = Memory::read()?.available_bytes;
        if left < free.total_bytes / RESERVE {
            let left = human_bytes(left as f64);
            let reason =
                format!("only {left} of memory is left after {index} of {} containers", file.entries);
            return Err(BenchError::new("bring up", &file.path, BenchErrorKind::Refused(reason)));
        }
        let (container, took_ns) = bring_up(bed, file, index)?;
        containers.push(container);
        elapsed_ns += took_ns;
    }
    Ok((containers, elapsed_ns))
}

/// Ends all, the newest first; the first error is told after all have been tried.
fn end_all(containers: Vec<Container>) -> Result<()> {
    let mut ended = Ok(());
    for Container { program, mut view, .. } in containers.into_iter().rev() {
        let both = program.end().and(view.close());
        ended = ended.and(both);
    }
    ended
}

/// What `containers` take together.
fn metrics(containers: &[Container], before: Memory, after: Memory) -> Result<Vec<(Metric, u64)>> {
    let n = containers.len().max(1) as u64;
    let each = |before: u64, after: u64| after.saturating_sub(before) / n;
    let mut metrics = vec![
        (Metric::ContainerMemory, each(after.available_bytes, before.available_bytes)),
        (Metric::ContainerCached, each(before.cached_bytes, after.cached_bytes)),
    ];
    let servers: Option<u64> = containers.iter().map(|it| it.view.server_pss_bytes()).sum();
    metrics.extend(servers.map(|it| (Metric::ServersPss, it)));
    let mut disk = Disk::default();
    for it in containers {
        disk.add(&own_dir(&it.home, it.view.upper.is_some()))?;
    }
    metrics.extend([(Metric::BranchesDisk, disk.used_bytes), (Metric::BranchesInodes, disk.inodes)]);
    Ok(metrics)
}

/// The directory that a container has for itself: its writable branch, or its copy of the tree.
fn own_dir(home: &Path, copies_up: bool) -> PathBuf {
    let Branch { upper, target, .. } = Branch::below(home);
    if copies_up { upper } else { target }
}

impl Model for Density {
    fn name(&self) -> &'static str {
        "density"
    }

    fn about(&self) -> &'static str {
        "Many containers of a stack brought up one by one, each with a file copied up and a program running; see metrics.csv."
    }

    fn mounts_anew(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::File
    }

    fn takes_many(&self) -> bool {
        true
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        (!driver.renews()).then_some("all containers would share one directory")
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let before = Memory::read()?;
        let (containers, elapsed_ns) = bring_all_up(bed, file, before)?;
        let after = Memory::read()?;
        let metrics = metrics(&containers, before, after);
        let seen = containers
            .iter()
            .try_for_each(|it| bed_on(bed, &it.view)?.check_written(file, &[bed.stamp()], Extent::Whole));
        end_all(containers)?;
        seen?;
        Ok(Timing { elapsed_ns, open_ns: None, metrics: metrics? })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let copies_up = bed.view.upper.is_some();
        for index in 0..file.entries {
            let path = own_dir(&home_of(bed, file, index), copies_up).join(&file.path);
            let open = std::fs::File::open(&path).at("open", &path)?;
            let stamp = [bed.stamp()];
            let found = bed.pattern.difference(&open, file.number, file.len_bytes, &stamp, extent);
            if let Some(difference) = found.at("read", &path)? {
                return Err(BenchError::new("check", &path, BenchErrorKind::Incorrect(difference)));
            }
        }
        Ok(())
    }
}
