//! Decides what is wrong with our own objects: images, layer records, names, containers, notes, splits.

use std::path::PathBuf;

use super::finding::{Fault, Remedy};
use super::judge::{Judge, leave};
use super::snapshot::{Unreadable, record_path, state_path};
use crate::container::{Container, RECORDS};
use crate::id::{INIT, LayerId};
use crate::image::LayerRecord;
use crate::image::digest::chain_ids;

impl Judge<'_> {
    pub(super) fn objects(&mut self) {
        self.images();
        self.records();
        self.tags();
        self.containers();
        self.notes();
        self.splits();
    }

    /// An object of which nothing can be made.
    fn malformed(&mut self, dir: &str, key: &str, read: &Unreadable, remedy: Remedy) {
        if let Unreadable::Malformed(reason) = read {
            let fault = Fault::Malformed { reason: reason.clone() };
            let subject = key.parse().ok();
            self.find(record_path(dir, key), subject.as_ref(), fault, remedy);
        }
    }

    fn images(&mut self) {
        let snapshot = self.snapshot;
        for (id, read) in &snapshot.images {
            let diff_ids = match read {
                Ok(diff_ids) => diff_ids,
                // Without it nothing would keep its layers.
                Err(error) => {
                    let why = leave("load the image again, which writes it anew");
                    self.malformed("images", id.hex(), error, why);
                    continue;
                }
            };
            for (diff_id, chain_id) in diff_ids.iter().zip(chain_ids(diff_ids)) {
                if !snapshot.records.contains_key(&chain_id) {
                    let fault = Fault::LayerUnknown { diff_id: diff_id.clone() };
                    let why = leave("load the image again");
                    self.find(record_path("images", id.hex()), None, fault, why);
                }
            }
        }
    }

    fn records(&mut self) {
        let snapshot = self.snapshot;
        for (chain_id, read) in &snapshot.records {
            let is_used = self.uses.chains.contains(chain_id);
            let path = record_path("layers", chain_id.hex());
            match read {
                Err(error) => self.malformed("layers", chain_id.hex(), error, Remedy::SetAside),
                Ok(LayerRecord { layer, .. }) if is_used => {
                    let is_there = snapshot.layers.contains_key(layer) || snapshot.diffs.contains_key(layer);
                    // A file or a link in its place is told of by itself.
                    if !is_there && !snapshot.is_misplaced("diff", layer) {
                        let fault = Fault::LayerGone { layer: layer.clone() };
                        self.find(path, Some(layer), fault, leave("load the image again"));
                    }
                    let has_split = snapshot.splits.contains(chain_id);
                    let split = state_path("splits", chain_id.hex());
                    if !has_split && !snapshot.misplaced.contains_key(&split) {
                        let why = leave("remove the image and load it again to have it saved");
                        self.find(split, None, Fault::SplitGone, why);
                    }
                }
                // The record goes after its layer, so that what a crash leaves of that is found again.
                Ok(LayerRecord { layer, .. }) if !snapshot.has_any_of(layer) => {
                    self.unused(path, Some(layer));
                }
                Ok(_) => {}
            }
        }
    }

    /// What no image has, if that can be told.
    fn unused(&mut self, path: PathBuf, subject: Option<&LayerId>) {
        if self.uses.unsure.is_none() {
            let remedy = self.uses.lost.clone().map_or(Remedy::RemoveFile, Remedy::Leave);
            self.find(path, subject, Fault::Unused, remedy);
        }
    }

    fn tags(&mut self) {
        let snapshot = self.snapshot;
        for (key, read) in &snapshot.tags {
            match read {
                Err(error) => self.malformed("tags", key.hex(), error, Remedy::SetAside),
                Ok(tag) if !snapshot.images.contains_key(&tag.image) => {
                    // It may be all that tells of an image whose layers are there still.
                    let remedy = match (&self.uses.unsure, &self.uses.lost) {
                        (None, None) => Remedy::RemoveFile,
                        _ => leave("load the image again, whose layers may be there still"),
                    };
                    let fault = Fault::ImageGone { image: tag.image.clone() };
                    self.find(record_path("tags", key.hex()), None, fault, remedy);
                }
                Ok(_) => {}
            }
        }
    }

    fn containers(&mut self) {
        let snapshot = self.snapshot;
        for (id, read) in &snapshot.containers {
            let path = record_path(RECORDS, id.as_str());
            let Container { image, .. } = match read {
                Ok(container) => container,
                Err(error) => {
                    let why = format!("move it away by hand; what changed in it lies in aufs/diff/{id}");
                    self.malformed(RECORDS, id.as_str(), error, Remedy::Leave(why));
                    continue;
                }
            };
            if !snapshot.images.contains_key(image) {
                let fault = Fault::ImageGone { image: image.clone() };
                let why = leave("it works, but for commits; load the image again");
                self.find(path.clone(), Some(id), fault, why);
            }
            if self.uses.ending.contains(id) {
                self.end_removal(id);
                continue;
            }
            for layer in [Some(id.clone()), format!("{id}{INIT}").parse().ok()].into_iter().flatten() {
                let is_there = snapshot.layers.contains_key(&layer) || snapshot.diffs.contains_key(&layer);
                if !is_there && !snapshot.is_misplaced("diff", &layer) {
                    let why = leave("aufs container rm removes what is left of it");
                    self.find(path.clone(), Some(id), Fault::LayerGone { layer }, why);
                }
            }
        }
    }

    /// The record of a container goes last, as when it is removed.
    fn end_removal(&mut self, id: &LayerId) {
        let init = format!("{id}{INIT}").parse();
        if !init.is_ok_and(|it| self.snapshot.has_any_of(&it)) {
            let path = record_path(RECORDS, id.as_str());
            self.find(path, Some(id), Fault::LayerGone { layer: id.clone() }, Remedy::RemoveFile);
        }
    }

    fn notes(&mut self) {
        let snapshot = self.snapshot;
        for (key, read) in &snapshot.notes {
            match read {
                Err(error) => self.malformed("pending", key.as_str(), error, Remedy::SetAside),
                // While something of its layers is there, that is what is wrong.
                Ok(layers) if layers.iter().any(|it| self.uses.is_orphan(it) && snapshot.has_any_of(it)) => {}
                Ok(_) => {
                    let remedy = self.uses.unsure.clone().map_or(Remedy::RemoveFile, Remedy::Leave);
                    self.find(record_path("pending", key.as_str()), None, Fault::Unfinished, remedy);
                }
            }
        }
    }

    fn splits(&mut self) {
        let snapshot = self.snapshot;
        let is_told = |it: &_| snapshot.records.contains_key(it) || self.uses.chains.contains(it);
        let unused: Vec<_> = snapshot.splits.iter().filter(|it| !is_told(*it)).collect();
        for chain_id in unused {
            self.unused(state_path("splits", chain_id.hex()), None);
        }
    }
}
