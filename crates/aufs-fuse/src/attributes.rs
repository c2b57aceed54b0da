//! Attributes and errnos in the words of the FUSE library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aufs_union::UnionError;
use aufs_union::attr::Attr;
use fuser::{Errno, FileAttr, INodeNo};
use rustix::fs::{FileType, Timespec};
use tracing::{debug, warn};

/// How long the kernel keeps what only this server can change.
pub(crate) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Returns the library's name of `file_type`.
pub(crate) fn kind_of(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharacterDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::RegularFile | FileType::Unknown => fuser::FileType::RegularFile,
    }
}

/// Returns `attr` as the library sends it; in an entry `ino` is the node number, elsewhere what programs see.
pub(crate) fn file_attr(attr: &Attr, ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attr.len_bytes,
        blocks: attr.blocks,
        atime: time_of(attr.atime),
        mtime: time_of(attr.mtime),
        ctime: time_of(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind_of(attr.file_type()),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: kernel_device(attr.rdev),
        blksize: attr.blksize_bytes,
        flags: 0,
    }
}

/// The kernel's 32-bit form of a device number: `new_encode_dev` in `include/linux/kdev_t.h`.
fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`kernel_device`].
pub(crate) fn host_device(device: u32) -> u64 {
    rustix::fs::makedev((device & 0x000f_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0x000f_ff00))
}

fn time_of(time: Timespec) -> SystemTime {
    let nanos = Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0));
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole =
        if time.tv_sec < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|it| it.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// Returns `time` as the host calls take it.
pub(crate) fn timespec_of(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        },
        Err(before) => {
            let before = before.duration();
            let nanos = i64::from(before.subsec_nanos());
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            if nanos == 0 {
                Timespec { tv_sec: seconds, tv_nsec: 0 }
            } else {
                Timespec { tv_sec: seconds - 1, tv_nsec: 1_000_000_000 - nanos }
            }
        }
    }
}

/// Logs `error` and returns the errno for the kernel.
///
/// Programs provoke `ENOENT`, `EEXIST` and the like all day, so those stay at
/// debug; only a failing host is worth a warning.
pub(crate) fn errno_of(error: &UnionError) -> Errno {
    let errno = error.errno();
    match errno {
        rustix::io::Errno::IO | rustix::io::Errno::NOMEM | rustix::io::Errno::MFILE => {
            warn!(error = %error, %errno, "host failed");
        }
        _ => debug!(error = %error, %errno, "refused"),
    }
    Errno::from_i32(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_epoch_read_back() {
        for (tv_sec, tv_nsec) in [(0, 0), (1, 999_999_999), (-1, 0), (-1, 500_000_000), (-7, 1), (1 << 33, 5)]
        {
            let time = Timespec { tv_sec, tv_nsec };
            assert_eq!(timespec_of(time_of(time)), time);
        }
    }

    #[test]
    fn device_numbers_read_back() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 65_537), (4095, 1_048_575)] {
            let device = rustix::fs::makedev(major, minor);
            assert_eq!(host_device(kernel_device(device)), device, "{major}:{minor}");
        }
    }
}
