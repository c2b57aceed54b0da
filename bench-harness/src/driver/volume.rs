//! A volume: a plain directory bound over the container's tree, which no layer is below.

use std::path::Path;

use nix::mount::MsFlags;

use super::flat::{self, CopyHow};
use super::{Branch, Driver, Imported, View};
use crate::error::{At as _, Result};
use crate::layers::LayerStack;

/// A bind mount of a plain directory.
#[derive(Debug)]
pub struct Volume;

impl Driver for Volume {
    fn name(&self) -> &'static str {
        "volume"
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
        let none = None::<&str>;
        nix::mount::mount(Some(imported.flat()?), &branch.target, none, MsFlags::MS_BIND, none)
            .at("bind volume on", &branch.target)?;
        Ok(View::bound(branch))
    }

    fn renews(&self) -> bool {
        false
    }
}
