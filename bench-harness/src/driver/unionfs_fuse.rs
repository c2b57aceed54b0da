//! unionfs-fuse, where it is installed.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::{Branch, Driver, Imported, View, server, version};
use crate::error::Result;
use crate::host;
use crate::layers::LayerStack;

/// unionfs-fuse with copy on write, without which it would not write to lower files at all.
#[derive(Debug)]
pub struct UnionfsFuse;

impl Driver for UnionfsFuse {
    fn name(&self) -> &'static str {
        "unionfs-fuse"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        let found = host::find_program("unionfs").map(|_| ());
        found.ok_or_else(|| "not installed; apt-get install unionfs-fuse".to_owned())
    }

    fn has_server(&self) -> bool {
        true
    }

    fn version(&self) -> Option<String> {
        version::of_program(&host::find_program("unionfs")?, "unionfs")
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let mut branches = branch.upper.clone().into_os_string();
        branches.push("=RW");
        for layer in &imported.layers {
            branches.push(OsString::from(":"));
            branches.push(layer);
            branches.push("=RO");
        }
        let mut command = Command::new("unionfs");
        command.args(["-f", "-o", "cow,default_permissions"]).arg(branches).arg(&branch.target);
        server::start(command, branch)
    }
}
