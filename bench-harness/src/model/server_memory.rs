//! Memory of a FUSE server: after mounting, and after a walk of a large tree; the sample is the walk.

use std::os::fd::AsFd as _;
use std::time::Instant;

use super::walk::{DIRS, walk};
use super::{Bed, Lower, Model, Timing};
use crate::driver::{Driver, View};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::model::listing::open_dir;
use crate::pattern::Extent;
use crate::run::journal::Metric;
use crate::tree::Shape;

/// Memory of a server.
#[derive(Debug)]
pub struct ServerMemory;

fn memory(view: &View, value: Option<u64>) -> Result<u64> {
    let unknown = || BenchErrorKind::Tool("its server cannot be found or looked at".to_owned());
    value.ok_or_else(|| BenchError::new("read memory of server of", &view.root, unknown()))
}

impl Model for ServerMemory {
    fn name(&self) -> &'static str {
        "server-memory"
    }

    fn about(&self) -> &'static str {
        "A first walk of a large tree on a mount of its own; the server's memory is in metrics.csv."
    }

    fn mounts_anew(&self) -> bool {
        true
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Dirs(DIRS))
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn refuses(&self, driver: &dyn Driver) -> Option<&'static str> {
        (!driver.has_server()).then_some("no server of its own")
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        // A mount of its own: that of the block has served other cells.
        let mut view = bed.mount_again(&format!("s{}", file.number))?;
        let idle = memory(&view, view.server_pss_bytes())?;
        let root = open_dir(rustix::fs::CWD, &view.root, &view.root)?;
        let start = Instant::now();
        let met = walk(root.as_fd(), &file.path);
        let elapsed_ns = elapsed_ns(start);
        bed.expect_met(file, met?)?;
        drop(root);
        let walked = memory(&view, view.server_pss_bytes())?;
        let resident = memory(&view, view.server_rss_bytes())?;
        view.close()?;
        let metrics = vec![
            (Metric::ServerIdlePss, idle),
            (Metric::ServerWalkedPss, walked),
            (Metric::ServerWalkedRss, resident),
        ];
        Ok(Timing { elapsed_ns, open_ns: None, metrics })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        bed.check_not_copied(file)
    }
}
