//! Host files by handle: open beneath a directory, copy bytes, xattrs, mounts, namespaces.
//!
//! Everything here takes descriptors, not absolute paths, so that nothing a
//! layer contains can lead an operation elsewhere. With `aufs-fusedev` this is the only
//! crate with unsafe code, one item at a time, each with its reason.

mod chmod;
pub mod copy;
pub mod draft;
pub mod entry;
pub mod errno;
pub mod file_handle;
pub mod fuse_probe;
pub mod listing;
pub mod memory;
pub mod mount_probe;
pub mod page_cache;
pub mod pin;
pub mod private_child;
pub mod privilege;
pub mod remove;
pub mod scheduling;
pub mod tree;
pub mod xattr;

pub use errno::errno_of;
