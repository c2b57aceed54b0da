//! What `docker info` shows of the driver.

use std::path::PathBuf;

use serde::Serialize;

/// The rows of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The home of the driver.
    pub root_dir: PathBuf,
    /// The file system it lies on, as Docker calls it.
    pub backing_filesystem: &'static str,
    /// How many layers there are: those of images, and two for each container.
    pub dirs: usize,
    /// Whether only the topmost directory decides who may enter.
    pub dirperm1: bool,
}

impl Status {
    /// Returns the rows in Docker's order, with Docker's keys.
    ///
    /// Source: moby's `daemon/graphdriver/aufs/aufs.go`, `Status`.
    pub fn rows(&self) -> [(&'static str, String); 4] {
        [
            ("Root Dir", self.root_dir.display().to_string()),
            ("Backing Filesystem", self.backing_filesystem.to_owned()),
            ("Dirs", self.dirs.to_string()),
            ("Dirperm1 Supported", self.dirperm1.to_string()),
        ]
    }
}
