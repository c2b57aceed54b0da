//! A plain directory, as a volume is: what writing costs without any layers.

use std::path::Path;

use super::flat::{self, CopyHow};
use super::{Branch, Driver, Imported, View};
use crate::error::Result;
use crate::layers::LayerStack;

/// A plain directory.
#[derive(Debug)]
pub struct Plain;

impl Driver for Plain {
    fn name(&self) -> &'static str {
        "plain"
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

    fn mount(&self, _options: &str, imported: &Imported, _branch: Branch) -> Result<View> {
        Ok(View::plain(imported.flat()?.to_owned()))
    }

    fn renews(&self) -> bool {
        false
    }

    fn is_mounted(&self) -> bool {
        false
    }
}
