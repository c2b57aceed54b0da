//! fuse-overlayfs 2, rewritten in Rust, where it was installed from crates.io.
//!
//! It is run as a program only, never linked: its licence is the GPL.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Branch, Driver, Imported, View, fuse_overlayfs, version};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::layers::LayerStack;

/// fuse-overlayfs 2 with its defaults.
#[derive(Debug)]
pub struct FuseOverlayfs2;

const MISSING: &str = "not installed; just peers (or FUSE_OVERLAYFS_2_BIN with its path)";

/// The program: `FUSE_OVERLAYFS_2_BIN`, else in `tools/bin` of the target directory that holds `aufs-bench`.
pub fn fuse_overlayfs_2_binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FUSE_OVERLAYFS_2_BIN") {
        return Some(PathBuf::from(path)).filter(|it| it.is_file());
    }
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.parent()?.join("tools/bin/fuse-overlayfs")).filter(|it| it.is_file())
}

impl Driver for FuseOverlayfs2 {
    fn name(&self) -> &'static str {
        "fuse-overlayfs-2"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        fuse_overlayfs_2_binary().map(|_| ()).ok_or_else(|| MISSING.to_owned())
    }

    fn has_server(&self) -> bool {
        true
    }

    fn version(&self) -> Option<String> {
        version::of_program(&fuse_overlayfs_2_binary()?, "fuse-overlayfs")
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let missing = || BenchError::new("find", self.name(), BenchErrorKind::Refused(MISSING.to_owned()));
        let program = fuse_overlayfs_2_binary().ok_or_else(missing)?;
        fuse_overlayfs::mount(Command::new(program), imported, branch)
    }
}
