//! AUFS semantics on plain directories: lookup, whiteouts, opaque, copy-up, rename.

pub mod branch;
