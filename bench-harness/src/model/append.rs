//! Four bytes added to the end of a file of a layer: `open(O_WRONLY|O_APPEND)`, one `write`, `close`.
//!
//! The change that the documentation of AUFS speaks of: a few bytes, for which a union of files copies all.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::OFlags;

use super::{Bed, Model, Timing, close};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// Four bytes added.
#[derive(Debug)]
pub struct Append;

/// Bytes added.
const ADDED_BYTES: usize = 4;

impl Model for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn about(&self) -> &'static str {
        "open(O_WRONLY|O_APPEND), four bytes written and close, the first time."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn copies_up(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let added = [bed.stamp(); ADDED_BYTES];
        let start = Instant::now();
        let mut open = bed.open(file, OFlags::WRONLY | OFlags::APPEND)?;
        let open_ns = elapsed_ns(start);
        let written = open.write_all(&added);
        let closed = close(open);
        let elapsed_ns = elapsed_ns(start);
        written.at("write", &file.path)?;
        closed.at("close", &file.path)?;
        Ok(Timing { elapsed_ns, open_ns: Some(open_ns), metrics: Vec::new() })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let open = bed.open(file, OFlags::RDONLY)?;
        let (len_bytes, expected) = (file.len_bytes + ADDED_BYTES as u64, [bed.stamp(); ADDED_BYTES]);
        let found = open.metadata().at("stat", &file.path)?.len();
        if found != len_bytes {
            return Err(bed.incorrect(file, format!("has {found} bytes instead of {len_bytes}")));
        }
        let head = bed.pattern.head_difference(&open, file.number, file.len_bytes, &[], extent);
        if let Some(difference) = head.at("read", &file.path)? {
            return Err(bed.incorrect(file, difference));
        }
        let mut added = [0; ADDED_BYTES];
        open.read_exact_at(&mut added, file.len_bytes).at("read", &file.path)?;
        if added != expected {
            return Err(bed.incorrect(file, format!("ends in {added:?} instead of {expected:?}")));
        }
        bed.check_below(file)?;
        bed.check_copied_len(file, len_bytes)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.open(file, OFlags::WRONLY)?.set_len(file.len_bytes).at("truncate", &file.path)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.upper_bytes(file)
    }
}
