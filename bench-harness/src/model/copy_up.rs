//! The first write to a file of a layer: `open(O_RDWR)` and one byte.
//!
//! Copy-up happens once per file and mount, so that each sample needs a file of
//! its own and each block a fresh writable branch. Both calls are timed
//! together, since drivers differ in which of them copies: overlayfs at open,
//! aufs at the first write. `close` is not timed.

use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::{Bed, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// The first write.
#[derive(Debug)]
pub struct CopyUp;

/// Opens `file` for writing and writes one byte at `offset`; both are timed.
pub(super) fn open_and_write(bed: &Bed<'_>, file: &FileSpec, offset: u64) -> Result<Timing> {
    let stamp = [bed.stamp()];
    let start = Instant::now();
    let open = bed.open(file, OFlags::RDWR)?;
    let open_ns = elapsed_ns(start);
    let written = open.write_at(&stamp, offset);
    let elapsed_ns = elapsed_ns(start);
    written.at("write", &file.path)?;
    Ok(Timing { elapsed_ns, open_ns: Some(open_ns), metrics: Vec::new() })
}

impl Model for CopyUp {
    fn name(&self) -> &'static str {
        "copy-up"
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        open_and_write(bed, file, 0)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_written(file, &[bed.stamp()], extent)
    }
}
