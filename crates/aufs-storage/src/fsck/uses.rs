//! What leads to which layer: the rule by which a layer may go, and no other may.
//!
//! A layer goes only if all of this holds:
//!
//! 1. A command of ours made it, as a layer record or the note of a command says, or a container whose
//!    own layer a removal took. A layer that none of them names may be Docker's, or that of a caller of the driver, and is good data.
//! 2. No image has it, no container has it, and no layer that stays lies on it.
//! 3. All that could lead to it can be read, and nothing lies beside that may have been such an object.
//! 4. Where no note of a command says that it was to go, nothing tells of an image that was lost either:
//!    a crash leaves notes, so without one it was no crash that took the image away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::snapshot::{Content, MountPoint, Snapshot, record_path};
use crate::container::RECORDS;
use crate::id::{INIT, LayerId};
use crate::image::digest::{Digest, chain_ids};

/// What leads to which layer.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// What the file of a layer is to say; none where two say different things.
    told: BTreeMap<LayerId, Option<Vec<LayerId>>>,
    /// Layers that images and containers have.
    pub(super) known: BTreeSet<LayerId>,
    /// Layers that stay: those, all that we did not make, and all that these lie on.
    pub(super) kept: BTreeSet<LayerId>,
    /// ChainIDs of the stacks of images.
    pub(super) chains: BTreeSet<Digest>,
    /// Containers whose removal did not end.
    pub(super) ending: BTreeSet<LayerId>,
    /// Layers that notes of commands name, or containers whose removal did not end.
    noted: BTreeSet<LayerId>,
    /// Layers that layer records name.
    recorded: BTreeSet<LayerId>,
    /// Why nothing may go.
    pub(super) unsure: Option<String>,
    /// Why nothing may go that no note names.
    pub(super) lost: Option<String>,
}

