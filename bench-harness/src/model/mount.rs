//! Showing the whole stack: from the call until a file of the lowest layer is found.
//!
//! For `vfs` and `reflink` this is the copy of the tree, which their other
//! models do not pay.

use std::time::Instant;

use super::{Bed, Lower, Model, Timing};
use crate::driver::{Branch, Driver};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::{FileSpec, WARM_FILE};
use crate::pattern::Extent;

/// Showing the whole stack.
#[derive(Debug)]
pub struct Mount;

impl Model for Mount {
    fn name(&self) -> &'static str {
        "mount"
    }

    fn about(&self) -> &'static str {
        "From the call until a file of the lowest layer is found; vfs and reflink copy the tree here."
    }

    fn mounts_anew(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        (!driver.is_mounted()).then_some("a plain directory is not mounted")
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let mounting = &bed.mounting;
        let branch = Branch::create(&mounting.home.join(format!("m{}", file.number)))?;
        let start = Instant::now();
        let mut view = mounting.driver.mount(mounting.options, mounting.imported, branch)?;
        let found = std::fs::metadata(view.root.join(WARM_FILE));
        let elapsed_ns = elapsed_ns(start);
        let stat = found.at("stat", view.root.join(WARM_FILE))?;
        if stat.len() != 4096 {
            return Err(bed.incorrect(file, format!("{WARM_FILE} has {} bytes", stat.len())));
        }
        view.close()?;
        Ok(elapsed_ns.into())
    }

    fn check(&self, _bed: &Bed<'_>, _file: &FileSpec, _extent: Extent) -> Result<()> {
        // The sample itself has read through its mount and unmounted it.
        Ok(())
    }
}
