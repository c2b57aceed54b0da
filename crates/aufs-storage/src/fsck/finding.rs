//! What can be wrong with a data root, and what a repair does about it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::id::LayerId;
use crate::image::digest::Digest;

/// Something that is not as the driver leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where, below the data root.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
    /// What a repair does about it, or why it does nothing.
    pub remedy: Remedy,
    /// Whose lock keeps others away while it is looked at and repaired.
    pub(super) subject: Option<LayerId>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// Nothing of the driver is called so.
    Unknown,
    /// A symbolic link, a file or a directory where something else is expected; never followed.
    WrongType {
        /// What is expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A deletion did not end.
    Removing,
    /// A process died while it wrote this.
    Draft,
    /// A file in `layers/` cannot be understood.
    LayersFile {
        /// What is wrong with it.
        reason: String,
    },
    /// The content of a layer is there that an image or a container has, but not its file in `layers/`.
    LayersFileGone,
    /// A file in `layers/` does not say what the image or the container says.
    Ancestors,
    /// A file in `layers/` does not go on as that of the parent.
    Disagrees {
        /// The parent.
        parent: LayerId,
    },
    /// A layer lies on one that lies on it.
    Cycle {
        /// The other.
        parent: LayerId,
    },
    /// A layer lies on one that is not there.
    AncestorGone {
        /// The other.
        ancestor: LayerId,
    },
    /// A layer without `diff/ID`.
    ContentGone,
    /// A layer without `mnt/ID`.
    MountPointGone,
    /// Content or a mount point without a file in `layers/`: a creation or a removal that did not end.
    HalfLayer,
    /// A layer that a command of ours made, and that no image and no container has.
    Orphan,
    /// Files where a layer is to be mounted.
    MountPointFilled,
    /// A mount whose server is gone.
    DeadMount,
    /// A mount that is counted nowhere, of a layer that an image or a container has.
    UncountedMount,
    /// A mount of a layer that is not there.
    StrayMount,
    /// Something of somebody else is mounted there.
    ForeignMount {
        /// Its type.
        fs_type: String,
    },
    /// A count that is not believed.
    StaleCount,
    /// A lock of a container that is not there.
    StaleLock,
    /// An object of ours cannot be understood.
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// An image has a layer of which nothing tells where it is.
    LayerUnknown {
        /// The layer.
        diff_id: Digest,
    },
    /// The layer that an object tells of is not there.
    LayerGone {
        /// The layer.
        layer: LayerId,
    },
    /// The image that an object names is not there.
    ImageGone {
        /// The image.
        image: Digest,
    },
    /// A command died before something led to what it made; nothing of that is left.
    Unfinished,
    /// A layer record, or what is kept of an archive, that no image has.
    Unused,
    /// What is kept of the archive of a layer is missing.
    SplitGone,
    /// The files of a layer are not those of its archive.
    Content {
        /// What is wrong with them.
        reason: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nothing of the driver is called so"),
            Self::WrongType { expected, found } => write!(f, "{found} instead of {expected}"),
            Self::Removing => f.write_str("a deletion did not end"),
            Self::Draft => f.write_str("a process died while it wrote this"),
            Self::LayersFile { reason } | Self::Malformed { reason } => {
                write!(f, "cannot be understood: {reason}")
            }
            Self::LayersFileGone => f.write_str("missing, though the content of the layer is there"),
            Self::Ancestors => f.write_str("not the layers that its image or container says"),
            Self::Disagrees { parent } => write!(f, "does not go on as the file of its parent {parent}"),
            Self::Cycle { parent } => write!(f, "lies on {parent}, which lies on it"),
            Self::AncestorGone { ancestor } => write!(f, "lies on {ancestor}, which is not there"),
            Self::ContentGone => f.write_str("the content of a layer is missing"),
            Self::MountPointGone => f.write_str("the mount point of a layer is missing"),
            Self::HalfLayer => f.write_str("half a layer, without a file in layers/"),
            Self::Orphan => f.write_str("a layer of ours that nothing leads to"),
            Self::MountPointFilled => f.write_str("not mounted, but not empty"),
            Self::DeadMount => f.write_str("the server of this mount is gone"),
            Self::UncountedMount => f.write_str("mounted, and counted nowhere"),
            Self::StrayMount => f.write_str("mounted, though there is no such layer"),
            Self::ForeignMount { fs_type } => write!(f, "a file system of type {fs_type} is mounted here"),
            Self::StaleCount => f.write_str("counts for a mount or a layer that is gone"),
            Self::StaleLock => f.write_str("locks a container that is gone"),
            Self::LayerUnknown { diff_id } => write!(f, "nothing tells where its layer {diff_id} is"),
            Self::LayerGone { layer } => write!(f, "its layer {layer} is missing"),
            Self::ImageGone { image } => write!(f, "its image {image} is missing"),
            Self::Unfinished => f.write_str("a command died of which nothing else is left"),
            Self::Unused => f.write_str("no image has the layer that it tells of"),
            Self::SplitGone => f.write_str("missing, so the layer cannot be saved"),
            Self::Content { reason } => write!(f, "not the files that were unpacked: {reason}"),
        }
    }
}

/// What a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Nothing; says why, and what to do.
    Leave(String),
    /// Writes the file in `layers/` as images and containers tell it.
    WriteLayersFile(Vec<LayerId>),
    /// Makes the mount point.
    MakeMountPoint,
    /// Removes the layer with all that belongs to it, unmounting it first.
    RemoveLayer,
    /// Removes what is empty of it.
    RemoveEmpty,
    /// Removes it with all below it.
    RemoveTree,
    /// Removes the file.
    RemoveFile,
    /// Moves it to `aufs-rs/lost+found`, where nothing reads it.
    SetAside,
    /// Detaches the mount.
    Detach,
    /// Unmounts, unless programs use it.
    Unmount,
    /// Counts what is mounted, as the driver does.
    Count,
}

impl Remedy {
    /// Whether a repair does anything.
    pub fn is_repair(&self) -> bool {
        !matches!(self, Self::Leave(_))
    }

    /// Says what was done, as a participle.
    pub fn done(&self) -> &'static str {
        match self {
            Self::Leave(_) => "left alone",
            Self::WriteLayersFile(_) => "written anew",
            Self::MakeMountPoint => "made",
            Self::RemoveLayer | Self::RemoveEmpty | Self::RemoveTree | Self::RemoveFile => "removed",
            Self::SetAside => "moved to aufs-rs/lost+found",
            Self::Detach => "detached",
            Self::Unmount => "unmounted",
            Self::Count => "counted anew",
        }
    }

    /// Which of several repairs comes first: what is good is made whole before anything goes.
    pub(super) fn order(&self) -> u8 {
        match self {
            Self::WriteLayersFile(_) | Self::MakeMountPoint => 0,
            Self::Detach | Self::Unmount | Self::Count => 1,
            Self::RemoveLayer => 2,
            Self::RemoveEmpty | Self::RemoveTree | Self::RemoveFile | Self::SetAside => 3,
            Self::Leave(_) => 4,
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leave(reason) => reason,
            Self::WriteLayersFile(_) => "write it anew",
            Self::MakeMountPoint => "make it",
            Self::RemoveLayer => "remove the layer",
            Self::RemoveEmpty | Self::RemoveTree | Self::RemoveFile => "remove it",
            Self::SetAside => "move it to aufs-rs/lost+found",
            Self::Detach => "detach it",
            Self::Unmount => "unmount it",
            Self::Count => "count what is mounted",
        })
    }
}
