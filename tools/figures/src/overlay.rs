//! Peers: the same layers mounted by others, as simply as they can be.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// Who mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The kernel's own.
    Overlayfs,
    /// The program of that name.
    FuseOverlayfs,
}

impl Peer {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
        }
    }

    /// Whether it is here.
    pub fn is_here(self) -> bool {
        self == Self::Overlayfs || Command::new("fuse-overlayfs").arg("--version").output().is_ok()
    }
}

/// A mounted tree, unmounted when it is dropped.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub root: PathBuf,
}

impl Mounted {
    /// Makes the directories of a container in `base` and mounts them on the layers `lowers`, topmost first.
    pub fn new(peer: Peer, base: &Path, lowers: &[PathBuf]) -> anyhow::Result<Self> {
        let [upper, work, root] = ["upper", "work", "mnt"].map(|it| base.join(it));
        for dir in [&upper, &work, &root] {
            std::fs::create_dir_all(dir)?;
        }
        match peer {
            Peer::Overlayfs => {
                let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen overlay")?;
                // One by one, since all of them would not fit into a page.
                for lower in lowers {
                    fsconfig_set_string(&context, "lowerdir+", lower).context("lowerdir+")?;
                }
                fsconfig_set_string(&context, "upperdir", &upper).context("upperdir")?;
                fsconfig_set_string(&context, "workdir", &work).context("workdir")?;
                fsconfig_create(&context).context("mount overlay")?;
                let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
                    .context("fsmount")?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&mount, "", rustix::fs::CWD, &root, flags).context("move_mount")?;
            }
            Peer::FuseOverlayfs => {
                let lowers: Vec<_> = lowers.iter().map(|it| it.display().to_string()).collect();
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    lowers.join(":"),
                    upper.display(),
                    work.display()
                );
                let done = Command::new("fuse-overlayfs").args(["-o", &options]).arg(&root).output()?;
                if !done.status.success() {
                    bail!("fuse-overlayfs: {}", String::from_utf8_lossy(&done.stderr).trim());
                }
            }
        }
        Ok(Self { root })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.root, UnmountFlags::DETACH) {
            crate::complain(&format!("figures: unmount {}: {error}", self.root.display()));
        }
    }
}
