//! A long file overwritten from its start to its end in steps of 1 MiB, after its copy-up; closed, not synced.

use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::copy_up::open_and_write;
use super::read_sequential::STEP_BYTES;
use super::{Bed, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A file overwritten.
#[derive(Debug)]
pub struct WriteSequential;

impl Bed<'_> {
    /// A number that no file of a layer carries, and the block before did not write.
    pub(super) fn written_number(&self, file: &FileSpec) -> u64 {
        (u64::from(self.block) + 1) << 40 | file.number
    }

    /// Gives a driver that keeps its files a new copy of the layer's `file`, so that all write to new ones.
    pub(super) fn renew(&self, file: &FileSpec) -> Result<()> {
        if self.mounting.driver.renews() {
            return Ok(());
        }
        let own = self.view.root.join(&file.path);
        std::fs::remove_file(&own).at("remove", &own)?;
        std::fs::copy(self.layers.lower_path(file), &own).map(drop).at("copy to", &own)
    }

    /// Copies `file` up, anew where it is kept.
    pub(super) fn copy_before_writing(&self, file: &FileSpec) -> Result<()> {
        self.renew(file)?;
        open_and_write(self, file, 0).map(|_| ())
    }
}

impl Model for WriteSequential {
    fn name(&self) -> &'static str {
        "write-sequential"
    }

    fn about(&self) -> &'static str {
        "A long file of the writable branch overwritten in steps of 1 MiB, and closed."
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.copy_before_writing(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let number = bed.written_number(file);
        let open = bed.open(file, OFlags::WRONLY)?;
        let mut buffer = bed.pattern.step(STEP_BYTES);
        let start = Instant::now();
        let mut at = 0;
        let mut written = Ok(());
        while written.is_ok() && at < file.len_bytes {
            let len = usize::try_from(file.len_bytes - at).unwrap_or(usize::MAX).min(STEP_BYTES);
            bed.pattern.label(&mut buffer, number, at);
            written = open.write_all_at(&buffer[..len], at);
            at += len as u64;
        }
        let closed = close(open);
        let elapsed_ns = elapsed_ns(start);
        written.at("write", &file.path)?;
        closed.at("close", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let open = bed.open(file, OFlags::RDONLY)?;
        let number = bed.written_number(file);
        let found = bed.pattern.difference(&open, number, file.len_bytes, &[], extent);
        match found.at("read", &file.path)? {
            Some(difference) => Err(bed.incorrect(file, difference)),
            None => bed.check_copied(file),
        }
    }
}
