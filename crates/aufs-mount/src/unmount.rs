//! Unmounts, and waits until the server has flushed and ended.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{MountError, MountErrorKind};
use crate::server::find_in_path;
use crate::table::{self, MountEntry};

/// Type of our mounts in mountinfo.
pub const FUSE_TYPE: &str = "fuse.aufs";

/// Attribute of the mount's root whose value is the server's process id in decimal.
pub const SERVER_XATTR: &str = "user.aufs.server";

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmountOptions {
    /// Detach at once and let the programs that use the mount finish; do not wait.
    pub lazy: bool,
    /// How long to wait for the server to end.
    pub wait: Duration,
}

impl Default for UnmountOptions {
    fn default() -> Self {
        Self { lazy: false, wait: Duration::from_secs(60) }
    }
}

/// Unmounts what is mounted at `mountpoint`; returns when its server has ended.
///
/// Works for kernel aufs and other mounts as well, which have no server to wait for.
///
/// # Errors
///
/// - [`NotMounted`](MountErrorKind::NotMounted): no file system is mounted there.
/// - [`Busy`](MountErrorKind::Busy): a program uses the mount; it stays as it is.
/// - [`ServerLingers`](MountErrorKind::ServerLingers): unmounted, but the server did not end.
/// - else what `umount2(2)` or `fusermount3` report.
pub fn unmount(mountpoint: &Path, options: &UnmountOptions) -> Result<(), MountError> {
    let failed = |kind: MountErrorKind| kind.during("unmount", mountpoint);
    let path = resolve(mountpoint).map_err(failed)?;
    let entry = find(&path).map_err(failed)?;
    // A lazy unmount waits for nobody, least of all for a stuck server to say who it is.
    let server = if entry.fs_type == FUSE_TYPE && !options.lazy { server_of(&path, &entry) } else { None };
    detach(&path, options.lazy).map_err(failed)?;
    match server {
        Some((pid, pidfd)) => {
            if wait_for_end(&pidfd, options.wait).map_err(failed)? {
                Ok(())
            } else {
                Err(failed(MountErrorKind::ServerLingers { pid, seconds: options.wait.as_secs() }))
            }
        }
        None => Ok(()),
    }
}

/// Unmounts without looking or waiting, by `fusermount3` where the kernel wants root.
///
/// # Errors
///
/// [`Busy`](MountErrorKind::Busy), or what `umount2(2)` or `fusermount3` report.
pub fn detach(mountpoint: &Path, lazy: bool) -> Result<(), MountErrorKind> {
    let flags = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(mountpoint, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(MountErrorKind::Busy),
        Err(Errno::EINVAL) => Err(MountErrorKind::NotMounted),
        Err(Errno::EPERM) => detach_by_helper(mountpoint, lazy),
        Err(errno) => Err(MountErrorKind::Call { call: "umount2", errno }),
    }
}

fn detach_by_helper(mountpoint: &Path, lazy: bool) -> Result<(), MountErrorKind> {
    let Some(program) = find_in_path("fusermount3") else {
        return Err(MountErrorKind::Call { call: "umount2", errno: Errno::EPERM });
    };
    let output = Command::new(&program)
        .env("LC_ALL", "C")
        .args(if lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"] })
        .arg(mountpoint)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| MountErrorKind::Server { server: program, error })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().next().unwrap_or("no message").trim().to_owned();
    if message.contains("busy") {
        Err(MountErrorKind::Busy)
    } else {
        Err(MountErrorKind::Fusermount { message })
    }
}

/// Makes a mount point absolute; does not ask the mount itself, whose server may be dead or stuck.
pub(crate) fn resolve(mountpoint: &Path) -> Result<PathBuf, MountErrorKind> {
    let refuse = |error: std::io::Error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT => MountErrorKind::Missing,
        Errno::ENOTDIR => MountErrorKind::NotDirectory,
        Errno::ENOTCONN => MountErrorKind::DeadMount,
        errno => MountErrorKind::Inaccessible(errno),
    };
    if let Some(name) = mountpoint.file_name() {
        let parent = mountpoint.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let path = fs::canonicalize(parent).map_err(refuse)?.join(name);
        if find(&path).is_ok() {
            return Ok(path);
        }
    }
    fs::canonicalize(mountpoint).map_err(refuse)
}

/// Finds the mount at an absolute path.
pub(crate) fn find(path: &Path) -> Result<MountEntry, MountErrorKind> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let entry = table::mount_at(path);
    entry
        .map_err(|error| MountErrorKind::Call { call: "read /proc/self/mountinfo", errno: errno(error) })?
        .ok_or(MountErrorKind::NotMounted)
}

/// Takes hold of the process that serves the mount; none when it does not say, or is dead.
fn server_of(path: &Path, entry: &MountEntry) -> Option<(i32, OwnedFd)> {
    let mut value = [0_u8; 16];
    let pid: i32 = match rustix::fs::getxattr(path, SERVER_XATTR, &mut value[..]) {
        Ok(len) => std::str::from_utf8(value.get(..len)?).ok()?.parse().ok()?,
        // Mounted with `noxattr`, so the server cannot say; but the kernel knows who holds the connection.
        Err(rustix::io::Errno::OPNOTSUPP) => holder_of(entry.device.1)?,
        Err(_) => return None,
    };
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    Some((pid, pidfd))
}

/// Finds the process that holds the FUSE connection of this minor device number.
///
/// Source: `fuse_dev_show_fdinfo` in `fs/fuse/dev.c`, since Linux 6.16.
fn holder_of(connection: u32) -> Option<i32> {
    let line = format!("fuse_connection:\t{connection}");
    let holds = |pid: &i32| {
        fs::read_dir(format!("/proc/{pid}/fdinfo")).is_ok_and(|infos| {
            infos.flatten().any(|info| {
                fs::read_to_string(info.path()).is_ok_and(|text| text.lines().any(|it| it == line))
            })
        })
    };
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|it| it.file_name().to_str()?.parse().ok()).find(holds)
}

/// Waits until the process ends; false when `wait` passes first.
fn wait_for_end(pidfd: &OwnedFd, wait: Duration) -> Result<bool, MountErrorKind> {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(pidfd), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(MountErrorKind::Call { call: "poll", errno }),
        }
    }
}
