//! A layer with its ancestors, worked on by this process alone and without a mount.

use std::path::Path;
use std::thread;

use aufs_host::errno::errno_of;
use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Union, UnionError, UnionOptions};
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;

use crate::count::State;
use crate::driver::Driver;
use crate::error::{StorageErrorKind, failed};
use crate::id::LayerId;

impl Driver {
    /// Calls `act` with the union of a layer and its ancestors; nobody else mounts or removes the layer meanwhile.
    ///
    /// # Errors
    ///
    /// [`InUse`](StorageErrorKind::InUse) while it is mounted; else what the host refuses.
    pub(crate) fn within_unmounted<T: Send>(
        &self,
        id: &LayerId,
        act: impl FnOnce(&Union) -> Result<T, UnionError> + Send,
    ) -> Result<T, StorageErrorKind> {
        let (ancestors, lock) = self.known(id)?;
        let counted = self.users_of(id, &ancestors, &lock)?;
        if let State::Mounted(_) | State::Dead = counted.state {
            return Err(StorageErrorKind::InUse { count: counted.users });
        }
        with_union(&UnionOptions { stack: self.stack_of(id, &ancestors), ..UnionOptions::default() }, act)
    }

    /// The branches of a layer, its own on top.
    pub(crate) fn stack_of(&self, id: &LayerId, ancestors: &[LayerId]) -> Vec<BranchSpec> {
        let below = BranchPerm::ReadOnly { whiteouts: true };
        let own = BranchSpec { path: self.home.diff_path(id), perm: BranchPerm::ReadWrite };
        let others = ancestors.iter().map(|it| BranchSpec { path: self.home.diff_path(it), perm: below });
        std::iter::once(own).chain(others).collect()
    }
}

/// Calls `act` with an open union.
pub(crate) fn with_union<T: Send>(
    options: &UnionOptions,
    act: impl FnOnce(&Union) -> Result<T, UnionError> + Send,
) -> Result<T, StorageErrorKind> {
    let work = || -> Result<T, StorageErrorKind> {
        // A union clears the mask for new files, which is to stay as it is for the rest of the process.
        let apart = unshare(CloneFlags::CLONE_FS);
        apart.map_err(|errno| failed("unshare", Path::new("/"))(Errno::from_raw_os_error(errno as i32)))?;
        let union = Union::open(options)?;
        Ok(act(&union)?)
    };
    thread::scope(|scope| {
        let working = thread::Builder::new().spawn_scoped(scope, work);
        let working =
            working.map_err(errno_of).map_err(failed("start a thread for", Path::new("a union")))?;
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
