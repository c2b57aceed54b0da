//! The images of a data root: their configurations, their layers in the driver, and what they are called.
//!
//! | below `aufs-rs/`       | holds                                                           |
//! |------------------------|-----------------------------------------------------------------|
//! | `images/HEX.json`      | the configuration of the image of that id, byte for byte        |
//! | `layers/HEX.json`      | which layer of the driver holds the stack of that ChainID        |
//! | `splits/HEX`           | what its archive held besides ([`super::split`]), by gzip        |
//! | `tags/HEX.json`        | a name and the id it stands for, by the digest of the name       |
//!
//! Images share the layers of stacks that they share.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aufs_host::draft::read_names;
use oci_spec::image::{History, ImageConfiguration};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};

use super::digest::{Digest, chain_ids};
use super::error::{ImageError, ImageErrorKind};
use super::layout::diff_ids;
use super::reference::Reference;
use crate::driver::Driver;
use crate::error::failed;
use crate::id::{INIT, LayerId};
use crate::pending;
use crate::record::Records;

/// The images of one data root.
#[derive(Debug)]
pub struct ImageStore<'d> {
    pub(super) driver: &'d Driver,
    pub(super) images: Records,
    pub(super) layers: Records,
    pub(super) tags: Records,
    /// Layers that are being made, of images and of containers.
    pub(crate) pending: Records,
    pub(super) splits: OwnedFd,
    pub(super) splits_path: PathBuf,
}

/// Which layer of the driver holds a stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) layer: LayerId,
    /// Bytes of its files.
    pub(crate) size_bytes: u64,
    /// Length of its archive.
    pub(crate) archive_len_bytes: u64,
    /// Whether the archive can be put together again.
    pub(crate) is_reproducible: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) reference: Reference,
    pub(crate) image: Digest,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// Digest of its configuration.
    pub id: Digest,
    /// What it is called, sorted.
    pub names: Vec<Reference>,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
    /// Bytes of the files of all its layers.
    pub size_bytes: u64,
    /// Its layers, base first.
    pub layers: Vec<LayerInfo>,
}

/// What is known of a layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Digest of its archive.
    pub diff_id: Digest,
    /// Digest that names it with all below it.
    pub chain_id: Digest,
    /// Its name in the driver.
    pub layer: LayerId,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// A step in which an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// When.
    pub created: Option<String>,
    /// By which command.
    pub created_by: Option<String>,
    /// What was remarked.
    pub comment: Option<String>,
    /// Bytes of the files of its layer; 0 for a step that made none.
    pub size_bytes: u64,
}

impl<'d> ImageStore<'d> {
    /// Opens the images beside a driver's home.
    ///
    /// # Errors
    ///
    /// What the host refuses.
    pub fn open(driver: &'d Driver) -> Result<Self, ImageError> {
        let open = || -> Result<Self, ImageErrorKind> {
            let records = |name| driver.home.records(name);
            let (splits, splits_path) = driver.home.state_directory("splits")?;
            let (images, layers, tags) = (records("images")?, records("layers")?, records("tags")?);
            let pending = records("pending")?;
            Ok(Self { driver, images, layers, tags, pending, splits, splits_path })
        };
        open().map_err(|kind| kind.during("open", "the images"))
    }

    /// Waits until nobody else makes or removes images or containers, and keeps everybody from it until this is dropped.
    ///
    /// What a killed process left half-made is gone then.
    pub(crate) fn lock(&self) -> Result<OwnedFd, ImageErrorKind> {
        let lock = self.wait()?;
        if !self.pending.keys()?.is_empty() {
            self.recover()?;
        }
        Ok(lock)
    }

