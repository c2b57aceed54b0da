//! A container's tree as programs in it see it, with its volumes, but seen by one thread alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use aufs_host::errno::errno_of;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};

use super::enter::{add_volume, called, leave_to_ourselves};
use super::error::ContainerErrorKind;
use super::store::{Container, ContainerStore, Volume};
use crate::error::failed;

impl ContainerStore<'_> {
    /// Calls `act` with the root of a container's tree, which is mounted for it unless it is already.
    ///
    /// Where there are volumes, `act` runs in a thread with a mount namespace of its own.
    pub(super) fn within<T: Send>(
        &self,
        container: &Container,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, ContainerErrorKind> + Send,
    ) -> Result<T, ContainerErrorKind> {
        self.driver.within(&container.id, |root| match container.volumes.as_slice() {
            [] => with_root(root, act),
            volumes => thread::scope(|scope| {
                let there = thread::Builder::new().spawn_scoped(scope, || with_volumes(root, volumes, act));
                let there = there.map_err(errno_of).map_err(failed("start a thread for", root))?;
                there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        })
    }
}

fn with_root<T>(
    root: &Path,
    act: impl FnOnce(BorrowedFd<'_>) -> Result<T, ContainerErrorKind>,
) -> Result<T, ContainerErrorKind> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty()).map_err(failed("open", root))?;
    act(opened.as_fd())
}

fn with_volumes<T>(
    root: &Path,
    volumes: &[Volume],
    act: impl FnOnce(BorrowedFd<'_>) -> Result<T, ContainerErrorKind>,
) -> Result<T, ContainerErrorKind> {
    called("unshare", root, unshare(CloneFlags::CLONE_NEWNS))?;
    leave_to_ourselves()?;
    let done = with_root(root, |dir| {
        for volume in volumes {
            add_volume(dir, volume)?;
        }
        act(dir)
    });
    // The namespace ends some time after the thread, and would keep the tree from being unmounted until then.
    let gone = called("umount", root, umount2(root, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW));
    done.and_then(|done| gone.map(|()| done))
}
