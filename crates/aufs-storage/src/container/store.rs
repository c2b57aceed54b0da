//! The containers of a data root.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aufs_host::errno::errno_of;
use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{ContainerError, ContainerErrorKind};
use super::{RECORDS, init_layer};
use crate::archive::PackOptions;
use crate::changes::Change;
use crate::count::Locked;
use crate::driver::{Driver, Removal};
use crate::error::{StorageErrorKind, failed};
use crate::id::{INIT, LayerId};
use crate::image::ImageStore;
use crate::image::digest::Digest;
use crate::output::write_whole;
use crate::pending::Pending;
use crate::record::Records;

/// A host directory that a container sees at a path of its own, past the union.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The host directory or file, absolute.
    pub host: PathBuf,
    /// Where the container sees it, absolute.
    pub path: PathBuf,
    /// Whether it may not write there.
    pub read_only: bool,
}

/// What a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id, which is also that of its layer.
    pub id: LayerId,
    /// What it is called.
    pub name: String,
    /// The image below it.
    pub image: Digest,
    /// What the image was called when it was made.
    pub image_name: String,
    /// When it was made, in UTC.
    pub created: String,
    /// What it sees of the host.
    pub volumes: Vec<Volume>,
    /// Whether it was started and not stopped since.
    pub is_started: bool,
}

/// Whether a container can be worked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Its tree is mounted.
    Started,
    /// Its changes lie in its layer.
    Stopped,
    /// It was started, and what showed it is gone; starting it again mends that.
    Dead,
}

/// A container, and how it is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerInfo {
    /// What it is.
    #[serde(flatten)]
    pub container: Container,
    /// Whether it can be worked in.
    pub state: ContainerState,
    /// Where its tree is while it is started.
    pub root: PathBuf,
}

impl Container {
    /// Returns the layer between the image and its own.
    pub(super) fn init(&self) -> Result<LayerId, StorageErrorKind> {
        init_of(&self.id)
    }
}

fn init_of(id: &LayerId) -> Result<LayerId, StorageErrorKind> {
    // An id of 64 digits leaves room for this.
    format!("{id}{INIT}").parse().map_err(|_| StorageErrorKind::Unknown)
}

/// The containers of one data root.
#[derive(Debug)]
pub struct ContainerStore<'d> {
    pub(super) driver: &'d Driver,
    pub(super) images: ImageStore<'d>,
    records: Records,
    /// A file for each container that is worked on, to be locked.
    locks: OwnedFd,
}

impl<'d> ContainerStore<'d> {
    /// Opens the containers beside a driver's home.
    ///
    /// # Errors
    ///
    /// What the host refuses.
    pub fn open(driver: &'d Driver) -> Result<Self, ContainerError> {
        let open = || -> Result<Self, ContainerErrorKind> {
            let (locks, _) = driver.home.state_directory("locks")?;
            Ok(Self {
                driver,
                images: ImageStore::open(driver)?,
                records: driver.home.records(RECORDS)?,
                locks,
            })
        };
        open().map_err(|kind| kind.during("open", "records"))
    }

