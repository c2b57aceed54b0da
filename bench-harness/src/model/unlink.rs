//! A file of the writable branch removed, which hides nothing below.

use std::time::Instant;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::{Bed, Lower, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};

/// A removal.
#[derive(Debug)]
pub struct Unlink;

impl Model for Unlink {
    fn name(&self) -> &'static str {
        "unlink"
    }

    fn about(&self) -> &'static str {
        "A file of the writable branch removed."
    }

    fn len_max_bytes(&self) -> Option<u64> {
        Some(SMALL_BYTES_MAX)
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn is_sized(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.create(file, &bed.pattern.small(file.number, file.len_bytes)).map(|_| ())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let removed = bed.unlink(file);
        let elapsed_ns = elapsed_ns(start);
        removed.map(|()| elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        bed.check_gone(file)
    }
}

impl Bed<'_> {
    /// Checks that the mount does not show `file`.
    pub(super) fn check_gone(&self, file: &FileSpec) -> Result<()> {
        match statat(self.root(), &file.path, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(self.incorrect(file, "is still there after its removal".to_owned())),
            Err(errno) => Err(errno).at("stat", &file.path),
        }
    }
}
