//! 4 KiB read at each of many places of a long file, every place once, in an order drawn for the block.

use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use super::{Bed, Chill, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::matrix::expand::order;
use crate::pattern::Extent;

/// Length of each read or write, in bytes.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Most reads or writes of a sample.
const PLACES_MAX: usize = 4096;

/// Reads at many places.
#[derive(Debug)]
pub struct ReadRandom;

impl Bed<'_> {
    /// Offsets of whole pages of `file` in an order drawn from its number and the block.
    pub(super) fn places(&self, file: &FileSpec) -> Vec<u64> {
        let n_pages = usize::try_from(file.len_bytes / PAGE_BYTES).unwrap_or(usize::MAX);
        let mut places = order(file.number, self.block, n_pages);
        places.truncate(PLACES_MAX);
        places.into_iter().map(|page| page as u64 * PAGE_BYTES).collect()
    }
}

impl Model for ReadRandom {
    fn name(&self) -> &'static str {
        "read-random"
    }

    fn about(&self) -> &'static str {
        "4096 reads of 4 KiB, or as many as the file has, at random places of a file of a layer."
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
        let open = bed.open_data(file)?;
        let (places, mut buffer) = (bed.places(file), [0; PAGE_BYTES as usize]);
        let start = Instant::now();
        let read = places.iter().try_for_each(|at| open.read_exact_at(&mut buffer, *at));
        let elapsed_ns = elapsed_ns(start);
        read.at("read", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_read(file, extent)
    }
}
