//! A file of a layer renamed within its directory: a copy-up under another name, and a whiteout.

use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::renameat;

use super::{Bed, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// A lower file renamed.
#[derive(Debug)]
pub struct Rename;

/// What `file` is afterwards. The old name is not part of the new one, so that a whiteout of the one
/// cannot be taken for the other.
pub(super) fn moved(file: &FileSpec) -> FileSpec {
    let path: PathBuf = file.path.with_file_name(format!("moved-{}", file.number));
    FileSpec { path, ..file.clone() }
}

impl Model for Rename {
    fn name(&self) -> &'static str {
        "rename"
    }

    fn about(&self) -> &'static str {
        "A file of a layer renamed within its directory."
    }

    fn is_single_operation(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let to = moved(file);
        let start = Instant::now();
        let renamed = renameat(bed.root(), &file.path, bed.root(), &to.path);
        let elapsed_ns = elapsed_ns(start);
        renamed.at("rename", &file.path)?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        bed.check_gone(file)?;
        bed.check_written(&moved(file), &[], extent)?;
        bed.check_below(file)?;
        bed.check_marked(file)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        renameat(bed.root(), &moved(file).path, bed.root(), &file.path).at("rename back", &file.path)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        Some(bed.upper_bytes(&moved(file))? + bed.marker_bytes(file)?)
    }
}
