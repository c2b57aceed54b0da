//! Two containers that read the same file of a layer: the second read, and the page cache that both take.
//!
//! The layer's file is in the page cache before. What both reads add to
//! `Cached` of `/proc/meminfo` is memory that the driver holds besides.

use std::fs::File;
use std::time::Instant;

use procfs::Current as _;

use super::read_sequential::{STEP_BYTES, read_all};
use super::{Bed, Model, Timing};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::run::journal::Metric;

/// Two containers.
#[derive(Debug)]
pub struct PageCache;

fn cached_bytes() -> Result<u64> {
    let facts = procfs::Meminfo::current();
    let refused = |error: procfs::ProcError| BenchErrorKind::Refused(error.to_string());
    facts.map(|it| it.cached).map_err(|error| BenchError::new("read", "/proc/meminfo", refused(error)))
}

impl Model for PageCache {
    fn name(&self) -> &'static str {
        "page-cache"
    }

    fn about(&self) -> &'static str {
        "A file of a layer read through a second mount, after a first has read it; cached_bytes in metrics.csv."
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
        let shown = if bed.mounting.driver.is_mounted() {
            second.root.join(&file.path)
        } else {
            bed.layers.lower_path(file)
        };
        let before = cached_bytes()?;
        let first = bed.open_data(file)?;
        bed.expect_len(file, read_all(&first, &mut buffer).at("read", &file.path)?)?;
        let open = File::open(&shown).at("open", &shown)?;
        let start = Instant::now();
        let read = read_all(&open, &mut buffer);
        let elapsed_ns = elapsed_ns(start);
        let added = cached_bytes()?.saturating_sub(before);
        bed.expect_len(file, read.at("read", &shown)?)?;
        drop(open);
        second.close()?;
        let metrics = vec![(Metric::Cached, file.len_bytes + added)];
        Ok(Timing { elapsed_ns, open_ns: None, metrics })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_read(file, extent)
    }
}
