//! Layers as tar archives: into a branch, and out of one.
//!
//! A layer is hostile input. [`apply`] lets the host see single names only, each beneath a handle on its directory;
//! the few paths it resolves are resolved by `openat2(2)` with `RESOLVE_IN_ROOT`, so that a symbolic link of the
//! layer leads where it would lead inside a chroot at the layer's directory, and never out of it. What a
//! layer may cost is bounded by [`Limits`].
//!
//! The way of an entry: [`members`] frames the archive and merges extended headers (`pax`, `sparse`) into one
//! [`members::Member`]; `name` says what its path stands for; `apply` makes it with `node` in the directory that
//! `parents` found; `finish` does at the end what must come last. [`pack`] goes the other way.
//!
//! [`members`]: self#the-way-of-an-entry
//! [`members::Member`]: self

mod apply;
mod compressed;
mod error;
mod finish;
mod header;
mod limits;
mod members;
mod name;
mod node;
mod numbers;
mod pack;
mod parents;
mod pax;
mod pseudo_links;
mod remove;
mod sparse;
mod write;

pub use apply::{Applied, ApplyOptions, Devices, Owners, apply};
pub use compressed::{CompressionError, CompressionLimits, Decompressed, open_compressed};
pub use error::{ArchiveError, ArchiveErrorKind, HeaderFault, PaxFault, SparseFault};
pub use limits::{Limited, Limits};
pub use name::NameFault;
pub use pack::{KeptXattrs, PackOptions, Packed, pack};

pub(crate) use parents::open_beneath;
