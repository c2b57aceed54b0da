//! How a layer is mounted: what is there at the moment, and the calls that change it.

use std::ffi::OsString;
use std::path::Path;

use aufs_host::errno::errno_of;
use aufs_mount::error::MountErrorKind;
use aufs_mount::mounter::{self, MountRequest};
use aufs_mount::table;
use aufs_mount::unmount::{self, FUSE_TYPE, UnmountOptions};
use rustix::io::Errno;

use crate::count::{Locked, Record, State, users};
use crate::driver::{Driver, NAME};
use crate::error::{StorageErrorKind, failed};
use crate::id::LayerId;
use crate::remove::{PAUSE, TRIES};

/// How often a mount is tried whose branch is in use.
const TRIES_TO_MOUNT: u32 = 50;

/// How a layer is there, and how many use it.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) state: State,
    pub(crate) users: u64,
    /// Whether it is mounted and the count is not of this mount: whoever mounted it was killed, or knows no counts.
    pub(crate) is_found: bool,
}

impl Driver {
    /// How a layer is there, and how many use it.
    pub(crate) fn users_of(
        &self,
        id: &LayerId,
        ancestors: &[LayerId],
        lock: &Locked,
    ) -> Result<Counted, StorageErrorKind> {
        let record = lock.record().map_err(failed("read the count of", id.as_str()))?;
        let state = self.state_of(id, ancestors, record.as_ref())?;
        let is_own =
            |mount| record.as_ref().is_some_and(|it| it.mount == Some(mount) && it.boot == self.boot);
        let is_found = matches!(state, State::Mounted(mount) if !is_own(mount));
        Ok(Counted { state, users: users(record.as_ref(), state, &self.boot), is_found })
    }

    /// Calls `act` with the path at which a layer shows with its ancestors, for as long as that takes.
    pub(crate) fn within<T, E: From<StorageErrorKind>>(
        &self,
        id: &LayerId,
        act: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let root = self.get(id, None).map_err(|error| *error.kind)?;
        let done = act(&root);
        let put = self.put(id).map_err(|error| *error.kind);
        done.and_then(|done| Ok(put.map(|()| done)?))
    }

    pub(crate) fn state_of(
        &self,
        id: &LayerId,
        ancestors: &[LayerId],
        record: Option<&Record>,
    ) -> Result<State, StorageErrorKind> {
        let path = self.home.mnt_path(id);
        let idle = if ancestors.is_empty() { State::Base } else { State::Idle };
        let mount = match self.home.mount_on(id) {
            Ok(None) => return Ok(idle),
            Ok(Some(mount)) => mount,
            Err(errno) if is_dead(errno) => return Ok(State::Dead),
            Err(errno) => return Err(failed("statx", path)(errno)),
        };
        if record.is_none_or(|it| it.mount != Some(mount) || it.boot != self.boot) {
            let entry = table::mount_at(&path)
                .map_err(|error| failed("read", "/proc/self/mountinfo")(errno_of(error)))?;
            // One that is gone by now was somebody else's.
            let Some(entry) = entry else { return Ok(idle) };
            if entry.fs_type != FUSE_TYPE && entry.fs_type != NAME {
                return Err(StorageErrorKind::Foreign { path, fs_type: entry.fs_type });
            }
        }
        // Attributes may be known to the kernel; for this it has to ask the server.
        match rustix::fs::statfs(&path) {
            Ok(_) => Ok(State::Mounted(mount)),
            Err(errno) if is_dead(errno) => Ok(State::Dead),
            Err(errno) => Err(failed("statfs", path)(errno)),
        }
    }

    /// Mounts a layer on its ancestors; returns the mount.
    pub(crate) fn mount(
        &self,
        id: &LayerId,
        ancestors: &[LayerId],
        label: Option<OsString>,
    ) -> Result<u64, StorageErrorKind> {
        let mut options = self.options.mount.clone();
        options.branches = self.stack_of(id, ancestors);
        options.flags.context = label.or(options.flags.context);
        let target = self.home.mnt_path(id);
        let request = MountRequest {
            options,
            mountpoint: target.clone(),
            mounter: self.options.mounter,
            program: self.options.program.clone(),
            log: self.options.log.clone(),
        };
        mount_when_free(&request)?;
        match self.home.mount_on(id) {
            Ok(Some(mount)) => Ok(mount),
            other => {
                let errno = other.err().unwrap_or(Errno::IO);
                self.unmount(&target)?;
                Err(failed("statx", target)(errno))
            }
        }
    }

    /// Unmounts, and waits for the server; tries again while the mount is busy.
    pub(crate) fn unmount(&self, target: &Path) -> Result<(), StorageErrorKind> {
        let mut tries = 0;
        loop {
            match unmount::unmount(target, &UnmountOptions::default()) {
                Ok(()) => return Ok(()),
                Err(error) => match error.kind {
                    MountErrorKind::NotMounted => return Ok(()),
                    MountErrorKind::Busy if tries < TRIES => {
                        tries += 1;
                        std::thread::sleep(PAUSE);
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

/// Whether a mount that answers so has lost its server.
pub(crate) fn is_dead(errno: Errno) -> bool {
    // The last two are what a request gets that was on its way when the server died, by device and by io_uring.
    matches!(errno, Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED)
}

/// Mounts; waits while a server that is about to end still has the branch, as one that was killed may for seconds.
fn mount_when_free(request: &MountRequest) -> Result<(), StorageErrorKind> {
    let mut tries = 0;
    loop {
        match mounter::mount(request) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind.errno() == Some(nix::errno::Errno::EBUSY) && tries < TRIES_TO_MOUNT => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
