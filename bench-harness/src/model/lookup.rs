//! `stat` of a file: with `cache = hot` answered from the kernel's caches, with `fresh` searched in the layers.

use std::time::Instant;

use rustix::fs::{AtFlags, statat};

use super::{Bed, Chill, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// `stat` of a file.
#[derive(Debug)]
pub struct Lookup;

impl Model for Lookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn about(&self) -> &'static str {
        "stat of a file: fresh for the first time on this mount, hot again."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn chills(&self) -> Chill {
        Chill::Names
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            bed.warm(file)?;
            statat(bed.root(), &file.path, AtFlags::empty()).at("stat", &file.path)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let found = statat(bed.root(), &file.path, AtFlags::empty());
        let elapsed_ns = elapsed_ns(start);
        found.at("stat", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let stat = statat(bed.root(), &file.path, AtFlags::empty()).at("stat", &file.path)?;
        if u64::try_from(stat.st_size) != Ok(file.len_bytes) {
            return Err(bed.incorrect(file, format!("stat says {} bytes", stat.st_size)));
        }
        bed.check_not_copied(file)
    }
}
