//! Host files by handle: open beneath a directory, copy bytes, xattrs, mounts, namespaces.

pub mod fuse_probe;
pub mod mount_probe;
pub mod private_child;
