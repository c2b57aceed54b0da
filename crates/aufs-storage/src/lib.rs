//! The storage driver: image layers as branches, containers as thin writable ones, on the disk layout of Docker's aufs driver.
//!
//! [`id`] names layers and [`layers_file`] their ancestors.

pub mod id;
pub mod layers_file;
