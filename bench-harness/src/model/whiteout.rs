//! A file of a layer removed: nothing is copied, but the name must be hidden from then on.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::{Bed, Model, Timing};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::{FILE_MODE, FileSpec};
use crate::pattern::Extent;

/// A lower file removed.
#[derive(Debug)]
pub struct Whiteout;

impl Model for Whiteout {
    fn name(&self) -> &'static str {
        "whiteout"
    }

    fn about(&self) -> &'static str {
        "A file of a layer removed (unlinkat), which leaves a whiteout."
    }

    fn is_single_operation(&self) -> bool {
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
        let removed = bed.unlink(file);
        let elapsed_ns = elapsed_ns(start);
        removed.map(|()| elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        bed.check_gone(file)?;
        bed.check_below(file)?;
        bed.check_marked(file)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let path = bed.view.root.join(&file.path);
        let mut again = File::create_new(&path).at("create", &path)?;
        bed.pattern.write(&mut again, file.number, file.len_bytes).at("write", &path)?;
        again.set_permissions(std::fs::Permissions::from_mode(FILE_MODE)).at("chmod", &path)
    }

    fn upper_bytes(&self, bed: &Bed<'_>, file: &FileSpec) -> Option<u64> {
        bed.marker_bytes(file)
    }
}
