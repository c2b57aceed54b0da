//! Decides from a snapshot what is wrong. Pure: reads nothing and changes nothing.

use std::path::PathBuf;

use super::finding::{Fault, Finding, Remedy};
use super::snapshot::{Content, Count, MountPoint, Snapshot, Unreadable};
use super::snapshot::{layer_path, state_path};
use super::uses::{Uses, is_hollow};
use crate::id::LayerId;

/// All that is wrong, in the order in which it is repaired.
pub(super) fn judge(snapshot: &Snapshot) -> Vec<Finding> {
    let mut judge = Judge { snapshot, uses: Uses::of(snapshot), findings: Vec::new() };
    judge.strangers();
    // Without one of its directories nothing can be said of what lies in the others.
    if !snapshot.is_layout_broken {
        judge.leftovers();
        judge.layers();
        judge.halves();
        judge.orphans();
        judge.mounts();
        judge.counts();
        judge.objects();
    }
    let mut findings = judge.findings;
    findings.sort_by_key(|it| it.remedy.order());
    findings
}

pub(super) struct Judge<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) uses: Uses,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    pub(super) fn find(&mut self, path: PathBuf, subject: Option<&LayerId>, fault: Fault, remedy: Remedy) {
        self.findings.push(Finding { path, fault, remedy, subject: subject.cloned() });
    }

    fn of_layer(&mut self, part: &str, id: &LayerId, fault: Fault, remedy: Remedy) {
        self.find(layer_path(part, id), Some(id), fault, remedy);
    }

    /// What is not the driver's.
    fn strangers(&mut self) {
        let snapshot = self.snapshot;
        for path in &snapshot.unknown {
            self.find(path.clone(), None, Fault::Unknown, leave("it is left alone; move it away"));
        }
        for (path, it) in &snapshot.misplaced {
            let fault = Fault::WrongType { expected: it.expected, found: it.found };
            let subject = path.file_name().and_then(|it| it.to_str()?.parse().ok());
            self.find(path.clone(), subject.as_ref(), fault, leave("it is left alone; move it away"));
        }
    }

    /// What deletions and writers left.
    fn leftovers(&mut self) {
        let snapshot = self.snapshot;
        for path in &snapshot.removing {
            let name = path.file_name().and_then(|it| it.to_str()?.strip_suffix(crate::id::REMOVING));
            let subject = name.and_then(|it| it.parse().ok());
            self.find(path.clone(), subject.as_ref(), Fault::Removing, Remedy::RemoveTree);
        }
        for path in &snapshot.drafts {
            self.find(path.clone(), None, Fault::Draft, Remedy::RemoveTree);
        }
    }

    /// Layers that have a file in `layers/`, but for orphans.
    fn layers(&mut self) {
        let snapshot = self.snapshot;
        for (id, read) in &snapshot.layers {
            if self.uses.is_orphan(id) {
                continue;
            }
            if let Some((fault, remedy)) = self.lineage(id, read.as_ref()) {
                self.of_layer("layers", id, fault, remedy);
            }
            if matches!(read, Err(Unreadable::WrongType)) {
                continue;
            }
            if !snapshot.diffs.contains_key(id) && !snapshot.is_misplaced("diff", id) {
                let why = if self.uses.known.contains(id) {
                    "remove the images and containers that have it, and load the images again"
                } else {
                    "put it back, or remove the layer"
                };
                self.of_layer("diff", id, Fault::ContentGone, leave(why));
            }
            if !snapshot.mnts.contains_key(id) && !snapshot.is_misplaced("mnt", id) {
                self.of_layer("mnt", id, Fault::MountPointGone, Remedy::MakeMountPoint);
            }
        }
    }

    /// What is wrong with the ancestors that a layer's own file says.
    fn lineage(&self, id: &LayerId, read: Result<&Vec<LayerId>, &Unreadable>) -> Option<(Fault, Remedy)> {
        let told = self.uses.told(self.snapshot, id);
        let write = |fault| told.map(|it| (fault, Remedy::WriteLayersFile(it.clone())));
        let ancestors = match read {
            Err(Unreadable::WrongType) => return None,
            Err(Unreadable::Malformed(reason)) => {
                let fault = Fault::LayersFile { reason: reason.clone() };
                let why = "nothing tells what the layer lies on; put the file back";
                return write(fault.clone()).or_else(|| Some((fault, leave(why))));
            }
            Ok(ancestors) if told == Some(ancestors) => return None,
            Ok(_) if told.is_some() => return write(Fault::Ancestors),
            Ok(ancestors) => ancestors,
        };
        let (parent, further) = ancestors.split_first()?;
        let of_parent = self.ancestors(parent);
        let is_there = |it: &&LayerId| {
            self.snapshot.layers.contains_key(it) || self.uses.can_come_back(self.snapshot, it)
        };
        if let Some(ancestor) = ancestors.iter().find(|it| !is_there(it)) {
            // Told of the lowest layer that misses it, or of what has that layer.
            let is_told =
                of_parent.is_some_and(|it| it.contains(ancestor)) || self.uses.known.contains(ancestor);
            let why = "put it back, or remove the layer with all that lies on it";
            return (!is_told).then(|| (Fault::AncestorGone { ancestor: ancestor.clone() }, leave(why)));
        }
        let why = "nothing tells which of the two is right";
        match of_parent {
            Some(it) if it.contains(id) => Some((Fault::Cycle { parent: parent.clone() }, leave(why))),
            Some(it) if it != further => Some((Fault::Disagrees { parent: parent.clone() }, leave(why))),
            _ => None,
        }
    }

    /// What a layer lies on, by what images and containers say, or else by its own file.
    fn ancestors(&self, id: &LayerId) -> Option<&Vec<LayerId>> {
        let own = self.snapshot.layers.get(id).and_then(|it| it.as_ref().ok());
        self.uses.told(self.snapshot, id).or(own)
    }

    /// Content and mount points without a file in `layers/`, but for orphans.
    fn halves(&mut self) {
        let snapshot = self.snapshot;
        let mut ids: Vec<_> = snapshot.diffs.keys().chain(snapshot.mnts.keys()).collect();
        ids.sort();
        ids.dedup();
        for id in ids.into_iter().filter(|it| !snapshot.layers.contains_key(it)) {
            let has_content = snapshot.diffs.contains_key(id);
            if self.uses.is_orphan(id)
                || snapshot.is_misplaced("diff", id)
                || snapshot.is_misplaced("mnt", id)
            {
                continue;
            }
            if let Some(told) = self.uses.told(snapshot, id).filter(|_| has_content) {
                let remedy = Remedy::WriteLayersFile(told.clone());
                self.of_layer("layers", id, Fault::LayersFileGone, remedy);
            } else if self.uses.kept.contains(id) {
                if has_content {
                    let why = "nothing tells what the layer lies on; put the file back";
                    self.of_layer("layers", id, Fault::LayersFileGone, leave(why));
                }
            } else if is_hollow(snapshot, id) {
                let part = if has_content { "diff" } else { "mnt" };
                self.of_layer(part, id, Fault::HalfLayer, Remedy::RemoveEmpty);
            } else if snapshot.diffs.get(id) == Some(&Content::Something) {
                let why = "nothing tells whose it is; remove it if nobody misses it";
                self.of_layer("diff", id, Fault::HalfLayer, leave(why));
            }
        }
    }

    fn orphans(&mut self) {
        let snapshot = self.snapshot;
        let orphans: Vec<_> =
            self.uses.orphans(snapshot).into_iter().map(|(id, why)| (id.clone(), why)).collect();
        for (id, why) in orphans {
            let parts =
                [("layers", snapshot.layers.contains_key(&id)), ("diff", snapshot.diffs.contains_key(&id))];
            let part = parts.iter().find(|it| it.1).map_or("mnt", |it| it.0);
            let remedy = why.map_or(Remedy::RemoveLayer, Remedy::Leave);
            self.of_layer(part, &id, Fault::Orphan, remedy);
        }
    }

    fn mounts(&mut self) {
        let snapshot = self.snapshot;
        for (id, found) in &snapshot.mnts {
            let is_orphan = self.uses.is_orphan(id);
            let (fault, remedy) = match found {
                MountPoint::Filled => (Fault::MountPointFilled, leave("move the files away")),
                MountPoint::Foreign(fs_type) => {
                    (Fault::ForeignMount { fs_type: fs_type.clone() }, leave("unmount it"))
                }
                // What is mounted of an orphan goes with that.
                MountPoint::Dead if !is_orphan => (Fault::DeadMount, Remedy::Detach),
                MountPoint::Mounted(mount) if !is_orphan && !self.is_counted(id, *mount) => {
                    match (self.uses.known.contains(id), snapshot.layers.contains_key(id)) {
                        (true, _) if self.is_started(id) => (Fault::UncountedMount, Remedy::Count),
                        (true, _) => (Fault::UncountedMount, Remedy::Unmount),
                        // Docker counts in memory, and so may be using what nothing of ours tells of.
                        (false, true) => continue,
                        (false, false) => (Fault::StrayMount, leave("unmount it if nobody uses it")),
                    }
                }
                _ => continue,
            };
            self.of_layer("mnt", id, fault, remedy);
        }
    }

    fn is_counted(&self, id: &LayerId, mount: u64) -> bool {
        match self.snapshot.counts.get(id) {
            Some(Count::Says(it)) => it.boot == self.snapshot.boot && it.mount == Some(mount) && 0 < it.count,
            _ => false,
        }
    }

    fn is_started(&self, id: &LayerId) -> bool {
        matches!(self.snapshot.containers.get(id), Some(Ok(it)) if it.is_started)
    }

    fn counts(&mut self) {
        let snapshot = self.snapshot;
        for (id, count) in &snapshot.counts {
            let path = state_path("counts", id);
            let has_layer = snapshot.layers.contains_key(id);
            if !has_layer && !snapshot.has_any_of(id) {
                self.find(path, Some(id), Fault::StaleCount, Remedy::RemoveFile);
                continue;
            }
            let is_stale = match (count, snapshot.mnts.get(id)) {
                (Count::Nothing, _) => false,
                // That of a mount is put right with the mount.
                (_, Some(MountPoint::Dead | MountPoint::Foreign(_))) => false,
                (_, Some(MountPoint::Mounted(mount))) => {
                    !self.uses.known.contains(id) && !self.is_counted(id, *mount)
                }
                (Count::Malformed, _) => true,
                (Count::Says(it), _) if it.count == 0 => false,
                (Count::Says(it), _) => it.boot != snapshot.boot || it.mount.is_some(),
            };
            if is_stale && has_layer && !self.uses.is_orphan(id) {
                self.find(path, Some(id), Fault::StaleCount, Remedy::Count);
            }
        }
        for id in snapshot.locks.iter().filter(|it| !snapshot.containers.contains_key(it)) {
            self.find(state_path("locks", id), Some(id), Fault::StaleLock, Remedy::RemoveFile);
        }
    }
}

pub(super) fn leave(reason: &str) -> Remedy {
    Remedy::Leave(reason.to_owned())
}
