//! The structures of answers and notifications.

#![allow(
    missing_debug_implementations,
    reason = "zerocopy derives types of its own for fields; ours all have Debug"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::requests::layouts;

layouts! {
    /// What every answer and notification begins with.
    OutHeader {
        /// Length of the whole answer in bytes.
        len: u32,
        /// A negated errno, or 0; the code of a notification.
        error: i32,
        /// The request it answers; 0 for a notification.
        unique: u64,
    }

    /// Attributes of a node.
    Attr {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }

    /// A node under a name; node number 0 says that there is none.
    EntryOut {
        nodeid: u64,
        generation: u64,
        /// How long the name keeps, in seconds.
        entry_valid: u64,
        /// How long the attributes keep, in seconds.
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: Attr,
    }

    /// GETATTR and SETATTR.
    AttrOut {
        /// How long the attributes keep, in seconds.
        attr_valid: u64,
        attr_valid_nsec: u32,
        dummy: u32,
        attr: Attr,
    }

    /// A time of [`Statx`].
    StatxTime {
        tv_sec: i64,
        tv_nsec: u32,
        reserved: i32,
    }

    /// Attributes as `statx(2)` has them.
    Statx {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: [u16; 1],
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: StatxTime,
        btime: StatxTime,
        ctime: StatxTime,
        mtime: StatxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }

    /// STATX.
    StatxOut {
        /// How long the attributes keep, in seconds.
        attr_valid: u64,
        attr_valid_nsec: u32,
        flags: u32,
        spare: [u64; 2],
        stat: Statx,
    }

    /// OPEN, OPENDIR, and the second part of CREATE and TMPFILE.
    OpenOut {
        fh: u64,
        open_flags: u32,
        /// A registered backing file, with the passthrough flag.
        backing_id: i32,
    }

    /// WRITE, COPY_FILE_RANGE.
    WriteOut {
        /// Bytes that were written.
        size: u32,
        padding: u32,
    }

    /// STATFS.
    StatfsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }

    /// GETXATTR and LISTXATTR when only the length was asked for.
    GetXattrOut {
        size: u32,
        padding: u32,
    }

    /// LSEEK.
    LSeekOut {
        offset: u64,
    }

    /// INIT.
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }

    /// One name of READDIR; the name and padding to 8 bytes follow.
    Dirent {
        ino: u64,
        /// Where the listing goes on after this name.
        off: u64,
        namelen: u32,
        /// `DT_*` of `readdir(3)`.
        kind: u32,
    }

    /// Notification: attributes or pages of a node are outdated.
    NotifyInvalInodeOut {
        ino: u64,
        /// First byte; a negative one stands for the attributes alone.
        off: i64,
        /// Count of bytes; 0 stands for all.
        len: i64,
    }

    /// Notification: a name is outdated; the name and a zero byte follow.
    NotifyInvalEntryOut {
        parent: u64,
        namelen: u32,
        flags: u32,
    }

    /// IOCTL; what it returns follows.
    IoctlOut {
        /// What `ioctl(2)` returns.
        result: i32,
        flags: u32,
        in_iovs: u32,
        out_iovs: u32,
    }

    /// What comes before the numbers of a prune notification.
    NotifyPruneOut {
        count: u32,
        padding: u32,
        spare: u64,
    }

    /// Notification: a name is gone; the name and a zero byte follow.
    NotifyDeleteOut {
        parent: u64,
        child: u64,
        namelen: u32,
        padding: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as `sizeof` gives them for `include/uapi/linux/fuse.h`.
    #[test]
    fn layouts_have_the_kernels_sizes() {
        for (name, size, expected) in [
            ("out header", size_of::<OutHeader>(), 16),
            ("attr", size_of::<Attr>(), 88),
            ("entry", size_of::<EntryOut>(), 128),
            ("attr out", size_of::<AttrOut>(), 104),
            ("statx", size_of::<Statx>(), 256),
            ("statx out", size_of::<StatxOut>(), 288),
            ("open", size_of::<OpenOut>(), 16),
            ("statfs", size_of::<StatfsOut>(), 80),
            ("init", size_of::<InitOut>(), 64),
            ("dirent", size_of::<Dirent>(), 24),
            ("inval inode", size_of::<NotifyInvalInodeOut>(), 24),
            ("inval entry", size_of::<NotifyInvalEntryOut>(), 16),
            ("delete", size_of::<NotifyDeleteOut>(), 24),
            ("prune", size_of::<NotifyPruneOut>(), 16),
            ("ioctl", size_of::<IoctlOut>(), 16),
        ] {
            assert_eq!(size, expected, "{name}");
        }
    }
}
