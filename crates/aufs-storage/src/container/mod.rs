//! Containers: an image with a thin writable layer over it, and what is known of them.
//!
//! | below `aufs-rs/`       | holds                                  |
//! |------------------------|----------------------------------------|
//! | `containers/HEX.json`  | what a container is, by its id          |
//!
//! In the driver each has two layers, as in Docker: one of its own, and below
//! it one that ends in `-init` with the files that every container has.

/// Where the records of containers lie.
pub(crate) const RECORDS: &str = "containers";

mod commit;
mod copy;
mod copy_ends;
mod copy_rules;
mod enter;
mod error;
mod init_layer;
mod store;
mod view;

pub use commit::CommitOptions;
pub use copy::{Copied, CopyOptions};
pub use copy_rules::CopyFault;
pub use enter::enter;
pub use error::{ContainerError, ContainerErrorKind};
pub use store::{Container, ContainerInfo, ContainerState, ContainerStore, Volume};
