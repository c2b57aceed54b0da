//! Attaches a FUSE connection to a directory.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::mount::{MountFlags as KernelFlags, UnmountFlags};
use rustix::process::{getegid, geteuid};

use crate::options::MountFlags;

/// The type `mountinfo` shows.
const FILE_SYSTEM: &str = "fuse.aufs";

/// Opens the FUSE device.
///
/// # Errors
///
/// `ENOENT` without the device, `ENODEV` without the kernel module, `EACCES`.
pub(crate) fn open_device() -> io::Result<OwnedFd> {
    rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Mounts the connection `device` at `mountpoint`.
///
/// # Errors
///
/// `EPERM` without the privilege to mount; else what `mount(2)` reports.
pub(crate) fn attach(device: &OwnedFd, mountpoint: &Path, flags: &MountFlags) -> io::Result<()> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
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
