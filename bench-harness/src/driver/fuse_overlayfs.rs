//! fuse-overlayfs, where it is installed.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::{Branch, Driver, Imported, View, server, version};
use crate::error::Result;
use crate::host;
use crate::layers::LayerStack;

/// fuse-overlayfs with its defaults.
#[derive(Debug)]
pub struct FuseOverlayfs;

impl Driver for FuseOverlayfs {
    fn name(&self) -> &'static str {
        "fuse-overlayfs"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        let found = host::find_program("fuse-overlayfs").map(|_| ());
        found.ok_or_else(|| "not installed; apt-get install fuse-overlayfs".to_owned())
    }

    fn has_server(&self) -> bool {
        true
    }

    fn version(&self) -> Option<String> {
        version::of_program(&host::find_program("fuse-overlayfs")?, "fuse-overlayfs")
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        mount(Command::new("fuse-overlayfs"), imported, branch)
    }
}

/// Mounts with `command`, which takes the options of fuse-overlayfs.
pub(super) fn mount(mut command: Command, imported: &Imported, branch: Branch) -> Result<View> {
    let mut option = OsString::from("lowerdir=");
    for (index, layer) in imported.layers.iter().enumerate() {
        option.push(if index == 0 { "" } else { ":" });
        option.push(layer);
    }
    for (key, dir) in [(",upperdir=", &branch.upper), (",workdir=", &branch.work)] {
        option.push(key);
        option.push(dir);
    }
    command.arg("-f").arg("-o").arg(option).arg(&branch.target);
    server::start(command, branch)
}