impl Uses {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut uses = Self::default();
        for layers in snapshot.notes.values().flatten() {
            uses.noted.extend(layers.iter().cloned());
        }
        uses.recorded.extend(snapshot.records.values().flatten().map(|it| it.layer.clone()));
        let tops = uses.images(snapshot);
        uses.containers(snapshot, &tops);
        uses.doubt(snapshot);
        uses.keep(snapshot);
        uses.miss(snapshot);
        uses
    }

    /// Follows the images to their layers; returns the whole stack of each whose layers are all known, topmost first.
    fn images<'s>(&mut self, snapshot: &'s Snapshot) -> BTreeMap<&'s Digest, Vec<LayerId>> {
        let mut tops = BTreeMap::new();
        for (image, diff_ids) in &snapshot.images {
            let Ok(diff_ids) = diff_ids else { continue };
            let mut below = Some(Vec::new());
            for chain_id in chain_ids(diff_ids) {
                match (snapshot.records.get(&chain_id), &mut below) {
                    (Some(Ok(record)), below) => {
                        self.known.insert(record.layer.clone());
                        if let Some(below) = below {
                            self.tell(&record.layer, below.clone());
                            below.insert(0, record.layer.clone());
                        }
                    }
                    (_, below) => {
                        *below = None;
                        let path = record_path("images", image.hex());
                        self.unsure(format!("nothing tells of all layers of {}", path.display()));
                    }
                }
                self.chains.insert(chain_id);
            }
            tops.extend(below.map(|it| (image, it)));
        }
        tops
    }

    fn containers(&mut self, snapshot: &Snapshot, tops: &BTreeMap<&Digest, Vec<LayerId>>) {
        for (id, container) in &snapshot.containers {
            let Ok(init) = format!("{id}{INIT}").parse::<LayerId>() else { continue };
            let top = container.as_ref().ok().and_then(|it| tops.get(&it.image));
            if top.is_some_and(|it| is_half_removed(snapshot, id, it)) {
                self.noted.insert(init);
                self.ending.insert(id.clone());
                continue;
            }
            // Its name says which layers it has, whatever stands in it.
            self.known.extend([id.clone(), init.clone()]);
            let Ok(container) = container else { continue };
            let below = match (tops.get(&container.image), snapshot.layers.get(&init)) {
                (Some(below), _) => {
                    self.tell(&init, below.clone());
                    below.clone()
                }
                (None, Some(Ok(below))) => below.clone(),
                (None, _) => continue,
            };
            self.tell(id, [vec![init], below].concat());
        }
    }

    fn tell(&mut self, id: &LayerId, ancestors: Vec<LayerId>) {
        let is_cycle = ancestors.contains(id);
        let told = self.told.entry(id.clone()).or_insert_with(|| Some(ancestors.clone()));
        if is_cycle || told.as_ref() != Some(&ancestors) {
            *told = None;
            self.unsure(format!("two layer records tell of the layer {id}"));
        }
    }

    fn unsure(&mut self, reason: String) {
        self.unsure.get_or_insert(reason);
    }

    /// Looks for what might lead to a layer, if only it could be read.
    fn doubt(&mut self, snapshot: &Snapshot) {
        let images = snapshot.images.iter().filter(|it| it.1.is_err());
        let images = images.map(|it| record_path("images", it.0.hex()));
        let records = snapshot.records.iter().filter(|it| it.1.is_err());
        let records = records.map(|it| record_path("layers", it.0.hex()));
        let containers = snapshot.containers.iter().filter(|it| it.1.is_err());
        let containers = containers.map(|it| record_path(RECORDS, it.0.as_str()));
        let of_objects = |it: &&std::path::PathBuf| {
            ["images", "layers", RECORDS].iter().any(|dir| it.starts_with(Path::new("aufs-rs").join(dir)))
        };
        let unknown = snapshot.unknown.iter().filter(of_objects).cloned();
        if let Some(path) = images.chain(records).chain(containers).chain(unknown).next() {
            self.unsure(format!("{} cannot be read", path.display()));
        }
        let is_ours = |it: &LayerId| self.noted.contains(it) || self.recorded.contains(it);
        let unreadable = snapshot.layers.iter().find(|(id, it)| it.is_err() && !is_ours(id));
        if let Some((id, _)) = unreadable.filter(|it| self.told(snapshot, it.0).is_none()) {
            self.unsure(format!("aufs/layers/{id} cannot be read"));
        }
    }

    fn keep(&mut self, snapshot: &Snapshot) {
        let is_ours = |it: &&LayerId| self.noted.contains(it) || self.recorded.contains(it);
        let others = snapshot.layers.keys().filter(|it| !is_ours(it));
        let mut left: Vec<LayerId> = self.known.iter().chain(others).cloned().collect();
        while let Some(id) = left.pop() {
            if !self.kept.insert(id.clone()) {
                continue;
            }
            let own = snapshot.layers.get(&id).and_then(|it| it.as_ref().ok());
            let told = self.told.get(&id).and_then(Option::as_ref);
            left.extend(own.into_iter().chain(told).flatten().cloned());
        }
    }

    /// Looks for images that were lost and not removed.
    fn miss(&mut self, snapshot: &Snapshot) {
        let is_led_to = |chain_id: &Digest, layer: &LayerId| {
            self.chains.contains(chain_id) || self.noted.contains(layer) || !snapshot.has_any_of(layer)
        };
        let mut records = snapshot.records.values().flatten();
        if records.all(|it| is_led_to(&it.chain_id, &it.layer)) {
            return;
        }
        let mut tags = snapshot.tags.values().flatten();
        if let Some(tag) = tags.find(|it| !snapshot.images.contains_key(&it.image)) {
            let name = &tag.reference;
            self.lost = Some(format!("{name} may have it, an image that is lost; load that again"));
        } else if !snapshot.has_images {
            self.lost = Some("aufs-rs/images is lost; load the images again".to_owned());
        }
    }

    /// Layers that a command of ours made and that nothing has, and why each has to stay if it has; a layer before those below it.
    pub(super) fn orphans<'s>(&'s self, snapshot: &'s Snapshot) -> Vec<(&'s LayerId, Option<String>)> {
        // What cannot be read may lead to a layer that only its record names, so nothing is said of that.
        let is_in_question = |it: &&LayerId| self.unsure.is_some() && !self.noted.contains(it);
        let ours = self.noted.union(&self.recorded).filter(|it| !is_in_question(it));
        let mut orphans: Vec<_> =
            ours.filter(|it| !self.kept.contains(it) && snapshot.has_any_of(it)).collect();
        let ancestors = |id: &LayerId| snapshot.layers.get(id).and_then(|it| it.as_ref().ok());
        orphans.sort_by_key(|it| std::cmp::Reverse(ancestors(it).map_or(usize::MAX, Vec::len)));
        let mut held: BTreeMap<&LayerId, &LayerId> = BTreeMap::new();
        let mut judged = Vec::new();
        for id in orphans {
            let lost = self.lost.as_ref().filter(|_| !self.noted.contains(id));
            let below = held.get(id).map(|it| format!("{it} lies on it"));
            let reason = self.unsure.as_ref().or(lost).cloned().or(below).or_else(|| obstacle(snapshot, id));
            if reason.is_some() {
                held.extend(ancestors(id).into_iter().flatten().map(|it| (it, id)));
            }
            judged.push((id, reason));
        }
        judged
    }

    /// Whether a layer is ours and goes, as [`Uses::orphans`] tells.
    pub(super) fn is_orphan(&self, id: &LayerId) -> bool {
        (self.noted.contains(id) || self.recorded.contains(id)) && !self.kept.contains(id)
    }

    /// What the file of a layer is to say, if images and containers tell and all those layers are there.
    pub(super) fn told(&self, snapshot: &Snapshot, id: &LayerId) -> Option<&Vec<LayerId>> {
        let told = self.told.get(id)?.as_ref()?;
        let is_there = |it: &LayerId| {
            snapshot.diffs.contains_key(it)
                && (snapshot.layers.contains_key(it) || self.can_come_back(snapshot, it))
        };
        told.iter().all(is_there).then_some(told)
    }

    /// Whether a layer lacks only its file, which can be written anew.
    pub(super) fn can_come_back(&self, snapshot: &Snapshot, id: &LayerId) -> bool {
        let has_content = snapshot.diffs.contains_key(id) && !snapshot.layers.contains_key(id);
        has_content && matches!(self.told.get(id), Some(Some(_)))
    }
}

