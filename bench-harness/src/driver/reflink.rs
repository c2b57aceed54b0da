//! A clone of the tree whose files share their blocks (XFS, Btrfs).

use std::path::Path;

use super::flat::{self, CopyHow};
use super::{Branch, Driver, Imported, View};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::layers::LayerStack;

/// A clone by `FICLONE`.
#[derive(Debug)]
pub struct Reflink;

impl Driver for Reflink {
    fn name(&self) -> &'static str {
        "reflink"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        Ok(())
    }

    fn copies_layers(&self) -> bool {
        true
    }

    fn import(&self, layers: &LayerStack, home: &Path) -> Result<Imported> {
        flat::import(layers, home, CopyHow::Bytes)
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let cloned = flat::copy_tree(imported.flat()?, &branch.target, CopyHow::Reflink);
        cloned.map_err(|error| match &error.kind {
            BenchErrorKind::Io(io) if io.raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32) => {
                let reason = "this file system shares no blocks; use --backing on XFS or Btrfs";
                BenchError::new("clone", error.path, BenchErrorKind::Refused(reason.to_owned()))
            }
            _ => error,
        })?;
        Ok(View::plain(branch.target))
    }
}
