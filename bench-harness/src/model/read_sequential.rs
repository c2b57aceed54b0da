//! A long file of a layer read from its start to its end in steps of 1 MiB.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::{Bed, Chill, Model, Timing};
use crate::cell::Cache;
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// Length of each step, in bytes.
pub(super) const STEP_BYTES: usize = 1 << 20;

/// A file read.
#[derive(Debug)]
pub struct ReadSequential;

/// Reads `open` to its end, and returns the bytes read.
pub(super) fn read_all(open: &File, buffer: &mut [u8]) -> std::io::Result<u64> {
    let mut at = 0;
    loop {
        match open.read_at(buffer, at)? {
            0 => return Ok(at),
            len => at += len as u64,
        }
    }
}

impl Bed<'_> {
    /// Opens `file` to read its data: through the mount, and for `plain` in the layer itself.
    ///
    /// The native speed of another copy would be that of other pages: how they lie in memory makes up to half of
    /// the speed of a warm read.
    pub(super) fn open_data(&self, file: &FileSpec) -> Result<File> {
        if self.mounting.driver.is_mounted() {
            return self.open(file, OFlags::RDONLY);
        }
        let lower = self.layers.lower_path(file);
        File::open(&lower).at("open", &lower)
    }

    /// With `cache = hot`, reads all of `file` through the mount.
    pub(super) fn warm_data(&self, file: &FileSpec) -> Result<()> {
        if self.params.cache == Cache::Hot {
            let open = self.open_data(file)?;
            read_all(&open, &mut vec![0; STEP_BYTES]).at("read", &file.path)?;
        }
        Ok(())
    }

    /// Checks the content of a file that was only read, and that it was not copied up.
    pub(super) fn check_read(&self, file: &FileSpec, extent: Extent) -> Result<()> {
        let open = self.open_data(file)?;
        let found = self.pattern.difference(&open, file.number, file.len_bytes, &[], extent);
        match found.at("read", &file.path)? {
            Some(difference) => Err(self.incorrect(file, difference)),
            None => self.check_not_copied(file),
        }
    }

    /// An error where not all of `file` was read.
    pub(super) fn expect_len(&self, file: &FileSpec, read_bytes: u64) -> Result<()> {
        if read_bytes == file.len_bytes {
            return Ok(());
        }
        Err(self.incorrect(file, format!("{read_bytes} bytes were read instead of {}", file.len_bytes)))
    }
}

impl Model for ReadSequential {
    fn name(&self) -> &'static str {
        "read-sequential"
    }

    fn about(&self) -> &'static str {
        "A long file of a layer read from start to end in steps of 1 MiB, the file being open."
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
        let mut buffer = vec![0; STEP_BYTES];
        let start = Instant::now();
        let read = read_all(&open, &mut buffer);
        let elapsed_ns = elapsed_ns(start);
        bed.expect_len(file, read.at("read", &file.path)?)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_read(file, extent)
    }
}
