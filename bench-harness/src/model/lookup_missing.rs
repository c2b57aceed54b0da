//! `stat` of a name that no layer has: the search that must look everywhere.

use std::time::Instant;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::{Bed, Chill, Lower, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// `stat` of a missing name.
#[derive(Debug)]
pub struct LookupMissing;

impl LookupMissing {
    fn stat(bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let found = statat(bed.root(), &file.path, AtFlags::empty());
        let elapsed_ns = elapsed_ns(start);
        match found {
            Err(Errno::NOENT) => Ok(elapsed_ns.into()),
            Ok(_) => Err(bed.incorrect(file, "exists though no layer has it".to_owned())),
            Err(errno) => Err(errno).at("stat", &file.path),
        }
    }
}

impl Model for LookupMissing {
    fn name(&self) -> &'static str {
        "lookup-missing"
    }

    fn about(&self) -> &'static str {
        "stat of a name that no layer has: fresh for the first time on this mount, hot again."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn chills(&self) -> Chill {
        Chill::Names
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            Self::stat(bed, file)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        Self::stat(bed, file)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        Self::stat(bed, file).map(|_| ())
    }
}
