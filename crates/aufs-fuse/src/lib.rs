//! Serves a union: maps node numbers and handles, caching, data modes, errnos.
//!
//! Translation only: each handler finds the node, calls one method of the
//! union and maps the answer. Semantics belong in `aufs-union`. Every use of
//! the FUSE library is in this crate, so that it can be replaced here alone.

mod attributes;
mod handlers;
mod handles;
mod kernel_mount;
mod listing;
mod numbers;
pub mod options;
mod passthrough;
mod replies;
mod server;
mod shared;
mod workers;

pub use server::{FuseError, Server};
