//! Changes the flags of a live mount.

use std::path::Path;

use nix::mount::MsFlags;

use crate::error::{MountError, MountErrorKind};
use crate::option::{GenericFlags, MountOptions};
use crate::table::MountEntry;
use crate::unmount::{find, resolve};

/// Sets the flags that `options` names on the mount at `mountpoint`; the others stay.
///
/// # Errors
///
/// - [`RemountOnlyFlags`](MountErrorKind::RemountOnlyFlags): branches or the like were named.
/// - [`NotMounted`](MountErrorKind::NotMounted): no file system is mounted there.
/// - [`Busy`](MountErrorKind::Busy): `ro`, while files are open for writing.
/// - else what `mount(2)` reports.
pub fn remount(mountpoint: &Path, options: &MountOptions) -> Result<(), MountError> {
    let failed = |kind: MountErrorKind| kind.during("remount", mountpoint);
    for (is_set, word) in [
        (!options.branches.is_empty(), "the branches"),
        (options.workdir.is_some(), "workdir="),
        (options.data.is_some(), "data="),
        (options.udba.is_some(), "udba="),
        (options.sync, "sync"),
        (options.volatile, "volatile"),
        (options.no_xattrs, "noxattr"),
        (options.always_opaque, "diropq="),
        (options.transport.is_some(), "transport="),
    ] {
        if is_set {
            return Err(failed(MountErrorKind::RemountOnlyFlags { word }));
        }
    }
    let path = resolve(mountpoint).map_err(failed)?;
    let entry = find(&path).map_err(failed)?;
    let flags = MsFlags::MS_REMOUNT | merge(&entry, &options.flags);
    nix::mount::mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).map_err(|errno| {
        failed(match errno {
            nix::errno::Errno::EBUSY => MountErrorKind::Busy,
            errno => MountErrorKind::Call { call: "mount(2) with MS_REMOUNT", errno },
        })
    })
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
