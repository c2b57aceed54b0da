//! Attaches a FUSE connection to a directory.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aufs_fusedev::device::Channel;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::{self, Errno};
use rustix::mount::{MountFlags as KernelFlags, UnmountFlags};
use rustix::process::{getegid, geteuid};

use crate::options::MountFlags;

/// The type `mountinfo` shows.
const FILE_SYSTEM: &str = "fuse.aufs";

/// Mounts the connection `device` at `mountpoint`.
///
/// # Errors
///
/// `EPERM` without the privilege to mount; else what `mount(2)` reports.
pub(crate) fn attach(device: &Channel, mountpoint: &Path, flags: &MountFlags) -> io::Result<()> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_fd().as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw()
    );
    if flags.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        flags.source.as_str(),
        mountpoint,
        FILE_SYSTEM,
        kernel_flags(flags),
        Some(data.as_c_str()),
    )
}

fn kernel_flags(flags: &MountFlags) -> KernelFlags {
    let mut kernel = KernelFlags::empty();
    for (wanted, flag) in [
        (flags.read_only, KernelFlags::RDONLY),
        (flags.no_suid, KernelFlags::NOSUID),
        (flags.no_dev, KernelFlags::NODEV),
        (flags.no_exec, KernelFlags::NOEXEC),
        (flags.no_atime, KernelFlags::NOATIME),
        (flags.no_dir_atime, KernelFlags::NODIRATIME),
    ] {
        if wanted {
            kernel |= flag;
        }
    }
    kernel
}

/// Takes the mount away again, also while somebody is inside.
///
/// # Errors
///
/// What `umount2(2)` reports.
pub(crate) fn detach(mountpoint: &Path) -> io::Result<()> {
    rustix::mount::unmount(mountpoint, UnmountFlags::DETACH)
}

/// Lets the kernel read `len_bytes` ahead on this mount, where it may be told; its own limit is 128 KiB.
///
/// Only speed hangs on it, so a refusal, usual without root, is merely logged.
pub(crate) fn raise_read_ahead(mountpoint: &Path, len_bytes: u32) {
    // The number of the mount is all that is wanted; attributes nobody can serve yet.
    let flags = AtFlags::STATX_DONT_SYNC;
    let raised = rustix::fs::statx(rustix::fs::CWD, mountpoint, flags, StatxFlags::empty())
        .map_err(std::io::Error::from)
        .and_then(|it| {
            let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", it.stx_dev_major, it.stx_dev_minor);
            std::fs::write(path, (len_bytes / 1024).to_string())
        });
    if let Err(error) = raised {
        tracing::debug!(%error, "read-ahead stays as it is");
    }
}
