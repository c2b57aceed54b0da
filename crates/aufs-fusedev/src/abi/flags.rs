//! Flag words of requests and replies.

use bitflags::bitflags;

bitflags! {
    /// What both sides can do, settled by INIT; bits from 32 on travel in `flags2`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InitFlags: u64 {
        /// The kernel reads ahead without waiting.
        const ASYNC_READ = 1 << 0;
        /// POSIX locks are the server's business.
        const POSIX_LOCKS = 1 << 1;
        /// OPEN with `O_TRUNC` truncates; without it a SETATTR follows.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// `.` and `..` may be looked up.
        const EXPORT_SUPPORT = 1 << 4;
        /// Writes may be longer than a page.
        const BIG_WRITES = 1 << 5;
        /// The server applies the file mode mask.
        const DONT_MASK = 1 << 6;
        /// BSD locks are the server's business.
        const FLOCK_LOCKS = 1 << 10;
        /// The kernel drops cached pages when the modification time moved.
        const AUTO_INVAL_DATA = 1 << 12;
        /// Listings may carry attributes.
        const DO_READDIRPLUS = 1 << 13;
        /// The kernel decides when listings should carry attributes.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Direct I/O may be answered out of order.
        const ASYNC_DIO = 1 << 15;
        /// The kernel collects writes and sends them later.
        const WRITEBACK_CACHE = 1 << 16;
        /// An OPEN answered `ENOSYS` is the last one.
        const NO_OPEN_SUPPORT = 1 << 17;
        /// Lookups and listings of one directory may run side by side.
        const PARALLEL_DIROPS = 1 << 18;
        /// POSIX ACLs are kept as extended attributes and enforced by the kernel.
        const POSIX_ACL = 1 << 20;
        /// Reading the device after an abort reports `ECONNABORTED`.
        const ABORT_ERROR = 1 << 21;
        /// The reply to INIT says how many pages a request may have.
        const MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are kept.
        const CACHE_SYMLINKS = 1 << 23;
        /// An OPENDIR answered `ENOSYS` is the last one.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// The kernel drops cached pages only when told.
        const EXPLICIT_INVAL_DATA = 1 << 25;
        /// The server clears set-id bits where the kernel signals it, and the kernel asks for no attributes before writes.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// SETXATTR has its longer form.
        const SETXATTR_EXT = 1 << 29;
        /// `flags2` counts.
        const INIT_EXT = 1 << 30;
        /// New entries come with a security context.
        const SECURITY_CTX = 1 << 32;
        /// New entries come with the caller's group that matters.
        const CREATE_SUPP_GROUP = 1 << 34;
        /// An invalidated name may merely expire.
        const HAS_EXPIRE_ONLY = 1 << 35;
        /// Files of direct I/O may be mapped.
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// The kernel may read and write backing files itself.
        const PASSTHROUGH = 1 << 37;
        /// Node numbers cannot be exported.
        const NO_EXPORT_SUPPORT = 1 << 38;
        /// The kernel can send pending requests again.
        const HAS_RESEND = 1 << 39;
        /// The mount may be ID-mapped.
        const ALLOW_IDMAP = 1 << 40;
        /// Requests may travel by io_uring.
        const OVER_IO_URING = 1 << 41;
        /// The server may set a time limit for requests.
        const REQUEST_TIMEOUT = 1 << 42;
        const _ = !0;
    }

    /// How the kernel is to treat an open file.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct OpenedFlags: u32 {
        /// Reads and writes bypass the page cache.
        const DIRECT_IO = 1 << 0;
        /// Pages of earlier opens are still right.
        const KEEP_CACHE = 1 << 1;
        /// The directory's listing may be kept.
        const CACHE_DIR = 1 << 3;
        /// No FLUSH at close.
        const NO_FLUSH = 1 << 5;
        /// The kernel reads and writes the backing file itself.
        const PASSTHROUGH = 1 << 7;
    }

    /// Which attributes a SETATTR changes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SetAttrValid: u32 {
        /// Permission bits.
        const MODE = 1 << 0;
        /// Owner.
        const UID = 1 << 1;
        /// Group.
        const GID = 1 << 2;
        /// Length.
        const SIZE = 1 << 3;
        /// Time of access.
        const ATIME = 1 << 4;
        /// Time of modification.
        const MTIME = 1 << 5;
        /// `fh` names an open file.
        const FH = 1 << 6;
        /// Time of access becomes now.
        const ATIME_NOW = 1 << 7;
        /// Time of modification becomes now.
        const MTIME_NOW = 1 << 8;
        /// Time of change, which only a writeback cache sends.
        const CTIME = 1 << 10;
        /// Set-id bits have to go.
        const KILL_SUIDGID = 1 << 11;
        const _ = !0;
    }

    /// How a WRITE came about.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct WriteFlags: u32 {
        /// From the page cache, later; the file handle is a guess.
        const CACHE = 1 << 0;
        /// Set-id bits have to go.
        const KILL_SUIDGID = 1 << 2;
        const _ = !0;
    }

    /// Flags of OPEN and CREATE beyond those of `open(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OpenInFlags: u32 {
        /// Set-id bits have to go, since the file is truncated.
        const KILL_SUIDGID = 1 << 0;
        const _ = !0;
    }
}

/// `__FMODE_EXEC` of Linux: among the flags of an OPEN by execve(2), and of no other.
pub const FMODE_EXEC: u32 = 0x20;

/// `FUSE_GETATTR_FH`: `fh` of a GETATTR names an open file.
pub const GETATTR_FH: u32 = 1;
/// `FUSE_FSYNC_FDATASYNC`: only data need reach the disk.
pub const FSYNC_DATA_ONLY: u32 = 1;
/// `FUSE_SETXATTR_ACL_KILL_SGID`: the set-group-id bit has to go.
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `FUSE_EXPIRE_ONLY`: the name is looked up again at its next use.
pub const NOTIFY_EXPIRE_ONLY: u32 = 1;
