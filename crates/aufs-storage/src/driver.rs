//! The operations of Docker's graph driver: layers are created, mounted with their ancestors, and removed.
//!
//! Every operation may be called at any time, from many threads and several
//! processes: each works on its layer alone, under a lock of the host
//! (one file for each layer says who uses it). A crash leaves a layer there or not there, never half.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aufs_mount::error::MountErrorKind;
use aufs_mount::mounter::Mounter;
use aufs_mount::option::MountOptions;
use rustix::io::Errno;
use tracing::{debug, warn};

use crate::count::{Locked, Record, State, boot_id};
use crate::error::{StorageError, StorageErrorKind, failed};
use crate::home::Home;
use crate::id::LayerId;
use crate::mounts::Counted;
use crate::remove::{detach_below, remove_directory};
use crate::status::Status;

/// The name of the driver, as Docker selects it.
pub const NAME: &str = "aufs";

/// How the driver mounts.
#[derive(Debug, Clone, Default)]
pub struct DriverOptions {
    /// Kernel aufs or our server, if not to be chosen.
    pub mounter: Option<Mounter>,
    /// The program that serves mounts, if not to be searched for.
    pub program: Option<PathBuf>,
    /// Where servers write their log; absolute.
    pub log: Option<PathBuf>,
    /// Options of every mount but its branches.
    pub mount: MountOptions,
}

/// What to do with a layer that is in use when it is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Leave it alone and say so.
    IfUnused,
    /// Unmount it under its users, as Docker's driver does.
    Force,
}

/// The driver of one home.
#[derive(Debug)]
pub struct Driver {
    pub(crate) home: Home,
    pub(crate) options: DriverOptions,
    /// Which start of the host this is.
    pub(crate) boot: String,
}

impl Driver {
    /// Opens the driver below a data root, such as `/var/lib/docker`, whose `aufs/` is its home.
    ///
    /// What is missing is made, and what deletions left behind is removed. A home may
    /// be open many times.
    ///
    /// # Errors
    ///
    /// [`Backing`](StorageErrorKind::Backing), or what the host refuses.
    pub fn open(root: &Path, options: DriverOptions) -> Result<Self, StorageError> {
        let driver = Self::attach(root, options).map_err(|kind| kind.during("open", root.display()))?;
        driver.home.sweep();
        Ok(driver)
    }

    /// As [`Driver::open`], but leaves what deletions left behind.
    pub(crate) fn attach(root: &Path, options: DriverOptions) -> Result<Self, StorageErrorKind> {
        let home = Home::open(root, options.mounter)?;
        let boot = boot_id().map_err(failed("read", "/proc"))?;
        Ok(Self { home, options, boot })
    }

    /// Returns the driver's home, `ROOT/aufs`, without symlinks.
    pub fn home(&self) -> &Path {
        &self.home.path
    }

    /// Returns what Docker shows of the driver.
    pub fn status(&self) -> Status {
        Status {
            root_dir: self.home.path.clone(),
            backing_filesystem: self.home.backing,
            // As Docker, which shows none where they cannot be counted.
            dirs: self.home.layer_names().map_or(0, |it| it.len()),
            dirperm1: true,
        }
    }

    /// Whether there is such a layer.
    ///
    /// # Errors
    ///
    /// What `stat(2)` reports.
    pub fn exists(&self, id: &LayerId) -> Result<bool, StorageError> {
        self.home.has(id).map_err(|kind| kind.during("look for", id))
    }

    /// Returns every layer, sorted; names that are no ids are left out.
    ///
    /// # Errors
    ///
    /// What listing `layers/` reports.
    pub fn layers(&self) -> Result<Vec<LayerId>, StorageError> {
        let names = self.home.layer_names().map_err(|kind| kind.during("list", "layers"))?;
        Ok(names.iter().filter_map(|it| it.to_str()?.parse().ok()).collect())
    }

