//! Kernel aufs, where a kernel has it.

use std::ffi::OsString;
use std::path::Path;

use aufs_mount::kernel::{self, PlanOptions};
use aufs_mount::option::{self, Dialect, GenericFlags};

use super::aufs_fuse::branch_option;
use super::{Branch, Driver, Imported, View, version};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::layers::LayerStack;
use crate::{environment, host};

/// Kernel aufs with its defaults.
#[derive(Debug)]
pub struct AufsKernel;

impl Driver for AufsKernel {
    fn name(&self) -> &'static str {
        "aufs-kernel"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        match host::kernel_offers("aufs") {
            Ok(true) => Ok(()),
            Ok(false) => Err("no aufs in /proc/filesystems; this kernel was built without it".to_owned()),
            Err(error) => Err(error.line()),
        }
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn version(&self) -> Option<String> {
        let version = environment::read_line(Path::new("/sys/module/aufs/version"));
        version.map(|it| format!("aufs {it}")).or_else(version::of_kernel)
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        mount(&branch_option(imported, &branch), &branch.target)
            .map_err(|what| BenchError::new("mount aufs on", &branch.target, BenchErrorKind::Tool(what)))?;
        Ok(View::kernel(branch))
    }
}

/// Mounts as `aufs mount --mounter kernel` does, without its checks of the branches.
fn mount(option: &OsString, target: &Path) -> Result<(), String> {
    let parsed = option::parse(option, Dialect::Own).map_err(|error| error.to_string())?;
    let page_size = rustix::param::page_size();
    let options = PlanOptions { page_size, dirperm1: false, udba: None, always_opaque: false, context: None };
    let calls = kernel::plan(&parsed.options.branches, &options)?;
    kernel::mount(&calls, target, &GenericFlags::default())
        .map_err(|error| format!("{error}: {}", error.kind))
}
