//! Mends what was found, each time under the locks of what it touches and after one more look.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use aufs_host::draft::fresh_name;
use aufs_mount::unmount;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use tracing::debug;

use super::Outcome;
use super::finding::{Fault, Finding, Remedy};
use super::judge::judge;
use super::read::{LOST_AND_FOUND, Root};
use super::snapshot::{MountPoint, Snapshot};
use crate::count::{Locked, Record};
use crate::driver::{Driver, DriverOptions, Removal};
use crate::error::{StorageErrorKind, failed};
use crate::id::LayerId;
use crate::remove::{detach_below, remove_all};

/// How many findings are mended between two looks; each holds a file open.
const BATCH_LEN: usize = 64;

/// A repair of a data root.
pub(super) struct Repair<'r> {
    root: &'r Root,
    driver: Driver,
    done: Vec<Finding>,
    failed: Vec<(Finding, String)>,
}

/// Locks of layers and of containers.
#[derive(Default)]
struct Held {
    layers: BTreeMap<LayerId, Locked>,
    containers: BTreeMap<LayerId, Locked>,
}

impl<'r> Repair<'r> {
    /// Opens the driver, which makes directories that are missing, but sweeps nothing.
    pub(super) fn open(root: &'r Root) -> Result<Self, StorageErrorKind> {
        let driver = Driver::attach(&root.path, DriverOptions::default())?;
        driver.home.state_directory("splits")?;
        Ok(Self { root, driver, done: Vec::new(), failed: Vec::new() })
    }

    /// Mends until there is nothing left that can be.
    pub(super) fn run(&mut self) -> Result<(), StorageErrorKind> {
        loop {
            let mut batch = judge(&self.root.read()?);
            // What mending did not help, or did not last, is not tried again.
            batch.retain(|it| it.remedy.is_repair() && !self.is_tried(it));
            batch.truncate(BATCH_LEN);
            if batch.is_empty() {
                return Ok(());
            }
            let tried = self.done.len() + self.failed.len();
            self.mend(batch)?;
            // All of it was about to be finished by somebody else.
            if tried == self.done.len() + self.failed.len() {
                return Ok(());
            }
        }
    }

    fn is_tried(&self, finding: &Finding) -> bool {
        self.done.contains(finding) || self.failed.iter().any(|it| it.0 == *finding)
    }

    /// What was mended, and what is there now.
    pub(super) fn take_findings(self, left: &[Finding]) -> Vec<(Finding, Outcome)> {
        let outcome = |it: &Finding| match self.failed.iter().find(|failed| failed.0 == *it) {
            Some((_, reason)) => Outcome::Failed(reason.clone()),
            None => Outcome::Found,
        };
        let left = left.iter().map(|it| (it.clone(), outcome(it)));
        let done = self.done.iter().map(|it| (it.clone(), Outcome::Repaired));
        done.chain(left).collect()
    }

    fn mend(&mut self, batch: Vec<Finding>) -> Result<(), StorageErrorKind> {
        let mut held = self.lock(&batch);
        let snapshot = self.root.read()?;
        let still = judge(&snapshot);
        // Layers below one that could not be removed.
        let mut needed: BTreeSet<LayerId> = BTreeSet::new();
        for finding in batch {
            if !still.contains(&finding) || self.is_tried(&finding) {
                continue;
            }
            if let Some(id) = finding.subject.as_ref().filter(|it| needed.contains(it)) {
                self.failed
                    .push((finding.clone(), format!("a layer lies on {id} that could not be removed")));
                continue;
            }
            match self.apply(&finding, &snapshot, &mut held) {
                Ok(()) => self.done.push(finding),
                Err(kind) => {
                    if finding.remedy == Remedy::RemoveLayer {
                        let read = finding.subject.as_ref().and_then(|it| snapshot.layers.get(it));
                        needed.extend(read.into_iter().flatten().flatten().cloned());
                    }
                    self.failed.push((finding, chain(&kind)));
                }
            }
        }
        self.unlock(held)
    }

    /// Locks what a batch touches, in the order of ids as everybody does; what cannot be locked has failed.
    fn lock(&mut self, batch: &[Finding]) -> Held {
        let mut held = Held::default();
        let mut wanted: Vec<_> = batch.iter().filter_map(|it| Some((it.subject.as_ref()?, it))).collect();
        // Whoever holds the lock of a container waits for those of layers.
        wanted.sort_by_key(|(id, it)| (it.fault != Fault::StaleLock, *id));
        for (id, finding) in wanted {
            let of_container = finding.fault == Fault::StaleLock;
            let locked = if of_container {
                self.driver
                    .home
                    .state_directory("locks")
                    .and_then(|(locks, path)| Locked::wait(&locks, id).map_err(failed("lock", path.join(id))))
            } else if held.layers.contains_key(id) {
                continue;
            } else {
                self.driver.lock(id)
            };
            match locked {
                Ok(lock) if of_container => drop(held.containers.insert(id.clone(), lock)),
                Ok(lock) => drop(held.layers.insert(id.clone(), lock)),
                Err(kind) => self.failed.push((finding.clone(), chain(&kind))),
            }
        }
        held
    }

    /// Lets go of locks, and removes the files of those that lock nothing.
    fn unlock(&self, held: Held) -> Result<(), StorageErrorKind> {
        for (id, lock) in held.layers {
            if !self.driver.home.has(&id)? {
                gone(lock.remove(&self.driver.home.counts, &id)).map_err(failed("unlink", id.as_str()))?;
            }
        }
        Ok(())
    }