    /// Removes what a killed process left: layers, and records of layers, that no image and no container has.
    fn recover(&self) -> Result<(), ImageErrorKind> {
        let mut chains = HashSet::new();
        for id in self.ids()? {
            chains.extend(self.chain_of(&id)?);
        }
        // A container is told by its own record.
        let containers = self.driver.home.records(crate::container::RECORDS)?.keys()?;
        let layers = containers.iter().flat_map(|it| [it.clone(), format!("{it}{INIT}")]);
        let mut kept: HashSet<LayerId> = layers.filter_map(|it| it.parse().ok()).collect();
        let mut forgotten = Vec::new();
        for key in self.layers.keys()? {
            match self.layers.get::<LayerRecord>(&key)? {
                Some(record) if chains.contains(&record.chain_id) => drop(kept.insert(record.layer)),
                _ => forgotten.push(key),
            }
        }
        pending::recover(self.driver, &self.pending, |it| kept.contains(it))?;
        for key in forgotten {
            self.layers.remove(&key)?;
        }
        for name in read_names(&self.splits).map_err(failed("list", &self.splits_path))? {
            let is_kept = chains.iter().any(|it| name == it.hex());
            if !is_kept {
                let removed = rustix::fs::unlinkat(&self.splits, &name, AtFlags::empty());
                removed.map_err(failed("unlink", self.splits_path.join(&name)))?;
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<OwnedFd, ImageErrorKind> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = self.splits_path.as_path();
        let lock =
            rustix::fs::openat(&self.splits, ".", flags, Mode::empty()).map_err(failed("open", path))?;
        let locked = retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive));
        locked.map_err(failed("flock", path))?;
        Ok(lock)
    }

