//! A full copy for each container, as Docker's `vfs` driver makes.
//!
//! The whole cost is paid at mount; afterwards it is a plain directory.

use std::path::Path;

use super::flat::{self, CopyHow};
use super::{Branch, Driver, Imported, View};
use crate::error::Result;
use crate::layers::LayerStack;

/// A full copy.
#[derive(Debug)]
pub struct Vfs;

impl Driver for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        Ok(())
    }

    fn copies_layers(&self) -> bool {
        true
    }

    fn copies_on_mount(&self) -> bool {
        true
    }

    fn import(&self, layers: &LayerStack, home: &Path) -> Result<Imported> {
        flat::import(layers, home, CopyHow::Bytes)
    }

    fn mount(&self, _options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        flat::copy_tree(imported.flat()?, &branch.target, CopyHow::Bytes)?;
        Ok(View::plain(branch.target))
    }
}
