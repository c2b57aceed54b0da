//! Layers as tar archives: into a branch, and out of one.
//!
//! A layer is hostile input. [`apply`] lets the host see single names only, each beneath a handle on its directory;
//! the few paths it resolves are resolved by `openat2(2)` with `RESOLVE_IN_ROOT`, so that a symbolic link of the
//! layer leads where it would lead inside a chroot at the layer's directory, and never out of it. What a
//! layer may cost is bounded by [`Limits`].
//!
//! The way of an entry: `members` frames the archive and merges extended headers (`pax`, `sparse`) into one member;
//! `name` says what its path stands for; `apply` makes it with `node` in the directory that `parents` found, and `place` gives
//! it its name; `finish` does at the end what must come last. `pack` goes the other way, through `write`.
//!
//! ```
//! use std::fs::File;
//! use std::os::fd::AsFd;
//!
//! use aufs_storage::archive::{ApplyOptions, CompressionLimits, Owners, PackOptions, apply, open_compressed, pack};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let [branch, copy] = [tempfile::tempdir()?, tempfile::tempdir()?];
//! std::fs::write(branch.path().join(".wh.gone"), "")?;
//! let mut layer = Vec::new();
//! let packed = pack(File::open(branch.path())?.as_fd(), &mut layer, &PackOptions::default())?;
//!
//! let reader = open_compressed(layer.as_slice(), &CompressionLimits::default())?;
//! let options = ApplyOptions { owners: Owners::Caller, ..ApplyOptions::default() };
//! let applied = apply(File::open(copy.path())?.as_fd(), reader, &options)?;
//! assert_eq!((packed.entries, applied.entries), (1, 1));
//! assert!(copy.path().join(".wh.gone").exists());
//! # Ok(())
//! # }
//! ```

mod apply;
mod compressed;
mod error;
mod finish;
mod form;
pub(crate) mod header;
mod holes;
mod kept_xattrs;
mod limits;
mod members;
mod name;
mod node;
mod numbers;
mod options;
mod pack;
mod parents;
pub(crate) mod pax;
mod place;
mod pseudo_links;
mod sparse;
mod write;

pub use apply::{Applied, apply};
pub use compressed::{CompressionError, CompressionLimits, Decompressed, open_compressed};
pub use error::{ArchiveError, ArchiveErrorKind, HeaderFault, PaxFault, SparseFault};
pub use form::Form;
pub use limits::{Limited, Limits};
pub use name::NameFault;
pub use options::{ApplyOptions, Devices, Holes, KeptXattrs, Owners, PackOptions, Privileges};
pub use pack::{Packed, pack, pack_changes};

pub(crate) use apply::apply_in;
pub(crate) use form::Ground;
pub(crate) use kept_xattrs::kept_xattrs;
pub(crate) use name::{join, join_bytes, split};
pub(crate) use pack::pack_entry;
pub(crate) use parents::{open_beneath, open_in_root};
