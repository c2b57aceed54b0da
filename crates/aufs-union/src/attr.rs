//! Attributes as programs see them, and changes to them.

use rustix::fs::{FileType, Stat, Timespec};

/// Attributes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number, constant while the node lives.
    pub ino: u64,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Number of names; 1 for a merged directory, where nobody counts.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize_bytes: u32,
    /// Time of last access.
    pub atime: Timespec,
    /// Time of last modification.
    pub mtime: Timespec,
    /// Time of last status change.
    pub ctime: Timespec,
}

impl Attr {
    /// Takes over what a branch reports, under the union's own inode number.
    pub(crate) fn of(stat: &Stat, ino: u64) -> Self {
        let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos.cast_signed() };
        Self {
            ino,
            mode: stat.st_mode,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev,
            len_bytes: stat.st_size.cast_unsigned(),
            blocks: stat.st_blocks.cast_unsigned(),
            blksize_bytes: u32::try_from(stat.st_blksize).unwrap_or(4096),
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Returns the type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the host's clock.
    Now,
    /// This time.
    At(Timespec),
}

/// Changes to attributes; what is none stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub len_bytes: Option<u64>,
    /// Time of last access.
    pub atime: Option<SetTime>,
    /// Time of last modification.
    pub mtime: Option<SetTime>,
}

impl SetAttr {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        let owner = self.uid.or(self.gid);
        self.mode.or(owner).is_none() && self.len_bytes.is_none() && self.atime.or(self.mtime).is_none()
    }
}

/// Who creates an entry, and under which mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creator {
    /// Owner of the new entry.
    pub uid: u32,
    /// Group of the new entry, unless its directory passes its own on (setgid).
    pub gid: u32,
    /// Permission bits taken away, unless the directory has a default ACL.
    pub umask: u32,
}
