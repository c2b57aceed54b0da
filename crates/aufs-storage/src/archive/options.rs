//! How archives are unpacked, and how they are made.

use super::form::Form;
use super::limits::Limits;

/// How [`apply`](super::apply) unpacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyOptions {
    /// What the layer may ask for.
    pub limits: Limits,
    /// Whose the entries become.
    pub owners: Owners,
    /// What becomes of device nodes.
    pub devices: Devices,
    /// What becomes of what programs may do beyond the rights of their user.
    pub privileges: Privileges,
    /// What is unpacked into.
    pub form: Form,
}

/// Whose the entries of a layer become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Those that the archive names, which only root can do.
    #[default]
    Archive,
    /// The caller's.
    Caller,
    /// This user's and this group's, which only root can do.
    Given {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// What becomes of set-id bits and of attributes such as `security.capability`, which hold for the owner they came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privileges {
    /// They come along.
    #[default]
    Keep,
    /// They do not.
    Drop,
}

/// What becomes of device nodes, which only root of the host can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// They are made; where the host refuses, that is an error.
    #[default]
    Make,
    /// They are made; where the host refuses, they are left out and counted, as Docker does in user namespaces.
    MakeOrSkip,
    /// They are left out and counted.
    Skip,
    /// They are an error.
    Refuse,
}

/// How [`pack`](super::pack) packs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackOptions {
    /// Which extended attributes come along.
    pub xattrs: KeptXattrs,
    /// How files with holes are written.
    pub holes: Holes,
    /// What is packed.
    pub form: Form,
}

/// How files with holes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holes {
    /// As zeros, which every reader understands.
    #[default]
    Zeros,
    /// With a map, as GNU tar's version 1.0 of sparse files.
    Mapped,
}

/// Which extended attributes of files and directories come along; the others are this host's own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptXattrs {
    /// `security.capability` alone, as Docker and containerd do.
    Capability,
    /// Also `security.ima` and `user.*`, less `user.overlay.*`, as containers/storage does.
    #[default]
    User,
}