    fn apply(&self, finding: &Finding, snapshot: &Snapshot, held: &mut Held) -> Result<(), StorageErrorKind> {
        debug!(?finding, "mending");
        let home = &self.driver.home;
        match (&finding.remedy, &finding.subject) {
            (Remedy::WriteLayersFile(ancestors), Some(id)) => home.rewrite(id, ancestors),
            (Remedy::MakeMountPoint, Some(id)) => {
                home.make_directory(&home.mnt, id).map_err(failed("mkdir", home.mnt_path(id)))
            }
            (Remedy::RemoveLayer, Some(id)) => {
                self.unmount(id, snapshot)?;
                let lock = held.layers.remove(id).ok_or(Errno::NOLCK).map_err(failed("lock", id.as_str()))?;
                self.driver.remove_locked(id, lock, Removal::IfUnused)
            }
            (Remedy::RemoveEmpty, Some(id)) => self.remove_empty(id),
            (Remedy::Detach | Remedy::Unmount, Some(id)) => {
                self.unmount(id, snapshot)?;
                self.count(id, None, held)
            }
            (Remedy::Count, Some(id)) => {
                let mount = match snapshot.mnts.get(id) {
                    Some(MountPoint::Mounted(mount)) => Some(*mount),
                    _ => None,
                };
                self.count(id, mount, held)
            }
            (Remedy::RemoveTree, _) => self.remove_tree(&finding.path),
            (Remedy::RemoveFile, _) => self.remove_file(&finding.path),
            (Remedy::SetAside, _) => self.set_aside(&finding.path),
            (Remedy::Leave(_), _) | (_, None) => Ok(()),
        }
    }

    /// Unmounts a layer; what programs use stays, unless its server is gone.
    fn unmount(&self, id: &LayerId, snapshot: &Snapshot) -> Result<(), StorageErrorKind> {
        let path = self.driver.home.mnt_path(id);
        match snapshot.mnts.get(id) {
            Some(MountPoint::Mounted(_)) => self.driver.unmount(&path),
            // Only this one: what lies under it may be another's.
            Some(MountPoint::Dead) => {
                unmount::detach(&path, true).map_err(|kind| kind.during("unmount", &path).into())
            }
            _ => Ok(()),
        }
    }

    /// Writes that a layer is used by one if it is mounted, as the driver counts what it finds, or by nobody.
    fn count(&self, id: &LayerId, mount: Option<u64>, held: &Held) -> Result<(), StorageErrorKind> {
        let lock = held.layers.get(id).ok_or(Errno::NOLCK).map_err(failed("lock", id.as_str()))?;
        let record = Record { boot: self.driver.boot.clone(), mount, count: mount.map_or(0, |_| 1) };
        lock.write(&record).map_err(failed("write the count of", id.as_str()))
    }

    fn remove_empty(&self, id: &LayerId) -> Result<(), StorageErrorKind> {
        let home = &self.driver.home;
        for (dir, name) in home.directories() {
            // A directory that was filled meanwhile is refused.
            gone(rustix::fs::unlinkat(dir, id.as_str(), AtFlags::REMOVEDIR))
                .map_err(failed("rmdir", home.path.join(name).join(id)))?;
        }
        Ok(())
    }

    fn remove_tree(&self, path: &Path) -> Result<(), StorageErrorKind> {
        let whole = self.root.path.join(path);
        detach_below(&whole)?;
        let (parent, name) = split(path);
        let dir = self.root.open_below(parent).map_err(failed("open", whole.clone()))?;
        remove_all(&dir, name).map_err(failed("remove", whole))
    }

    fn remove_file(&self, path: &Path) -> Result<(), StorageErrorKind> {
        let whole = self.root.path.join(path);
        let (parent, name) = split(path);
        let dir = self.root.open_below(parent).map_err(failed("open", whole.clone()))?;
        gone(rustix::fs::unlinkat(&dir, name, AtFlags::empty())).map_err(failed("unlink", whole.clone()))?;
        rustix::fs::fsync(&dir).map_err(failed("fsync", whole))
    }

    fn set_aside(&self, path: &Path) -> Result<(), StorageErrorKind> {
        let (aside, aside_path) = self.driver.home.state_directory(LOST_AND_FOUND)?;
        let (parent, name) = split(path);
        let dir = self.root.open_below(parent).map_err(failed("open", self.root.path.join(path)))?;
        let kind = parent.file_name().unwrap_or_default();
        let mut target = OsString::from_iter([kind, OsStr::new("-"), name]);
        let mut moved = rustix::fs::renameat_with(&dir, name, &aside, &target, RenameFlags::NOREPLACE);
        if moved == Err(Errno::EXIST) {
            target = OsString::from_iter([&target, OsStr::new("."), &fresh_name()]);
            moved = rustix::fs::renameat_with(&dir, name, &aside, &target, RenameFlags::NOREPLACE);
        }
        moved.map_err(failed("rename", aside_path.join(target)))?;
        rustix::fs::fsync(&aside).and_then(|()| rustix::fs::fsync(&dir)).map_err(failed("fsync", aside_path))
    }
}

/// An error with what is behind it, on one line.
fn chain(kind: &StorageErrorKind) -> String {
    let causes = std::iter::successors(Some(kind as &dyn std::error::Error), |it| it.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What is gone already is fine.
fn gone(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default())
}
