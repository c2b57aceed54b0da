//! Layers that are being made for an image or a container which is not there yet.
//!
//! Their names are written down before they are created and struck out when
//! something else leads to them; so what a killed process leaves is found, and is
//! never mistaken for a layer that somebody else put there.

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::driver::{Driver, Removal};
use crate::error::{StorageErrorKind, failed};
use crate::id::LayerId;
use crate::record::Records;

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) layers: Vec<LayerId>,
}

/// Layers that go again unless they are kept.
#[derive(Debug)]
pub(crate) struct Pending<'d> {
    driver: &'d Driver,
    notes: &'d Records,
    key: String,
    layers: Vec<LayerId>,
}

impl<'d> Pending<'d> {
    /// Writes down that these layers are to be made.
    pub(crate) fn note(
        driver: &'d Driver,
        notes: &'d Records,
        layers: Vec<LayerId>,
    ) -> Result<Self, StorageErrorKind> {
        let key = LayerId::random().map_err(failed("getrandom", "a note"))?.to_string();
        if !layers.is_empty() {
            notes.put(&key, &Note { layers: layers.clone() })?;
        }
        Ok(Self { driver, notes, key, layers })
    }

    /// The layers stay, as something leads to them now.
    pub(crate) fn keep(mut self) -> Result<(), StorageErrorKind> {
        if self.layers.is_empty() {
            return Ok(());
        }
        self.notes.remove(&self.key)?;
        self.layers.clear();
        Ok(())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.layers.is_empty() {
            return;
        }
        if let Err(error) = discard(self.driver, &self.layers).and_then(|()| self.notes.remove(&self.key)) {
            warn!(%error, "what was made stays until the next command");
        }
    }
}

/// Removes what killed processes left, but for layers that `is_kept`; nobody else may be making any.
pub(crate) fn recover(
    driver: &Driver,
    notes: &Records,
    is_kept: impl Fn(&LayerId) -> bool,
) -> Result<(), StorageErrorKind> {
    for key in notes.keys()? {
        let Some(Note { layers }) = notes.get(&key)? else { continue };
        let left: Vec<_> = layers.into_iter().filter(|it| !is_kept(it)).collect();
        debug!(?left, "a killed process left these layers");
        discard(driver, &left)?;
        notes.remove(&key)?;
    }
    Ok(())
}

fn discard(driver: &Driver, layers: &[LayerId]) -> Result<(), StorageErrorKind> {
    // A layer goes before those below it.
    layers.iter().rev().try_for_each(|it| driver.remove(it, Removal::Force).map_err(|error| *error.kind))
}