    /// Returns the layers below a layer, nearest first.
    ///
    /// # Errors
    ///
    /// [`Unknown`](StorageErrorKind::Unknown), [`LayersFile`](StorageErrorKind::LayersFile).
    pub fn ancestors(&self, id: &LayerId) -> Result<Vec<LayerId>, StorageError> {
        self.home.ancestors(id).map_err(|kind| kind.during("read", id))
    }

    /// Returns what the driver knows of a layer beyond its name, which is nothing, as with Docker's.
    pub fn metadata(&self, _id: &LayerId) -> Option<Vec<(String, String)>> {
        None
    }

    /// Creates an empty layer on `parent`, or a base layer.
    ///
    /// # Errors
    ///
    /// [`Exists`](StorageErrorKind::Exists), [`UnknownParent`](StorageErrorKind::UnknownParent),
    /// [`StorageOption`](StorageErrorKind::StorageOption) for any option of the layer, or
    /// what the host refuses; nothing is left of it then.
    pub fn create(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        storage_options: &[(String, String)],
    ) -> Result<(), StorageError> {
        self.create_layer(id, parent, storage_options).map_err(|kind| kind.during("create", id))
    }

    fn create_layer(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        storage_options: &[(String, String)],
    ) -> Result<(), StorageErrorKind> {
        if !storage_options.is_empty() {
            return Err(StorageErrorKind::StorageOption);
        }
        if let Some(parent) = parent
            && parent == id
        {
            return Err(StorageErrorKind::UnknownParent { parent: parent.clone() });
        }
        // Nobody removes the parent before the child says that it is one. All take locks in the order of ids.
        let share = || parent.map(|it| Locked::share(&self.home.counts, it)).transpose();
        let (lock, _parent_lock) = if parent.is_some_and(|it| it < id) {
            let parent_lock = share().map_err(failed("lock", id.as_str()))?;
            (self.lock(id)?, parent_lock)
        } else {
            (self.lock(id)?, share().map_err(failed("lock", id.as_str()))?)
        };
        if self.home.has(id)? {
            return Err(StorageErrorKind::Exists);
        }
        let created = self.fill_in(id, parent);
        if created.is_err() {
            self.discard(id, lock);
        }
        created
    }

    fn fill_in(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), StorageErrorKind> {
        let mut ancestors = Vec::new();
        if let Some(parent) = parent {
            ancestors = self.home.ancestors(parent).map_err(|kind| match kind {
                StorageErrorKind::Unknown => StorageErrorKind::UnknownParent { parent: parent.clone() },
                other => other,
            })?;
            ancestors.insert(0, parent.clone());
        }
        for (dir, name) in self.home.directories() {
            let parent_path = self.home.path.join(name);
            let path = parent_path.join(id);
            match self.home.make_directory(dir, id) {
                Err(Errno::EXIST) => {
                    // What a crash left of an unfinished layer is not content of this one.
                    remove_directory(dir, &parent_path, id)?;
                    self.home.make_directory(dir, id)
                }
                other => other,
            }
            .map_err(failed("mkdir", &path))?;
        }
        self.home.publish(id, &ancestors)
    }

    /// Removes what was made of a layer that is not to be.
    fn discard(&self, id: &LayerId, lock: Locked) {
        for (dir, name) in self.home.directories() {
            if let Err(error) = remove_directory(dir, &self.home.path.join(name), id) {
                warn!(%id, %error, "left behind; it goes when a layer of this id is created");
            }
        }
        if let Err(errno) = lock.remove(&self.home.counts, id) {
            debug!(%id, %errno, "the count file stays");
        }
    }

    /// Returns where the content of a layer is to be seen together with its ancestors, mounting it if it is not mounted yet.
    ///
    /// A base layer is its own directory. Each call asks for one [`Driver::put`]. `label` is
    /// SELinux's, and counts when this call mounts.
    ///
    /// # Errors
    ///
    /// [`Unknown`](StorageErrorKind::Unknown); [`Mount`](StorageErrorKind::Mount) when a branch is missing, or
    /// what the host refuses. Nothing is mounted or counted then.
    pub fn get(&self, id: &LayerId, label: Option<OsString>) -> Result<PathBuf, StorageError> {
        self.get_layer(id, label).map_err(|kind| kind.during("get", id))
    }

