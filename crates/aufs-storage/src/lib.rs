//! The storage driver: image layers as branches, containers as thin writable ones, on the disk layout of Docker's aufs driver.
//!
//! [`driver::Driver`] is the whole of it; [`id`] names layers, [`layers_file`]
//! holds their ancestors, and [`status`] is what `docker info` shows. [`archive`] moves
//! layers into branches and out of them, and [`changes`] says what a branch changes.
//! [`fsck`] finds what crashes and accidents left, and mends it.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use aufs_storage::driver::{Driver, DriverOptions, Removal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let driver = Driver::open(Path::new("/var/lib/docker"), DriverOptions::default())?;
//! let (image, container) = ("base".parse()?, "c1".parse()?);
//! driver.create(&image, None, &[])?;
//! std::fs::write(driver.get(&image, None)?.join("hello"), "from the image")?;
//! driver.put(&image)?;
//! driver.create(&container, Some(&image), &[])?;
//! let root = driver.get(&container, None)?; // Mounted from here on,
//! std::fs::write(root.join("hello"), "from the container")?;
//! driver.put(&container)?; // until here.
//! driver.remove(&container, Removal::IfUnused)?;
//! # Ok(())
//! # }
//! ```

pub mod archive;
pub mod changes;
pub mod container;
mod count;
mod diffs;
pub mod driver;
pub mod error;
pub mod fsck;
mod home;
pub mod id;
pub mod image;
pub mod layers_file;
mod mounts;
mod output;
mod pending;
mod record;
mod remove;
pub mod status;
mod unmounted;
