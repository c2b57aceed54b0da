//! What copying a layer's file costs without any union: opened, created, `copy_file_range(2)`.
//!
//! The reference that copy-up of the same length on the same file system is
//! divided by. Only `plain` stands for it, since no driver has a part in it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use super::{Bed, Model, Timing};
use crate::driver::Driver;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A copy without a union.
#[derive(Debug)]
pub struct BareCopy;

/// Where the copy goes: beside the writable branches.
fn target(bed: &Bed<'_>, file: &FileSpec) -> PathBuf {
    bed.mounting.home.join(format!("copy-{}", file.number))
}

impl Model for BareCopy {
    fn name(&self) -> &'static str {
        "bare-copy"
    }

    fn about(&self) -> &'static str {
        "The file of the layer copied by copy_file_range, without any driver."
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        driver.is_mounted().then_some("a reference without any driver; plain stands for it")
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let (source, target) = (bed.layers.lower_path(file), target(bed, file));
        let start = Instant::now();
        let from = File::open(&source).at("open", &source)?;
        let to = File::create_new(&target).at("create", &target)?;
        let mut left = file.len_bytes;
        while 0 < left {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(&from, None, &to, None, step).at("copy to", &target)? {
                0 => return Err(bed.incorrect(file, format!("the copy ended {left} bytes early"))),
                len => left -= len as u64,
            }
        }
        Ok(elapsed_ns(start).into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let target = target(bed, file);
        let open = File::open(&target).at("open", &target)?;
        let found = bed.pattern.difference(&open, file.number, file.len_bytes, &[], extent);
        if let Some(difference) = found.at("read", &target)? {
            return Err(bed.incorrect(file, difference));
        }
        std::fs::remove_file(&target).at("remove", &target)
    }
}
