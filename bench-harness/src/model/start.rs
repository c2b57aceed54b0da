//! A container's start: the stack is mounted, and a program that lies in its lowest layer runs to its end.
//!
//! The program is this bench itself, told by its first argument to print a word and end. A mount answers
//! before anything was read through it; here the way to a first result is paid in full.

use std::time::Instant;

use super::{Bed, Chill, Lower, Model, Timing};
use crate::driver::Branch;
use crate::error::Result;
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::program;

/// A container's start.
#[derive(Debug)]
pub struct Start;

impl Model for Start {
    fn name(&self) -> &'static str {
        "start"
    }

    fn about(&self) -> &'static str {
        "From the mount call until a program of the lowest layer has run and ended; plain has nothing to mount."
    }

    fn mounts_anew(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::Nothing
    }

    fn chills(&self) -> Chill {
        Chill::Data
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let mounting = &bed.mounting;
        let token = format!("{}-{}", file.number, bed.block);
        let branch = Branch::create(&mounting.home.join(format!("s{}", file.number)))?;
        let start = Instant::now();
        let mut view = mounting.driver.mount(mounting.options, mounting.imported, branch)?;
        let mounted_ns = elapsed_ns(start);
        let ended = program::run(&view.root, &token);
        let elapsed_ns = elapsed_ns(start);
        ended?.check()?;
        view.close()?;
        Ok(Timing { elapsed_ns, open_ns: Some(mounted_ns), metrics: Vec::new() })
    }

    fn check(&self, _bed: &Bed<'_>, _file: &FileSpec, _extent: Extent) -> Result<()> {
        // The sample has compared what the program printed, and has unmounted.
        Ok(())
    }
}
