//! A snapshot of a subvolume for each container, as Docker's `btrfs` driver makes.
//!
//! By the program `btrfs`: its ioctls need unsafe code, which this crate has
//! none of. So a mount has the start of a program in it, some milliseconds.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::flat::{self, CopyHow};
use super::{Branch, Driver, Imported, View, server};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host;
use crate::layers::LayerStack;

/// A snapshot on Btrfs.
#[derive(Debug)]
pub struct Btrfs;

/// `f_type` of Btrfs, from `linux/magic.h`.
const BTRFS_SUPER_MAGIC: i64 = 0x9123_683E;

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        let found = host::find_program("btrfs").map(|_| ());
        found.ok_or_else(|| "no program btrfs; apt-get install btrfs-progs".to_owned())
    }

    fn copies_layers(&self) -> bool {
        true
    }

    fn import(&self, layers: &LayerStack, home: &Path) -> Result<Imported> {
        let stat = rustix::fs::statfs(home).at("stat file system of", home)?;
        if stat.f_type != BTRFS_SUPER_MAGIC {
            let reason = "this file system has no subvolumes; use loop:btrfs, or --backing on Btrfs";
            return Err(BenchError::new("import to", home, BenchErrorKind::Refused(reason.to_owned())));
        }
        subvolume(home, &["create"], &[&home.join(flat::NAME)])?;
        flat::import(layers, home, CopyHow::Bytes)
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        // A snapshot into an existing directory would be one below it.
        std::fs::remove_dir(&branch.target).at("remove", &branch.target)?;
        subvolume(&branch.home, &["snapshot"], &[imported.flat()?, &branch.target])?;
        Ok(View::snapshot(branch))
    }
}

/// Deletes the snapshot `target` of the branch in `home`.
///
/// # Errors
///
/// What `btrfs` says.
pub fn delete(home: &Path, target: &Path) -> Result<()> {
    subvolume(home, &["delete"], &[target])
}

fn subvolume(home: &Path, verb: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = Command::new("btrfs");
    command.arg("subvolume").args(verb).args(paths.iter().map(|it| -> &OsStr { it.as_os_str() }));
    server::run(command, home)
}
