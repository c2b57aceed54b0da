//! A file of a layer emptied: `open(O_WRONLY|O_TRUNC)` and `close`. What is thrown away need not be copied.

use std::time::Instant;

use rustix::fs::OFlags;

use super::{Bed, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A file emptied.
#[derive(Debug)]
pub struct Truncate;

impl Model for Truncate {
    fn name(&self) -> &'static str {
        "truncate"
    }

    fn about(&self) -> &'static str {
        "open(O_WRONLY|O_TRUNC) and close, the first time; nothing need be copied."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn copies_up(&self) -> bool {
        true
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let open = bed.open(file, OFlags::WRONLY | OFlags::TRUNC)?;
        let open_ns = elapsed_ns(start);
        let closed = close(open);
        let elapsed_ns = elapsed_ns(start);
        closed.at("close", &file.path)?;
        Ok(Timing { elapsed_ns, open_ns: Some(open_ns), metrics: Vec::new() })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let len_bytes = bed.open(file, OFlags::RDONLY)?.metadata().at("stat", &file.path)?.len();
        if len_bytes != 0 {
            return Err(bed.incorrect(file, format!("has {len_bytes} bytes instead of none")));
        }
        bed.check_below(file)?;
        bed.check_copied_len(file, 0)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let mut open = bed.open(file, OFlags::WRONLY)?;
        bed.pattern.write(&mut open, file.number, file.len_bytes).at("write", &file.path)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_bytes(file)
    }
}