    fn get_layer(&self, id: &LayerId, label: Option<OsString>) -> Result<PathBuf, StorageErrorKind> {
        let (ancestors, lock) = self.known(id)?;
        let mut counted = self.users_of(id, &ancestors, &lock)?;
        let target = match counted.state {
            State::Base => self.home.diff_path(id),
            _ => self.home.mnt_path(id),
        };
        // A server whose caller is killed before it hears of the mount takes that back, whoever uses it by then.
        if counted.is_found {
            match self.unmount(&target) {
                Ok(()) => counted = Counted { state: State::Idle, users: 0, is_found: false },
                Err(kind) => debug!(%id, %kind, "mounted by others, who use it"),
            }
        }
        let mount = match counted.state {
            State::Base => None,
            State::Mounted(mount) => Some(mount),
            State::Idle => Some(self.mount(id, &ancestors, label)?),
            State::Dead => {
                warn!(%id, "the server of this mount is gone; it is mounted again");
                detach_below(&target)?;
                Some(self.mount(id, &ancestors, label)?)
            }
        };
        let record = Record { boot: self.boot.clone(), mount, count: counted.users + 1 };
        if let Err(errno) = lock.write(&record) {
            if counted.users == 0 && mount.is_some() {
                self.unmount(&target)?;
            }
            return Err(failed("write the count of", id.as_str())(errno));
        }
        Ok(target)
    }

    /// Undoes one [`Driver::get`]; with the last one the layer is unmounted.
    ///
    /// A layer that nobody has got is left unmounted too.
    ///
    /// # Errors
    ///
    /// [`Mount`](StorageErrorKind::Mount) when programs still use the mount, after half a second; it stays counted.
    pub fn put(&self, id: &LayerId) -> Result<(), StorageError> {
        self.put_some(id, 1).map_err(|kind| kind.during("put", id))
    }

    /// Undoes every [`Driver::get`], of which the caller knows that nobody is left who made them; a layer that does not exist is fine.
    pub(crate) fn put_all(&self, id: &LayerId) -> Result<(), StorageError> {
        match self.put_some(id, u64::MAX) {
            Err(StorageErrorKind::Unknown) => Ok(()),
            other => other.map_err(|kind| kind.during("put", id)),
        }
    }

    /// Undoes so many gets, or all there are.
    fn put_some(&self, id: &LayerId, count: u64) -> Result<(), StorageErrorKind> {
        let (ancestors, lock) = self.known(id)?;
        let counted = self.users_of(id, &ancestors, &lock)?;
        let target = self.home.mnt_path(id);
        let left = counted.users.saturating_sub(count);
        if left == 0 {
            match counted.state {
                State::Base | State::Idle => {}
                State::Mounted(_) => self.unmount(&target)?,
                State::Dead => detach_below(&target)?,
            }
        }
        let mount = match counted.state {
            State::Mounted(mount) if 0 < left => Some(mount),
            _ => None,
        };
        let record = Record { boot: self.boot.clone(), mount, count: left };
        lock.write(&record).map_err(failed("write the count of", id.as_str()))
    }

    /// Removes a layer, mounted or not; one that does not exist is fine.
    ///
    /// Whether other layers lie on it is the caller's to know.
    ///
    /// # Errors
    ///
    /// [`InUse`](StorageErrorKind::InUse), or what the host refuses; then it can be tried again.
    pub fn remove(&self, id: &LayerId, removal: Removal) -> Result<(), StorageError> {
        self.remove_layer(id, removal).map_err(|kind| kind.during("remove", id))
    }

    fn remove_layer(&self, id: &LayerId, removal: Removal) -> Result<(), StorageErrorKind> {
        self.remove_locked(id, self.lock(id)?, removal)
    }

