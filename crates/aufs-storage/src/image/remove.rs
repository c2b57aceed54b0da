//! Takes names away from images, and images from the store when they have none left.

use std::collections::HashSet;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::Serialize;
use tracing::debug;

use super::digest::Digest;
use super::error::{ImageError, ImageErrorKind};
use super::reference::Reference;
use super::store::ImageStore;
use crate::driver::Removal;
use crate::error::failed;
use crate::pending::Pending;

/// What a removal took away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Removed {
    /// Names that stand for nothing any more.
    pub untagged: Vec<Reference>,
    /// The image, when it is gone.
    pub image: Option<Digest>,
    /// DiffIDs of the layers that no other image has.
    pub layers: Vec<Digest>,
}

impl ImageStore<'_> {
    /// Removes a name, and with the last one the image; of an id, the image with all its names.
    ///
    /// # Errors
    ///
    /// [`Unknown`](ImageErrorKind::Unknown), [`InUse`](ImageErrorKind::InUse).
    pub fn remove(&self, text: &str) -> Result<Removed, ImageError> {
        self.remove_image(text).map_err(|kind| kind.during("remove image", text))
    }

    fn remove_image(&self, text: &str) -> Result<Removed, ImageErrorKind> {
        let _lock = self.lock()?;
        let id = self.resolve(text)?;
        let mut names = self.names()?.remove(&id).unwrap_or_default();
        let mut removed = Removed::default();
        if let Ok(reference) = text.parse::<Reference>()
            && names.contains(&reference)
            && 1 < names.len()
        {
            names = vec![reference];
        } else {
            removed.image = Some(id.clone());
        }
        let chain = if removed.image.is_some() { self.chain_of(&id)? } else { Vec::new() };
        let kept = self.chains_but_of(&id)?;
        let mut going = Vec::new();
        for chain_id in chain.iter().rev().filter(|it| !kept.contains(it)) {
            going.extend(self.layer_record(chain_id)?);
        }
        if let Some(top) = going.first()
            && let Some(child) = self.child_of(&top.layer)?
        {
            return Err(ImageErrorKind::InUse { by: format!("the layer {child}") });
        }
        for reference in names {
            self.tags.remove(&reference.key())?;
            removed.untagged.push(reference);
        }
        let Some(image) = &removed.image else { return Ok(removed) };
        // Written down before nothing leads to them any more, so that a removal that is killed is finished by the next command.
        let layers = going.iter().rev().map(|it| it.layer.clone()).collect();
        let leaving = Pending::note(self.driver, &self.pending, layers)?;
        if let Err(error) = self.images.remove(image.hex()) {
            leaving.keep()?;
            return Err(error.into());
        }
        for record in going {
            self.driver.remove(&record.layer, Removal::IfUnused)?;
            self.layers.remove(record.chain_id.hex())?;
            match rustix::fs::unlinkat(self.splits(), record.chain_id.hex(), AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOENT) => debug!(%record.chain_id, "had no records of its archive"),
                Err(errno) => {
                    return Err(failed("unlink", self.splits_path.join(record.chain_id.hex()))(errno).into());
                }
            }
            removed.layers.push(record.diff_id);
        }
        leaving.keep()?;
        Ok(removed)
    }

    /// The stacks that images other than `id` have.
    fn chains_but_of(&self, id: &Digest) -> Result<HashSet<Digest>, ImageErrorKind> {
        let mut chains = HashSet::new();
        for other in self.ids()?.iter().filter(|it| *it != id) {
            chains.extend(self.chain_of(other)?);
        }
        Ok(chains)
    }

    /// A layer that lies on `layer`, such as that of a container.
    fn child_of(&self, layer: &crate::id::LayerId) -> Result<Option<crate::id::LayerId>, ImageErrorKind> {
        for other in self.driver.layers()? {
            if self.driver.ancestors(&other).is_ok_and(|it| it.contains(layer)) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }
}
