//! Reads what is at the mount points of layers.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use aufs_host::errno::errno_of;
use aufs_mount::table::{self, MountEntry};
use aufs_mount::unmount::FUSE_TYPE;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::read::Reader;
use super::snapshot::{MountPoint, layer_path};
use crate::driver::NAME;
use crate::error::{StorageErrorKind, failed};
use crate::home::mount_id;
use crate::mounts::is_dead;

impl Reader<'_> {
    pub(super) fn mount_points(&mut self) -> Result<(), StorageErrorKind> {
        let Some((dir, ids)) = self.parts("mnt", FileType::Directory)? else { return Ok(()) };
        let table = fs::read("/proc/self/mountinfo").map_err(errno_of);
        let table: Vec<_> = table::parse(&table.map_err(failed("read", "/proc/self/mountinfo"))?).collect();
        let own = mount_id(&dir, OsStr::new("")).map_err(failed("statx", self.root.path.join("aufs/mnt")))?;
        for id in ids {
            let path = self.root.path.join(layer_path("mnt", &id));
            let on_top = || table.iter().rfind(|it| it.mountpoint == path);
            let found = match mount_id(&dir, id.as_ref()) {
                Err(Errno::NOENT) => continue,
                Ok(mount) if mount != own => mounted(&path, on_top(), Some(mount)),
                Err(errno) if is_dead(errno) => mounted(&path, on_top(), None),
                Err(errno) => return Err(failed("statx", path)(errno)),
                Ok(_) if self.is_empty(&dir, "mnt", &id)? => MountPoint::Empty,
                Ok(_) => MountPoint::Filled,
            };
            self.snapshot.mnts.insert(id, found);
        }
        Ok(())
    }
}

/// What is mounted at a path.
fn mounted(path: &Path, entry: Option<&MountEntry>, mount: Option<u64>) -> MountPoint {
    match entry {
        Some(entry) if entry.fs_type != FUSE_TYPE && entry.fs_type != NAME => {
            return MountPoint::Foreign(entry.fs_type.clone());
        }
        // Unmounted by now.
        None => return MountPoint::Empty,
        Some(_) => {}
    }
    match (mount, rustix::fs::statfs(path)) {
        (Some(mount), Err(errno)) if !is_dead(errno) => MountPoint::Mounted(mount),
        (Some(mount), Ok(_)) => MountPoint::Mounted(mount),
        _ => MountPoint::Dead,
    }
}
