//! Two readings of the clock with nothing between them: what the harness itself puts into every sample.

use std::time::Instant;

use super::{Bed, Lower, Model, Timing};
use crate::driver::Driver;
use crate::error::Result;
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;

/// Nothing, timed.
#[derive(Debug)]
pub struct Null;

impl Model for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn about(&self) -> &'static str {
        "Two readings of the clock and nothing between them: what is in every sample of every model."
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        super::only_plain(driver)
    }

    fn sample(&self, _bed: &Bed<'_>, _file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        Ok(elapsed_ns(start).into())
    }

    fn check(&self, _bed: &Bed<'_>, _file: &FileSpec, _extent: Extent) -> Result<()> {
        // Nothing was done, so that nothing can be wrong.
        Ok(())
    }
}
