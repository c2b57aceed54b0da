//! Two containers that read the same file of a layer: the second read, and the memory that both take.
//!
//! The layer's file is in the page cache before. What both reads add to `Cached` of `/proc/meminfo`, and
//! take from `MemAvailable`, is memory that the driver holds besides. Both are of the whole machine;
//! `resident_bytes` is of this file alone: its pages under each inode that shows it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use aufs_host::page_cache::resident_bytes;
use rustix::io::Errno;

use super::read_sequential::{STEP_BYTES, read_all};
use super::usage::Memory;
use super::{Bed, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::run::journal::Metric;

/// Two containers.
#[derive(Debug)]
pub struct PageCache;

/// Bytes that the page cache holds of `files`, each inode counted once; `None` where the kernel cannot say.
fn resident(files: &[&File], file: &FileSpec) -> Result<Option<u64>> {
    let mut found = BTreeMap::new();
    for open in files {
        let stat = open.metadata().at("stat", &file.path)?;
        match resident_bytes(open) {
            Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
            bytes => found.insert((stat.dev(), stat.ino()), bytes.at("count pages of", &file.path)?),
        };
    }
    Ok(Some(found.values().sum()))
}

impl Model for PageCache {
    fn name(&self) -> &'static str {
        "page-cache"
    }

    fn about(&self) -> &'static str {
        "A file of a layer read through a second mount, after a first has read it; memory of both in metrics.csv."
    }

    fn mounts_anew(&self) -> bool {
        true
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let native = bed.layers.lower_path(file);
        let open = File::open(&native).at("open", &native)?;
        read_all(&open, &mut vec![0; STEP_BYTES]).at("read", &native).map(|_| ())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let mut buffer = vec![0; STEP_BYTES];
        let mut second = bed.mount_again(&format!("c{}", file.number))?;
        let native = bed.layers.lower_path(file);
        let is_mounted = bed.mounting.driver.is_mounted();
        let shown = if is_mounted { second.root.join(&file.path) } else { native.clone() };
        let native = File::open(&native).at("open", &native)?;
        let before = Memory::read()?;
        let first = bed.open_data(file)?;
        bed.expect_len(file, read_all(&first, &mut buffer).at("read", &file.path)?)?;
        let open = File::open(&shown).at("open", &shown)?;
        let start = Instant::now();
        let read = read_all(&open, &mut buffer);
        let elapsed_ns = elapsed_ns(start);
        let after = Memory::read()?;
        bed.expect_len(file, read.at("read", &shown)?)?;
        let resident = resident(&[&native, &first, &open], file)?;
        drop(open);
        second.close()?;
        let added = after.cached_bytes.saturating_sub(before.cached_bytes);
        let taken = before.available_bytes.saturating_sub(after.available_bytes);
        let mut metrics = vec![(Metric::Cached, file.len_bytes + added), (Metric::MemoryTaken, taken)];
        metrics.extend(resident.map(|it| (Metric::Resident, it)));
        Ok(Timing { elapsed_ns, open_ns: None, metrics })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_read(file, extent)
    }
}
