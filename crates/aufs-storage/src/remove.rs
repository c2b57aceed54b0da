//! Deletes the directories of a layer so that no half of one is ever taken for a layer.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use aufs_host::remove::remove_tree;
use aufs_mount::error::MountErrorKind;
use aufs_mount::{table, unmount};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use tracing::debug;

use crate::error::{StorageErrorKind, failed};
use crate::id::{LayerId, REMOVING};

/// How often what is busy is tried again.
///
/// Source: moby's `daemon/graphdriver/aufs/aufs.go`, where a busy mount takes up to five tries.
pub(crate) const TRIES: u32 = 5;

/// How long to wait before that.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Deletes the directory `id` of `parent`; one that is not there is fine.
///
/// It gets another name first, which says to whoever finds it after a crash that it is to go.
pub(crate) fn remove_directory(
    parent: &OwnedFd,
    parent_path: &Path,
    id: &LayerId,
) -> Result<(), StorageErrorKind> {
    let path = parent_path.join(id);
    let gone = OsString::from(format!("{id}{REMOVING}"));
    detach_below(&path)?;
    // What an earlier try left under that name would be in the way.
    remove_all(parent, &gone).map_err(failed("remove", parent_path.join(&gone)))?;
    let renamed =
        retry(|| rustix::fs::renameat_with(parent, id.as_str(), parent, &gone, RenameFlags::NOREPLACE));
    match renamed {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed("rename", path))?,
    }
    remove_all(parent, &gone).map_err(failed("remove", parent_path.join(&gone)))
}

/// Deletes an entry of `parent` with all below it; one that is not there is fine.
pub(crate) fn remove_all(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match retry(|| remove_tree(parent, name)) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Tries again while something is busy: a mount that goes takes its time in other namespaces.
fn retry<T>(mut act: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 0;
    loop {
        match act() {
            Err(Errno::BUSY) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Detaches what is mounted at or below a directory, so that nothing of it is deleted.
pub(crate) fn detach_below(path: &Path) -> Result<(), StorageErrorKind> {
    let bytes = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| failed("read", "/proc/self/mountinfo")(aufs_host::errno::errno_of(error)))?;
    let mut below: Vec<_> =
        table::parse(&bytes).map(|it| it.mountpoint).filter(|it| it.starts_with(path)).collect();
    // The last mounted lies on top.
    while let Some(mountpoint) = below.pop() {
        debug!(?mountpoint, "detached");
        match unmount::detach(&mountpoint, true) {
            Ok(()) | Err(MountErrorKind::NotMounted) => {}
            Err(kind) => return Err(kind.during("unmount", &mountpoint).into()),
        }
    }
    Ok(())
}
