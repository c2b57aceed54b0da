//! A change of mode: whole-file copy-up for most, attributes only for overlayfs with `metacopy`.

use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, chmodat};

use super::{Bed, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A change of mode.
#[derive(Debug)]
pub struct Chmod;

/// The mode that `block` sets: never the layer's, nor that of the block before.
fn mode_of(block: u32) -> u32 {
    if block.is_multiple_of(2) { 0o600 } else { 0o640 }
}

impl Model for Chmod {
    fn name(&self) -> &'static str {
        "chmod"
    }

    fn about(&self) -> &'static str {
        "The mode of a file changed, the first time."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn copies_up(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let mode = Mode::from_raw_mode(mode_of(bed.block));
        let start = Instant::now();
        let changed = chmodat(bed.root(), &file.path, mode, AtFlags::empty());
        let elapsed_ns = elapsed_ns(start);
        changed.at("chmod", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let stat = bed.open(file, OFlags::RDONLY)?.metadata().at("stat", &file.path)?;
        let (is, want) = (stat.mode() & 0o7777, mode_of(bed.block));
        if is != want {
            return Err(bed.incorrect(file, format!("mode is {is:o} instead of {want:o}")));
        }
        // With metacopy the copy has the length but not the data; the content must read right all the same.
        bed.check_written(file, &[], extent)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_bytes(file)
    }
}
