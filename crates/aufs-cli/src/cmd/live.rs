//! Changes of the branches of a live mount, for `aufs branch` and `-o remount,append:PATH`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aufs_fuse::control::{Answer, Ask, ask};
use aufs_mount::option::MountOptions;
use aufs_mount::remount::LiveMount;
use aufs_mount::stack::BranchStack;
use aufs_union::BranchChange;
use aufs_union::branch::BranchSpec;
use nix::errno::Errno;

use crate::exit::Exit;

/// The server did not change the branches.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ChangeError {
    message: String,
    errno: Errno,
}

impl ChangeError {
    /// Returns what to exit with.
    pub fn exit(&self) -> Exit {
        match self.errno {
            Errno::EBUSY => Exit::Busy,
            Errno::EPERM | Errno::EMFILE => Exit::Unsupported,
            Errno::EIO => Exit::Failure,
            _ => Exit::Refused,
        }
    }

    fn of_call(errno: i32) -> Self {
        let errno = Errno::from_raw(errno);
        let message = match errno {
            Errno::ENOTTY | Errno::EINVAL => "not a union served by this version of aufs".to_owned(),
            Errno::EPERM => "only root and the user who mounted may change branches".to_owned(),
            errno => format!("cannot ask the server: {}", errno.desc()),
        };
        Self { message, errno }
    }
}

/// Some changes were made before one failed.
#[derive(Debug, thiserror::Error)]
#[error("{done} of the changes are made, the next is not")]
pub struct PartlyDone {
    done: usize,
}

/// Says how many changes were made before `error`.
pub fn after(done: usize, error: anyhow::Error) -> anyhow::Error {
    if done == 0 { error } else { error.context(PartlyDone { done }) }
}

/// Makes the changes in their order, up to the first that fails.
pub fn change_all(mount: &LiveMount, mountpoint: &Path, changes: &[BranchChange]) -> anyhow::Result<()> {
    if mount.is_kernel_aufs() {
        for (done, change) in changes.iter().enumerate() {
            mount.change_branch(change).map_err(|error| after(done, error.into()))?;
        }
        return Ok(());
    }
    let union = LiveUnion::open(mountpoint)?;
    for (done, change) in changes.iter().enumerate() {
        union.change(change.clone()).map_err(|error| after(done, error))?;
    }
    Ok(())
}

/// A union that is mounted by our server.
#[derive(Debug)]
pub struct LiveUnion<'a> {
    mountpoint: &'a Path,
    root: File,
}

impl<'a> LiveUnion<'a> {
    /// Opens its root.
    pub fn open(mountpoint: &'a Path) -> anyhow::Result<Self> {
        let root = File::open(mountpoint).with_context(|| format!("mount point {}", mountpoint.display()))?;
        Ok(Self { mountpoint, root })
    }

    /// Asks for its branches.
    pub fn branches(&self) -> Result<Vec<BranchSpec>, ChangeError> {
        let mut branches = Vec::new();
        loop {
            let answer = ask(&self.root, &Ask::Branches(branches.len()));
            match answer.map_err(|errno| ChangeError::of_call(errno.raw_os_error()))? {
                Answer::Branches(all, some) => {
                    let is_last = some.is_empty() || all <= branches.len() + some.len();
                    branches.extend(some);
                    if is_last {
                        return Ok(branches);
                    }
                }
                _ => return Err(ChangeError::of_call(Errno::EPROTO as i32)),
            }
        }
    }

    /// Has its server make a change.
    pub fn change(&self, mut change: BranchChange) -> anyhow::Result<()> {
        let branches = self.branches()?;
        match &mut change {
            BranchChange::Add { position, spec } => {
                spec.path = known(&branches, &spec.path)?;
                self.check(branches, *position, spec)?;
            }
            BranchChange::Remove { path } | BranchChange::Modify { path, .. } => {
                *path = known(&branches, path)?;
            }
        }
        let answer = ask(&self.root, &Ask::Change(change));
        match answer.map_err(|errno| ChangeError::of_call(errno.raw_os_error()))? {
            Answer::Done(warnings) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                Ok(())
            }
            Answer::Refused { errno, message } => {
                Err(ChangeError { message, errno: Errno::from_raw(errno) }.into())
            }
            Answer::Branches(..) => Err(ChangeError::of_call(Errno::EPROTO as i32).into()),
        }
    }

    /// Checks the stack with a new branch, as for a mount of it.
    fn check(
        &self,
        mut branches: Vec<BranchSpec>,
        position: Option<usize>,
        spec: &BranchSpec,
    ) -> anyhow::Result<()> {
        if branches.iter().any(|it| it.path == spec.path) {
            return Ok(());
        }
        let at = position.unwrap_or(branches.len()).min(branches.len());
        branches.insert(at, spec.clone());
        let options = MountOptions { branches, ..MountOptions::default() };
        let (_, warnings) = BranchStack::check(&options, self.mountpoint)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

/// Returns the name under which the server knows the branch; it may be gone from the host.
fn known(branches: &[BranchSpec], path: &Path) -> anyhow::Result<PathBuf> {
    if branches.iter().any(|it| it.path == path) {
        return Ok(path.to_owned());
    }
    let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    path.context("the current directory")
}
