//! Host files by handle: open beneath a directory, copy bytes, xattrs, mounts, namespaces.