    /// Returns the images that containers are made of.
    pub fn images(&self) -> &ImageStore<'d> {
        &self.images
    }

    /// Makes a container of an image; `name` is what it is called, or else the beginning of its id.
    ///
    /// # Errors
    ///
    /// [`Image`](ContainerErrorKind::Image), [`NameTaken`](ContainerErrorKind::NameTaken), or what the host refuses; nothing of
    /// the container is there then.
    pub fn create(
        &self,
        image: &str,
        name: Option<&str>,
        volumes: Vec<Volume>,
    ) -> Result<Container, ContainerError> {
        self.create_container(image, name, volumes)
            .map_err(|kind| kind.during("create", name.unwrap_or(image)))
    }

    fn create_container(
        &self,
        image: &str,
        name: Option<&str>,
        volumes: Vec<Volume>,
    ) -> Result<Container, ContainerErrorKind> {
        // Nobody removes the image meanwhile, nor gives another container this name.
        let _lock = self.images.lock().map_err(|kind| kind.during("lock", "the images"))?;
        let info = self.images.inspect(image)?;
        let id = LayerId::random().map_err(failed("getrandom", "a container id"))?;
        let name = name.unwrap_or(&id.as_str()[..12]).to_owned();
        if name.parse::<LayerId>().is_err() {
            return Err(ContainerErrorKind::Name);
        }
        if let Some(other) = self.all()?.into_iter().find(|it| it.name == name) {
            return Err(ContainerErrorKind::NameTaken { other: other.id.as_str()[..12].to_owned() });
        }
        let top = info.layers.last().map(|it| &it.layer);
        let container = Container {
            name,
            image: info.id,
            image_name: image.to_owned(),
            created: Timestamp::now().to_string(),
            volumes,
            is_started: false,
            id,
        };
        self.make(&container, top)?;
        Ok(container)
    }

    fn make(&self, container: &Container, top: Option<&LayerId>) -> Result<(), ContainerErrorKind> {
        let init = container.init()?;
        let layers = vec![init.clone(), container.id.clone()];
        let made = Pending::note(self.driver, &self.images.pending, layers)?;
        self.driver.create(&init, top, &[])?;
        self.driver.within_unmounted(&init, init_layer::fill)?;
        self.driver.create(&container.id, Some(&init), &[])?;
        self.records.put(container.id.as_str(), container)?;
        Ok(made.keep()?)
    }

    /// Mounts the tree of a container; returns where. One that is started already stays so.
    ///
    /// # Errors
    ///
    /// [`Unknown`](ContainerErrorKind::Unknown), or what the driver reports.
    pub fn start(&self, text: &str) -> Result<PathBuf, ContainerError> {
        let start = || -> Result<PathBuf, ContainerErrorKind> {
            let (mut container, _lock) = self.locked(text)?;
            if container.is_started && self.driver.is_counted(&container.id)? {
                return Ok(self.driver.home.mnt_path(&container.id));
            }
            if !container.is_started {
                self.driver.put_all(&container.id)?;
            }
            // Written before, so that a start that is killed leaves a container that is to be mended, not a forgotten mount.
            let was_started = std::mem::replace(&mut container.is_started, true);
            self.records.put(container.id.as_str(), &container)?;
            let root = match self.driver.get(&container.id, None) {
                Ok(root) => root,
                Err(error) => {
                    container.is_started = was_started;
                    self.records.put(container.id.as_str(), &container)?;
                    return Err(error.into());
                }
            };
            Ok(root)
        };
        start().map_err(|kind| kind.during("start", text))
    }

    /// Unmounts the tree of a container; its changes stay in its layer.
    ///
    /// # Errors
    ///
    /// [`Stopped`](ContainerErrorKind::Stopped); [`Driver`](ContainerErrorKind::Driver) while programs use the tree.
    pub fn stop(&self, text: &str) -> Result<(), ContainerError> {
        let stop = || -> Result<(), ContainerErrorKind> {
            let (mut container, _lock) = self.locked(text)?;
            if !container.is_started {
                return Err(ContainerErrorKind::Stopped);
            }
            self.driver.put_all(&container.id)?;
            container.is_started = false;
            Ok(self.records.put(container.id.as_str(), &container)?)
        };
        stop().map_err(|kind| kind.during("stop", text))
    }

    /// Removes a container with its changes; a started one only by force.
    ///
    /// # Errors
    ///
    /// [`Started`](ContainerErrorKind::Started), or what the driver reports; then it can be tried again.
    pub fn remove(&self, text: &str, removal: Removal) -> Result<Container, ContainerError> {
        let remove = || -> Result<Container, ContainerErrorKind> {
            let (container, lock) = self.locked(text)?;
            let is_started = self.state_of(&container)? == ContainerState::Started;
            if removal == Removal::IfUnused && is_started {
                return Err(ContainerErrorKind::Started);
            }
            if !container.is_started {
                self.driver.put_all(&container.id)?;
            }
            // The record goes last, so that what a failure leaves is found again.
            self.driver.remove(&container.id, removal)?;
            self.driver.remove(&container.init()?, removal)?;
            self.records.remove(container.id.as_str())?;
            lock.remove(&self.locks, &container.id)
                .map_err(failed("remove the lock of", container.id.as_str()))?;
            Ok(container)
        };
        remove().map_err(|kind| kind.during("remove", text))
    }

    /// Returns every container, the newest first.
    ///
    /// # Errors
    ///
    /// What reading our own files reports.
    pub fn list(&self) -> Result<Vec<ContainerInfo>, ContainerError> {
        let list = || -> Result<Vec<ContainerInfo>, ContainerErrorKind> {
            let mut all = self.all()?;
            all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
            all.into_iter().map(|it| self.info(it)).collect()
        };
        list().map_err(|kind| kind.during("list", "records"))
    }

    /// Returns what is known of the container of this name or id.
    ///
    /// # Errors
    ///
    /// [`Unknown`](ContainerErrorKind::Unknown), [`Ambiguous`](ContainerErrorKind::Ambiguous).
    pub fn inspect(&self, text: &str) -> Result<ContainerInfo, ContainerError> {
        let inspect = || self.info(self.find(text)?);
        inspect().map_err(|kind| kind.during("look for", text))
    }

    /// Lists what a container added, changed and deleted in its image.
    ///
    /// # Errors
    ///
    /// What reading the layer reports.
    pub fn diff(&self, text: &str) -> Result<Vec<Change>, ContainerError> {
        let diff = || -> Result<Vec<Change>, ContainerErrorKind> {
            let container = self.find(text)?;
            Ok(self.driver.changes(&container.id, Some(&container.init()?))?)
        };
        diff().map_err(|kind| kind.during("list the changes of", text))
    }

    /// Writes the whole tree of a container as an archive.
    ///
    /// # Errors
    ///
    /// What reading the tree or writing reports; what was written is worth nothing then.
    pub fn export(&self, text: &str, out: impl io::Write) -> Result<(), ContainerError> {
        self.export_into(text, out).map_err(|kind| kind.during("export", text))
    }

    /// As [`ContainerStore::export`], to a file, which shows when all of it is there.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn export_to(&self, text: &str, to: &Path) -> Result<(), ContainerError> {
        write_whole(to, |file| self.export_into(text, file)).map_err(|kind| kind.during("export", text))
    }

    fn export_into(&self, text: &str, out: impl io::Write) -> Result<(), ContainerErrorKind> {
        let (container, _lock) = self.shared(text)?;
        let mut out = io::BufWriter::new(out);
        self.driver.diff(&container.id, None, &mut out, &PackOptions::default())?;
        out.flush().map_err(errno_of).map_err(failed("write", "the archive"))?;
        Ok(())
    }

    /// Finds the container of a name, of an id, or of the beginning of one.
    pub(super) fn find(&self, text: &str) -> Result<Container, ContainerErrorKind> {
        let mut all = self.all()?;
        if let Some(at) = all.iter().position(|it| it.name == text || it.id.as_str() == text) {
            return Ok(all.swap_remove(at));
        }
        let mut found: Vec<_> =
            all.into_iter().filter(|it| !text.is_empty() && it.id.as_str().starts_with(text)).collect();
        match (found.pop(), found.len()) {
            (None, _) => Err(ContainerErrorKind::Unknown),
            (Some(container), 0) => Ok(container),
            (Some(_), others) => Err(ContainerErrorKind::Ambiguous { count: others + 1 }),
        }
    }

    /// Finds a container, and keeps everybody else from starting, stopping, copying or removing it.
    fn locked(&self, text: &str) -> Result<(Container, Locked), ContainerErrorKind> {
        self.locked_by(text, Locked::wait_patiently)
    }

    /// Finds a container, and keeps everybody else from starting, stopping or removing it.
    ///
    /// Whoever mounts its tree for a while holds this, so that what is counted without it was counted by somebody who was killed.
    pub(super) fn shared(&self, text: &str) -> Result<(Container, Locked), ContainerErrorKind> {
        self.locked_by(text, Locked::share)
    }

    fn locked_by(
        &self,
        text: &str,
        lock: impl FnOnce(&OwnedFd, &LayerId) -> Result<Locked, Errno>,
    ) -> Result<(Container, Locked), ContainerErrorKind> {
        let id = self.find(text)?.id;
        let lock = lock(&self.locks, &id).map_err(failed("lock", id.as_str()))?;
        // It may have changed before it was ours.
        match self.records.get::<Container>(id.as_str())? {
            Some(container) => Ok((container, lock)),
            None => {
                lock.remove(&self.locks, &id).map_err(failed("remove the lock of", id.as_str()))?;
                Err(ContainerErrorKind::Unknown)
            }
        }
    }

    fn all(&self) -> Result<Vec<Container>, ContainerErrorKind> {
        let mut all = Vec::new();
        for key in self.records.keys()? {
            all.extend(self.records.get::<Container>(&key)?);
        }
        Ok(all)
    }

    fn info(&self, container: Container) -> Result<ContainerInfo, ContainerErrorKind> {
        let (state, root) = (self.state_of(&container)?, self.driver.home.mnt_path(&container.id));
        Ok(ContainerInfo { container, state, root })
    }

    fn state_of(&self, container: &Container) -> Result<ContainerState, ContainerErrorKind> {
        let users = match self.driver.users(&container.id) {
            // A removal that was not finished took the layer.
            Err(error) if matches!(*error.kind, StorageErrorKind::Unknown) => 0,
            other => other?,
        };
        Ok(match (container.is_started, users) {
            (true, 0) => ContainerState::Dead,
            (true, _) => ContainerState::Started,
            (false, _) => ContainerState::Stopped,
        })
    }
}
