//! Changes a live mount: its flags, and with kernel aufs its branches.

use std::path::{Path, PathBuf};

use aufs_union::BranchChange;
use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::error::{MountError, MountErrorKind};
use crate::kernel;
use crate::option::{GenericFlags, MountOptions, one_line};
use crate::table::MountEntry;
use crate::unmount::{find, resolve};

/// A mount that is there, and may be changed.
#[derive(Debug)]
pub struct LiveMount {
    path: PathBuf,
    entry: MountEntry,
}

impl LiveMount {
    /// Finds the file system that is mounted at `mountpoint`; `op` says in errors what is to be done.
    ///
    /// # Errors
    ///
    /// [`NotMounted`](MountErrorKind::NotMounted), or why the path leads nowhere.
    pub fn find(op: &'static str, mountpoint: &Path) -> Result<Self, MountError> {
        let failed = |kind: MountErrorKind| kind.during(op, mountpoint);
        let path = resolve(mountpoint).map_err(failed)?;
        let entry = find(&path).map_err(failed)?;
        Ok(Self { path, entry })
    }

    /// Whether kernel aufs is mounted there, which is changed by [`LiveMount::change_branch`].
    pub fn is_kernel_aufs(&self) -> bool {
        self.entry.fs_type == "aufs"
    }

    /// Has kernel aufs change its branches.
    ///
    /// # Errors
    ///
    /// [`KernelAufsCannot`](MountErrorKind::KernelAufsCannot), or what `mount(2)` reports.
    pub fn change_branch(&self, change: &BranchChange) -> Result<(), MountError> {
        let failed = |kind: MountErrorKind| kind.during("remount", &self.path);
        let data = kernel::remount_data(change, rustix::param::page_size())
            .map_err(|reason| failed(MountErrorKind::KernelAufsCannot { reason }))?;
        let flags = MsFlags::MS_REMOUNT | merge(&self.entry, &GenericFlags::default());
        nix::mount::mount(None::<&str>, &self.path, None::<&str>, flags, Some(data.as_slice())).map_err(
            |errno| {
                failed(match errno {
                    Errno::EBUSY => MountErrorKind::Busy,
                    errno => MountErrorKind::KernelMount { data: one_line(&data), errno },
                })
            },
        )
    }

    /// Sets the flags that are named; the others stay.
    ///
    /// # Errors
    ///
    /// [`Busy`](MountErrorKind::Busy) to `ro` while files are open for writing; else what `mount(2)` reports.
    pub fn set_flags(&self, asked: &GenericFlags) -> Result<(), MountError> {
        let flags = MsFlags::MS_REMOUNT | merge(&self.entry, asked);
        nix::mount::mount(None::<&str>, &self.path, None::<&str>, flags, None::<&str>).map_err(|errno| {
            match errno {
                Errno::EBUSY => MountErrorKind::Busy,
                errno => MountErrorKind::Call { call: "mount(2) with MS_REMOUNT", errno },
            }
            .during("remount", &self.path)
        })
    }
}

/// Refuses words that no live mount can follow.
///
/// # Errors
///
/// [`RemountCannot`](MountErrorKind::RemountCannot).
pub fn check_words(mountpoint: &Path, options: &MountOptions) -> Result<(), MountError> {
    let cannot = [
        (!options.branches.is_empty(), "all branches"),
        (options.workdir.is_some(), "workdir="),
        (options.data.is_some(), "data="),
        (options.udba.is_some(), "udba="),
        (options.sync, "sync"),
        (options.volatile, "volatile"),
        (options.no_xattrs, "noxattr"),
        (options.always_opaque, "diropq="),
        (options.transport.is_some(), "transport="),
    ];
    match cannot.into_iter().find(|it| it.0) {
        Some((_, word)) => Err(MountErrorKind::RemountCannot { word }.during("remount", mountpoint)),
        None => Ok(()),
    }
}

/// The flags a mount has, overruled by those that are asked for.
///
/// A remount states all flags anew: one that is left out is one that is cleared.
fn merge(entry: &MountEntry, asked: &GenericFlags) -> MsFlags {
    let has = |name: &str| entry.flags.iter().any(|it| it == name);
    let is_read_only = has("ro") || entry.fs_options.iter().any(|it| it == "ro");
    [
        (asked.read_only.unwrap_or(is_read_only), MsFlags::MS_RDONLY),
        (asked.no_suid.unwrap_or_else(|| has("nosuid")), MsFlags::MS_NOSUID),
        (asked.no_dev.unwrap_or_else(|| has("nodev")), MsFlags::MS_NODEV),
        (asked.no_exec.unwrap_or_else(|| has("noexec")), MsFlags::MS_NOEXEC),
        (asked.no_atime.unwrap_or_else(|| has("noatime")), MsFlags::MS_NOATIME),
        (asked.no_dir_atime.unwrap_or_else(|| has("nodiratime")), MsFlags::MS_NODIRATIME),
        (has("relatime"), MsFlags::MS_RELATIME),
    ]
    .into_iter()
    .filter(|it| it.0)
    .fold(MsFlags::empty(), |all, it| all | it.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::{Dialect, parse};
    use crate::table;

    #[test]
    fn flags_stay_unless_asked_for() {
        let line = |flags: &str, fs: &str| {
            let text = format!("77 29 0:45 / /m {flags} - fuse.aufs aufs {fs}");
            table::parse(text.as_bytes()).next().unwrap()
        };
        let all = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RELATIME;
        for (flags, fs, asked, expected) in [
            ("rw,nosuid,nodev,relatime", "rw", "remount,ro", all | MsFlags::MS_RDONLY),
            ("rw,nosuid,nodev,relatime", "ro", "remount", all | MsFlags::MS_RDONLY),
            ("ro,nosuid,nodev,relatime", "ro", "remount,rw", all),
            (
                "rw,nosuid,nodev,relatime",
                "rw",
                "remount,suid,noexec",
                (all - MsFlags::MS_NOSUID) | MsFlags::MS_NOEXEC,
            ),
            ("rw,noatime,nodiratime", "rw", "remount", MsFlags::MS_NOATIME | MsFlags::MS_NODIRATIME),
        ] {
            let options = parse(asked.as_ref(), Dialect::Own).unwrap().options;
            assert_eq!(merge(&line(flags, fs), &options.flags), expected, "{flags} {asked}");
        }
    }
}
