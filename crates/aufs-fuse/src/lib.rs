//! Serves a union: maps node numbers and handles, caching, data modes, errnos.
//!
//! Translation only: each handler finds the node, calls one method of the
//! union and maps the answer. Semantics belong in `aufs-union`, the protocol
//! in `aufs-fusedev`.

mod attr;
mod attributes;
pub mod control;
mod copy_ups;
mod directories;
mod files;
mod handles;
mod kernel_mount;
mod names;
mod negotiate;
mod numbers;
mod opens;
pub mod options;
mod recent;
pub mod report;
mod restack;
mod serve;
mod server;
mod shared;
mod workers;

pub use server::{FuseError, Server};
