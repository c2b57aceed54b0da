//! The second write to a file: opened and written again after its copy-up.

use super::copy_up::open_and_write;
use super::{Bed, Model, Timing};
use crate::error::Result;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// The second write.
#[derive(Debug)]
pub struct SecondWrite;

impl Model for SecondWrite {
    fn name(&self) -> &'static str {
        "second-write"
    }

    fn about(&self) -> &'static str {
        "open(O_RDWR), one byte written and close, after the copy-up."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn copies_up(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        open_and_write(bed, file, 0).map(|_| ())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        open_and_write(bed, file, 1)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_written(file, &[bed.stamp(); 2], extent)
    }
}
