//! 4 KiB written at each of many places of a long file, after its copy-up; closed, not synced.

use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::read_random::PAGE_BYTES;
use super::{Bed, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// Writes at many places.
#[derive(Debug)]
pub struct WriteRandom;

impl Model for WriteRandom {
    fn name(&self) -> &'static str {
        "write-random"
    }

    fn about(&self) -> &'static str {
        "4096 writes of 4 KiB, or as many as the file has, at random places of a file of the writable branch, and close."
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.copy_before_writing(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let open = bed.open(file, OFlags::WRONLY)?;
        let (places, content) = (bed.places(file), bed.pattern.small(bed.written_number(file), PAGE_BYTES));
        let start = Instant::now();
        let written = places.iter().try_for_each(|at| open.write_all_at(&content, *at));
        let closed = close(open);
        let elapsed_ns = elapsed_ns(start);
        written.at("write", &file.path)?;
        closed.at("close", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let open = bed.open(file, OFlags::RDONLY)?;
        let (content, mut found) =
            (bed.pattern.small(bed.written_number(file), PAGE_BYTES), [0; PAGE_BYTES as usize]);
        for at in bed.places(file) {
            open.read_exact_at(&mut found, at).at("read", &file.path)?;
            if found[..] != content[..] {
                return Err(bed.incorrect(file, format!("what was written at byte {at} is not there")));
            }
        }
        bed.check_copied(file)
    }
}
