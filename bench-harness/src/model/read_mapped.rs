//! A long file of a layer mapped (`mmap`, shared, read only) and copied out in steps of 1 MiB.

use std::sync::Arc;
use std::time::Instant;

use rustix::mm::{MapFlags, ProtFlags};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory as _};

use super::read_sequential::STEP_BYTES;
use super::{Bed, Chill, Model, Timing};
use crate::error::{At as _, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A file read through a mapping.
#[derive(Debug)]
pub struct ReadMapped;

/// Maps all of a file of `len_bytes`, copies it out, and returns the bytes copied.
fn copy_out(open: &Arc<std::fs::File>, len_bytes: u64, buffer: &mut [u8]) -> Result<u64, BenchErrorKind> {
    let len = usize::try_from(len_bytes).map_err(|error| BenchErrorKind::Refused(error.to_string()))?;
    let (prot, flags) = (ProtFlags::READ.bits().cast_signed(), MapFlags::SHARED.bits().cast_signed());
    let tool = |error: &dyn std::fmt::Display| BenchErrorKind::Tool(error.to_string());
    let offset = FileOffset::from_arc(Arc::clone(open), 0);
    let region: MmapRegion = MmapRegion::build(Some(offset), len, prot, flags).map_err(|it| tool(&it))?;
    let mut at = 0;
    while at < len {
        let step = buffer.len().min(len - at);
        let slice = region.get_slice(at, step).map_err(|it| tool(&it))?;
        at += slice.copy_to(&mut buffer[..step]);
    }
    Ok(at as u64)
}

impl Model for ReadMapped {
    fn name(&self) -> &'static str {
        "read-mapped"
    }

    fn about(&self) -> &'static str {
        "A long file of a layer mapped and copied out."
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn chills(&self) -> Chill {
        Chill::Data
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm_data(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let open = Arc::new(bed.open_data(file)?);
        let mut buffer = vec![0; STEP_BYTES];
        let start = Instant::now();
        let read = copy_out(&open, file.len_bytes, &mut buffer);
        let elapsed_ns = elapsed_ns(start);
        bed.expect_len(file, read.at("map", &file.path)?)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_read(file, extent)
    }
}