    /// Returns every image, the newest first.
    ///
    /// # Errors
    ///
    /// What reading our own files reports.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let read = || -> Result<Vec<ImageInfo>, ImageErrorKind> {
            let mut names = self.names()?;
            let mut found = Vec::new();
            for id in self.ids()? {
                let own = names.remove(&id).unwrap_or_default();
                found.extend(self.info(&id, own)?);
            }
            found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
            Ok(found)
        };
        read().map_err(|kind| kind.during("list", "the images"))
    }

    /// Returns what is known of the image of this name or id.
    ///
    /// # Errors
    ///
    /// [`Unknown`](ImageErrorKind::Unknown), [`Ambiguous`](ImageErrorKind::Ambiguous).
    pub fn inspect(&self, text: &str) -> Result<ImageInfo, ImageError> {
        let read = || {
            let id = self.resolve(text)?;
            let names = self.names()?.remove(&id).unwrap_or_default();
            self.info(&id, names)?.ok_or(ImageErrorKind::Unknown)
        };
        read().map_err(|kind| kind.during("look for image", text))
    }

    /// Returns the configuration of the image of this name or id, byte for byte.
    ///
    /// # Errors
    ///
    /// As [`ImageStore::inspect`].
    pub fn config(&self, text: &str) -> Result<Vec<u8>, ImageError> {
        let read = || {
            let id = self.resolve(text)?;
            self.images.bytes(id.hex())?.ok_or(ImageErrorKind::Unknown)
        };
        read().map_err(|kind| kind.during("look for image", text))
    }

    /// Returns the steps in which an image was made, the last first.
    ///
    /// # Errors
    ///
    /// As [`ImageStore::inspect`].
    pub fn history(&self, text: &str) -> Result<Vec<HistoryEntry>, ImageError> {
        let info = self.inspect(text)?;
        let config = self.parsed(&info.id).map_err(|kind| kind.during("look for image", text))?;
        let makes_layer = |it: &History| !it.empty_layer().unwrap_or(false);
        let told = config.history().iter().flatten().filter(|it| makes_layer(it)).count();
        // A history may begin late; its last step made the last layer.
        let mut layers = info.layers.iter().skip(info.layers.len().saturating_sub(told));
        let entries = config.history().iter().flatten().map(|it| {
            let layer = if makes_layer(it) { layers.next() } else { None };
            HistoryEntry {
                created: it.created().clone(),
                created_by: it.created_by().clone(),
                comment: it.comment().clone(),
                size_bytes: layer.map_or(0, |it| it.size_bytes),
            }
        });
        let mut entries: Vec<_> = entries.collect();
        entries.reverse();
        Ok(entries)
    }

    /// Calls an image by a name, which may have stood for another.
    ///
    /// # Errors
    ///
    /// As [`ImageStore::inspect`].
    pub fn tag(&self, text: &str, reference: &Reference) -> Result<(), ImageError> {
        let tag = || -> Result<(), ImageErrorKind> {
            let _lock = self.lock()?;
            let image = self.resolve(text)?;
            Ok(self.tags.put(&reference.key(), &Tag { reference: reference.clone(), image })?)
        };
        tag().map_err(|kind| kind.during("tag image", text))
    }

    /// Finds the image of a name, of an id, or of the beginning of one.
    pub(super) fn resolve(&self, text: &str) -> Result<Digest, ImageErrorKind> {
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(tag) = self.tags.get::<Tag>(&reference.key())?
        {
            return Ok(tag.image);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = !hex.is_empty() && hex.bytes().all(|it| it.is_ascii_hexdigit());
        if !is_hex {
            reference?;
            return Err(ImageErrorKind::Unknown);
        }
        let mut found: Vec<_> = self.ids()?.into_iter().filter(|it| it.hex().starts_with(hex)).collect();
        match (found.pop(), found.len()) {
            (None, _) => Err(ImageErrorKind::Unknown),
            (Some(id), 0) => Ok(id),
            (Some(_), others) => Err(ImageErrorKind::Ambiguous { count: others + 1 }),
        }
    }

    pub(super) fn ids(&self) -> Result<Vec<Digest>, ImageErrorKind> {
        Ok(self.images.keys()?.iter().filter_map(|it| format!("sha256:{it}").parse().ok()).collect())
    }

    /// The names of each image, sorted.
    pub(super) fn names(&self) -> Result<HashMap<Digest, Vec<Reference>>, ImageErrorKind> {
        let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for key in self.tags.keys()? {
            if let Some(tag) = self.tags.get::<Tag>(&key)? {
                names.entry(tag.image).or_default().push(tag.reference);
            }
        }
        names.values_mut().for_each(|it| it.sort());
        Ok(names)
    }

    pub(super) fn parsed(&self, id: &Digest) -> Result<ImageConfiguration, ImageErrorKind> {
        let bytes = self.images.bytes(id.hex())?.ok_or(ImageErrorKind::Unknown)?;
        serde_json::from_slice(&bytes).map_err(|error| ImageErrorKind::Malformed {
            member: format!("the configuration {id}"),
            reason: error.to_string(),
        })
    }

    /// The ChainIDs of an image, base first.
    pub(super) fn chain_of(&self, id: &Digest) -> Result<Vec<Digest>, ImageErrorKind> {
        Ok(chain_ids(&diff_ids(&self.parsed(id)?)?))
    }

    pub(super) fn layer_record(&self, chain_id: &Digest) -> Result<Option<LayerRecord>, ImageErrorKind> {
        Ok(self.layers.get(chain_id.hex())?)
    }

    /// What is known of an image; none when it is gone by now.
    fn info(&self, id: &Digest, names: Vec<Reference>) -> Result<Option<ImageInfo>, ImageErrorKind> {
        let config = match self.parsed(id) {
            Err(ImageErrorKind::Unknown) => return Ok(None),
            other => other?,
        };
        let mut layers = Vec::new();
        for chain_id in chain_ids(&diff_ids(&config)?) {
            let Some(record) = self.layer_record(&chain_id)? else { return Ok(None) };
            let LayerRecord { chain_id, diff_id, layer, size_bytes, .. } = record;
            layers.push(LayerInfo { diff_id, chain_id, layer, size_bytes });
        }
        Ok(Some(ImageInfo {
            id: id.clone(),
            names,
            created: config.created().clone(),
            size_bytes: layers.iter().map(|it| it.size_bytes).sum(),
            layers,
        }))
    }
}