/// Whether a removal took the layer of a container, and with it all that was the container's.
///
/// Where the layers of its image are missing too, it was none: the whole home may lie on a disk that is not there.
fn is_half_removed(snapshot: &Snapshot, id: &LayerId, below: &[LayerId]) -> bool {
    let has_part = ["layers", "diff", "mnt"].iter().any(|it| snapshot.is_misplaced(it, id));
    let is_there = |it: &LayerId| snapshot.layers.contains_key(it) && snapshot.diffs.contains_key(it);
    // The mount point goes last.
    let is_bare = matches!(snapshot.mnts.get(id), None | Some(MountPoint::Empty));
    let is_gone = is_bare && !snapshot.layers.contains_key(id) && !snapshot.diffs.contains_key(id);
    is_gone && !has_part && !below.is_empty() && below.iter().all(is_there)
}

/// What of a layer that is to go fsck does not understand.
fn obstacle(snapshot: &Snapshot, id: &LayerId) -> Option<String> {
    let misplaced = ["layers", "diff", "mnt"].into_iter().find(|it| snapshot.is_misplaced(it, id));
    match (misplaced, snapshot.mnts.get(id)) {
        (Some(part), _) => Some(format!("something else lies at aufs/{part}/{id}")),
        (None, Some(MountPoint::Filled)) => Some(format!("files lie in aufs/mnt/{id}; move them away")),
        (None, Some(MountPoint::Foreign(fs_type))) => {
            Some(format!("a {fs_type} is mounted on it; unmount that"))
        }
        _ => None,
    }
}

/// Whether half a layer holds nothing that could be missed.
pub(super) fn is_hollow(snapshot: &Snapshot, id: &LayerId) -> bool {
    let is_empty = matches!(snapshot.diffs.get(id), None | Some(Content::Nothing));
    is_empty && matches!(snapshot.mnts.get(id), None | Some(MountPoint::Empty))
}
