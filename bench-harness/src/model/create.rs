//! A new file: `open(O_CREAT|O_EXCL)`, one `write`, `close`.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::{Bed, Lower, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::{Extent, SMALL_BYTES_MAX};

/// A new file.
#[derive(Debug)]
pub struct Create;

impl Bed<'_> {
    /// Creates `file` with `content`, closes it, and returns the time in ns.
    pub(super) fn create(&self, file: &FileSpec, content: &[u8]) -> Result<u64> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let start = Instant::now();
        let open = openat(self.root(), &file.path, flags, Mode::from_raw_mode(0o644));
        let mut open = open.map(File::from).at("create", &file.path)?;
        let written = open.write_all(content);
        let closed = close(open);
        let elapsed_ns = elapsed_ns(start);
        written.at("write", &file.path)?;
        closed.at("close", &file.path)?;
        Ok(elapsed_ns)
    }

    /// Removes `file`.
    pub(super) fn unlink(&self, file: &FileSpec) -> Result<()> {
        unlinkat(self.root(), &file.path, AtFlags::empty()).at("unlink", &file.path)
    }
}

impl Model for Create {
    fn name(&self) -> &'static str {
        "create"
    }

    fn about(&self) -> &'static str {
        "A new file created, written and closed."
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

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let content = bed.pattern.small(file.number, file.len_bytes);
        bed.create(file, &content).map(Timing::from)
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        bed.check_small(&file.path, file.number, file.len_bytes)?;
        bed.check_copied(file)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.unlink(file)
    }
}
