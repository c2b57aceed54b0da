//! What a data root holds at a moment, as it was read and before anything is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::container::Container;
use crate::count::Record;
use crate::id::LayerId;
use crate::image::digest::Digest;
use crate::image::{LayerRecord, Tag};

/// What a data root holds.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Files of `aufs/layers`: ancestors, nearest first.
    pub(super) layers: BTreeMap<LayerId, Reading<Vec<LayerId>>>,
    /// Directories of `aufs/diff`.
    pub(super) diffs: BTreeMap<LayerId, Content>,
    /// Directories of `aufs/mnt`.
    pub(super) mnts: BTreeMap<LayerId, MountPoint>,
    /// What is left of deleted layers.
    pub(super) removing: Vec<PathBuf>,
    /// Files that dead processes were writing.
    pub(super) drafts: Vec<PathBuf>,
    /// Configurations: the DiffIDs, base first.
    pub(super) images: BTreeMap<Digest, Reading<Vec<Digest>>>,
    /// By ChainID, which layer it is.
    pub(super) records: BTreeMap<Digest, Reading<LayerRecord>>,
    pub(super) tags: BTreeMap<Digest, Reading<Tag>>,
    pub(super) containers: BTreeMap<LayerId, Reading<Container>>,
    /// Layers that commands were making.
    pub(super) notes: BTreeMap<LayerId, Reading<Vec<LayerId>>>,
    /// By ChainID.
    pub(super) splits: BTreeSet<Digest>,
    pub(super) counts: BTreeMap<LayerId, Count>,
    pub(super) locks: BTreeSet<LayerId>,
    /// What is called like nothing of the driver.
    pub(super) unknown: Vec<PathBuf>,
    /// What is of another type than its name says.
    pub(super) misplaced: BTreeMap<PathBuf, Misplaced>,
    /// A directory that all depends on is none.
    pub(super) is_layout_broken: bool,
    /// Whether there is a directory for images at all.
    pub(super) has_images: bool,
    /// Which start of the host this is.
    pub(super) boot: String,
}

/// What was made of an object.
pub(super) type Reading<T> = Result<T, Unreadable>;

/// Nothing can be made of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no file, which is told of in [`Snapshot::misplaced`].
    WrongType,
    /// Its bytes say nothing.
    Malformed(String),
}

/// What a directory of `diff/` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// It belongs to a layer, and is that layer's.
    OfLayer,
    /// Nothing.
    Nothing,
    /// Something, and no layer is there.
    Something,
}

/// What is at a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountPoint {
    Empty,
    Filled,
    /// A mount of ours whose server is gone.
    Dead,
    /// A mount of ours, or of kernel aufs.
    Mounted(u64),
    /// A mount of this other type.
    Foreign(String),
}

/// What a count file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Count {
    Nothing,
    Says(Record),
    Malformed,
}

/// What is expected, and what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) expected: &'static str,
    pub(super) found: &'static str,
}

impl Snapshot {
    /// Whether something else lies where this part of a layer belongs.
    pub(super) fn is_misplaced(&self, part: &str, id: &LayerId) -> bool {
        self.misplaced.contains_key(&layer_path(part, id))
    }

    /// Whether anything of a layer is there.
    pub(super) fn has_any_of(&self, id: &LayerId) -> bool {
        self.layers.contains_key(id) || self.diffs.contains_key(id) || self.mnts.contains_key(id)
    }
}

/// Where a part of a layer lies below the data root.
pub(super) fn layer_path(part: &str, id: &LayerId) -> PathBuf {
    Path::new("aufs").join(part).join(id)
}

/// Where an object of ours lies below the data root.
pub(super) fn state_path(dir: &str, name: impl AsRef<Path>) -> PathBuf {
    Path::new("aufs-rs").join(dir).join(name)
}

/// As [`state_path`], of an object that is written as JSON.
pub(super) fn record_path(dir: &str, key: &str) -> PathBuf {
    state_path(dir, format!("{key}.json"))
}
