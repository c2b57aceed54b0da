//! The first write to a file of a layer: `open(O_RDWR)`, one byte, `close`.
//!
//! Copy-up happens once per file and mount, so that each sample needs a file of
//! its own and each block a fresh writable branch. The three calls are timed
//! together, since drivers differ in which of them copies: overlayfs at open,
//! aufs at the first write, and a server behind a writeback cache at close.

use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::{Bed, Chill, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// The first write.
#[derive(Debug)]
pub struct CopyUp;

/// Opens `file` for writing, writes one byte at `offset` and closes it; all is timed.
pub(super) fn open_and_write(bed: &Bed<'_>, file: &FileSpec, offset: u64) -> Result<Timing> {
    let stamp = [bed.stamp()];
    let start = Instant::now();
    let open = bed.open(file, OFlags::RDWR)?;
    let open_ns = elapsed_ns(start);
    let written = open.write_at(&stamp, offset);
    let closed = close(open);
    let elapsed_ns = elapsed_ns(start);
    written.at("write", &file.path)?;
    closed.at("close", &file.path)?;
    Ok(Timing { elapsed_ns, open_ns: Some(open_ns), metrics: Vec::new() })
}

impl Model for CopyUp {
    fn name(&self) -> &'static str {
        "copy-up"
    }

    fn about(&self) -> &'static str {
        "open(O_RDWR), one byte written and close, the first time; plain and vfs have nothing to copy."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn copies_up(&self) -> bool {
        true
    }

    fn chills(&self) -> Chill {
        Chill::Data
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

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_bytes(file)
    }
}
