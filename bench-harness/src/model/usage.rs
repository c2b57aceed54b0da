//! What the machine and directories use: memory from `/proc/meminfo`, space and inodes by `stat`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use procfs::Current as _;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// Memory of the whole machine at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// What there is.
    pub total_bytes: u64,
    /// What new programs could take without swapping, as the kernel reckons.
    pub available_bytes: u64,
    /// The page cache.
    pub cached_bytes: u64,
}

impl Memory {
    /// Reads `/proc/meminfo`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has no `MemAvailable`, as before Linux 3.14.
    pub fn read() -> Result<Self> {
        let refused = |what: String| BenchError::new("read", "/proc/meminfo", BenchErrorKind::Refused(what));
        let facts = procfs::Meminfo::current().map_err(|error| refused(error.to_string()))?;
        let available = facts.mem_available.ok_or_else(|| refused("no MemAvailable".to_owned()))?;
        Ok(Self { total_bytes: facts.mem_total, available_bytes: available, cached_bytes: facts.cached })
    }
}

/// What trees take on their file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Allocated space; blocks that files share are counted with each of them.
    pub used_bytes: u64,
    /// Files, directories and all else, each once however many names it has.
    pub inodes: u64,
}

impl Disk {
    /// Adds the tree `dir` itself and all below it, after what was written has got its blocks.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn add(&mut self, dir: &Path) -> Result<()> {
        let open = File::open(dir).at("open", dir)?;
        // Many file systems choose blocks only when they write.
        rustix::fs::syncfs(&open).at("sync", dir)?;
        self.add_entry(dir, &mut BTreeSet::new())
    }

    fn add_entry(&mut self, path: &Path, met: &mut BTreeSet<(u64, u64)>) -> Result<()> {
        let stat = fs::symlink_metadata(path).at("stat", path)?;
        if met.insert((stat.dev(), stat.ino())) {
            self.used_bytes += stat.blocks() * 512;
            self.inodes += 1;
        }
        if stat.is_dir() {
            for entry in fs::read_dir(path).at("read directory", path)? {
                self.add_entry(&entry.at("read directory", path)?.path(), met)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_inodes_are_those_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let mut disk = Disk::default();
        disk.add(dir.path()).unwrap();
        let empty = disk;
        assert_eq!(empty.inodes, 2);
        fs::write(dir.path().join("d/f"), vec![7; 100_000]).unwrap();
        fs::hard_link(dir.path().join("d/f"), dir.path().join("g")).unwrap();
        let mut disk = Disk::default();
        disk.add(dir.path()).unwrap();
        assert_eq!(disk.inodes, 3, "a second name is no second file");
        let grown = disk.used_bytes - empty.used_bytes;
        assert!((100_000..200_000).contains(&grown), "{grown}");
        assert!(Disk::default().add(&dir.path().join("none")).is_err());
        let memory = Memory::read().unwrap();
        assert!(0 < memory.available_bytes && memory.available_bytes <= memory.total_bytes);
        assert!(0 < memory.cached_bytes);
    }
}