    /// Removes a layer whose lock is held, which goes with it.
    pub(crate) fn remove_locked(
        &self,
        id: &LayerId,
        lock: Locked,
        removal: Removal,
    ) -> Result<(), StorageErrorKind> {
        let ancestors = match self.home.ancestors(id) {
            Ok(ancestors) => ancestors,
            // What is left of a removal that failed, or a file that nobody can read, is to go all the same.
            Err(StorageErrorKind::Unknown | StorageErrorKind::LayersFile(_)) => Vec::new(),
            Err(other) => return Err(other),
        };
        let counted = self.users_of(id, &ancestors, &lock)?;
        if removal == Removal::IfUnused && 0 < counted.users {
            return Err(StorageErrorKind::InUse { count: counted.users });
        }
        let target = self.home.mnt_path(id);
        if let State::Mounted(_) = counted.state
            && let Err(kind) = self.unmount(&target)
        {
            debug!(%id, %kind, "detached instead");
        }
        self.home.withdraw(id)?;
        for (dir, name) in self.home.directories() {
            remove_directory(dir, &self.home.path.join(name), id)?;
        }
        lock.remove(&self.home.counts, id).map_err(failed("remove the count of", id.as_str()))
    }

    /// Whether a layer is mounted and the mount is counted.
    pub(crate) fn is_counted(&self, id: &LayerId) -> Result<bool, StorageError> {
        let look = || {
            let (ancestors, lock) = self.known(id)?;
            let counted = self.users_of(id, &ancestors, &lock)?;
            Ok(matches!(counted.state, State::Mounted(_)) && !counted.is_found)
        };
        look().map_err(|kind: StorageErrorKind| kind.during("look for users of", id))
    }

    /// How many have got a layer and not put it back.
    ///
    /// # Errors
    ///
    /// [`Unknown`](StorageErrorKind::Unknown), or what the host refuses.
    pub fn users(&self, id: &LayerId) -> Result<u64, StorageError> {
        let users = || {
            let (ancestors, lock) = self.known(id)?;
            Ok(self.users_of(id, &ancestors, &lock)?.users)
        };
        users().map_err(|kind: StorageErrorKind| kind.during("look for users of", id))
    }

    /// Unmounts every layer, whoever uses it, as when the host goes down.
    ///
    /// # Errors
    ///
    /// The first mount that could not be removed; the others are.
    pub fn cleanup(&self) -> Result<(), StorageError> {
        let mut first = Ok(());
        for id in self.layers()? {
            if let Err(kind) = self.clean(&id) {
                warn!(%id, %kind, "not unmounted");
                first = first.and(Err(kind.during("clean up", &id)));
            }
        }
        first.and(
            detach_below(&self.home.path).map_err(|kind| kind.during("clean up", self.home.path.display())),
        )
    }

    fn clean(&self, id: &LayerId) -> Result<(), StorageErrorKind> {
        let lock = self.lock(id)?;
        let target = self.home.mnt_path(id);
        if self.home.mount_on(id) != Ok(None) {
            match self.unmount(&target) {
                Err(StorageErrorKind::Mount(error)) if matches!(error.kind, MountErrorKind::Busy) => {
                    detach_below(&target)?;
                }
                other => other?,
            }
        }
        let record = Record { boot: self.boot.clone(), mount: None, count: 0 };
        lock.write(&record).map_err(failed("write the count of", id.as_str()))
    }

    /// Locks a layer that exists.
    pub(crate) fn known(&self, id: &LayerId) -> Result<(Vec<LayerId>, Locked), StorageErrorKind> {
        let lock = self.lock(id)?;
        match self.home.ancestors(id) {
            Ok(ancestors) => Ok((ancestors, lock)),
            Err(StorageErrorKind::Unknown) => {
                lock.remove(&self.home.counts, id).map_err(failed("remove the count of", id.as_str()))?;
                Err(StorageErrorKind::Unknown)
            }
            Err(other) => Err(other),
        }
    }

    pub(crate) fn lock(&self, id: &LayerId) -> Result<Locked, StorageErrorKind> {
        Locked::wait(&self.home.counts, id).map_err(failed("lock", id.as_str()))
    }
}
