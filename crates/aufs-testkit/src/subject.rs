//! What a scenario runs on: the system calls it makes, whoever answers them.

use rustix::fs::{Access, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;

/// Why a call gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The subject refused.
    Errno(Errno),
    /// The scenario's earlier open of the handle failed.
    NoHandle,
    /// The subject has no such call, with the reason; the scenario is skipped.
    Unsupported(&'static str),
    /// The scenario or its surroundings are at fault.
    Broken(String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<nix::errno::Errno> for Fault {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Errno(Errno::from_raw_os_error(errno as i32))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::Errno(Errno::from_raw_os_error(raw)),
            None => Self::Broken(error.to_string()),
        }
    }
}

/// A value, or why there is none.
pub type Outcome<T> = Result<T, Fault>;

/// The part of `stat(2)` that scenarios look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Inode number.
    pub ino: u64,
    /// Device the inode number belongs to.
    pub dev: u64,
    /// Device number of a device node.
    pub rdev: u64,
}

/// Whether a final symlink is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Final {
    /// As `stat`.
    Follow,
    /// As `lstat`.
    Itself,
}

/// Where a call starts in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the handle's own offset, moving it.
    Current,
    /// At a byte offset, as `pread` and `pwrite`.
    At(u64),
}

/// A union that can be mounted, worked on and unmounted.
///
/// Every path is as in [`crate::op`]. A handle is closed by dropping it.
#[expect(missing_docs, reason = "each call is the system call of that name")]
#[expect(clippy::missing_errors_doc, reason = "each fails with the errno of the system call")]
pub trait Subject {
    /// An open file.
    type Handle: std::fmt::Debug;

    /// Mounts the union.
    fn mount(&mut self) -> Outcome<()>;
    /// Unmounts it; `open_handles` says how many are open.
    fn unmount(&mut self, open_handles: usize) -> Outcome<()>;
    /// Changes branches of the live union by aufs's words for that.
    fn remount(&mut self, options: &str) -> Outcome<()>;
    /// Makes the calls that follow be those of this user and group; root if `None`.
    fn set_caller(&mut self, caller: Option<(u32, u32)>) -> Outcome<()>;
    fn umask(&mut self, mask: Mode);

    fn open(&mut self, path: &str, flags: OFlags, mode: Mode) -> Outcome<Self::Handle>;
    /// Opens `/proc/self/fd/N` of `handle`.
    fn reopen(&mut self, handle: &Self::Handle, flags: OFlags) -> Outcome<Self::Handle>;
    fn read(&mut self, handle: &mut Self::Handle, len_bytes: usize, at: Position) -> Outcome<Vec<u8>>;
    fn write(&mut self, handle: &mut Self::Handle, data: &[u8], at: Position) -> Outcome<usize>;
    fn seek(&mut self, handle: &mut Self::Handle, to: SeekFrom) -> Outcome<u64>;
    fn ftruncate(&mut self, handle: &Self::Handle, len_bytes: u64) -> Outcome<()>;
    fn fstat(&mut self, handle: &Self::Handle) -> Outcome<Stat>;
    fn fchmod(&mut self, handle: &Self::Handle, mode: Mode) -> Outcome<()>;
    fn fchown(&mut self, handle: &Self::Handle, uid: u32, gid: u32) -> Outcome<()>;
    /// Sets both times.
    fn futimens(&mut self, handle: &Self::Handle, seconds: i64) -> Outcome<()>;
    fn fsync(&mut self, handle: &Self::Handle) -> Outcome<()>;
    fn fdatasync(&mut self, handle: &Self::Handle) -> Outcome<()>;
    fn fsetxattr(&mut self, handle: &Self::Handle, name: &str, value: &[u8]) -> Outcome<()>;
    fn fallocate(
        &mut self,
        handle: &Self::Handle,
        mode: FallocateFlags,
        offset: u64,
        len_bytes: u64,
    ) -> Outcome<()>;
    /// The names in an open directory.
    fn list_handle(&mut self, handle: &Self::Handle) -> Outcome<Vec<String>>;
    /// Inode flags, as `FS_IOC_GETFLAGS`.
    fn getflags(&mut self, handle: &Self::Handle) -> Outcome<u32>;
    fn setflags(&mut self, handle: &Self::Handle, flags: u32) -> Outcome<()>;
    fn link_handle(&mut self, handle: &Self::Handle, path: &str) -> Outcome<()>;

    fn stat(&mut self, path: &str, last: Final) -> Outcome<Stat>;
    /// Whether the effective user may access `path` so.
    fn access(&mut self, path: &str, access: Access) -> Outcome<()>;
    fn truncate(&mut self, path: &str, len_bytes: u64) -> Outcome<()>;
    fn chmod(&mut self, path: &str, mode: Mode) -> Outcome<()>;
    fn chown(&mut self, path: &str, uid: u32, gid: u32, last: Final) -> Outcome<()>;
    /// Sets both times, of a symlink itself.
    fn utimens(&mut self, path: &str, seconds: i64) -> Outcome<()>;
    /// The four xattr calls work on a symlink itself.
    fn setxattr(&mut self, path: &str, name: &str, value: &[u8], flags: XattrFlags) -> Outcome<()>;
    fn getxattr(&mut self, path: &str, name: &str) -> Outcome<Vec<u8>>;
    /// Sorted.
    fn listxattr(&mut self, path: &str) -> Outcome<Vec<String>>;
    fn removexattr(&mut self, path: &str, name: &str) -> Outcome<()>;
    fn link(&mut self, source: &str, target: &str) -> Outcome<()>;
    fn symlink(&mut self, target: &str, path: &str) -> Outcome<()>;
    fn readlink(&mut self, path: &str) -> Outcome<String>;
    /// `mode` has the type bits; sockets too.
    fn mknod(&mut self, path: &str, mode: u32, rdev: u64) -> Outcome<()>;
    fn mkdir(&mut self, path: &str, mode: Mode) -> Outcome<()>;
    fn rmdir(&mut self, path: &str) -> Outcome<()>;
    fn unlink(&mut self, path: &str) -> Outcome<()>;
    fn rename(&mut self, source: &str, target: &str, flags: RenameFlags) -> Outcome<()>;
    /// Sorted names, without `.` and `..`.
    fn list(&mut self, path: &str) -> Outcome<Vec<String>>;
    /// The longest name that may be created below `path`, in bytes.
    fn name_max(&mut self, path: &str) -> Outcome<i64>;
    /// The host path of `path`, where the host sees the union.
    fn host_path(&self, path: &str) -> Outcome<std::path::PathBuf>;
    /// The descriptor behind `handle`, where there is one.
    fn host_fd<'h>(&self, handle: &'h Self::Handle) -> Outcome<std::os::fd::BorrowedFd<'h>>;
}
