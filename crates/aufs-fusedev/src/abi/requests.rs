//! The structures requests begin with.

#![allow(
    missing_debug_implementations,
    reason = "zerocopy derives types of its own for fields; ours all have Debug"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Defines plain structures as they lie in a request.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            #[allow(missing_docs, reason = "the kernel's names, described there; docs stand where a name does not say it")]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}
pub(crate) use layouts;

layouts! {
    /// What every request begins with.
    InHeader {
        /// Length of the whole request in bytes.
        len: u32,
        opcode: u32,
        /// Names the request in its reply.
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        /// Length of extensions at the end, in units of 8 bytes.
        total_extlen: u16,
        padding: u16,
    }

    /// INIT; kernels before 5.17 send only the first four words.
    InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        flags2: u32,
        unused: [u32; 11],
    }

    /// IOCTL; what it is given follows.
    IoctlIn {
        fh: u64,
        flags: u32,
        cmd: u32,
        arg: u64,
        in_size: u32,
        out_size: u32,
    }

    /// FORGET.
    ForgetIn {
        nlookup: u64,
    }

    /// One node of a BATCH_FORGET.
    ForgetOne {
        nodeid: u64,
        nlookup: u64,
    }

    /// BATCH_FORGET; as many [`ForgetOne`] follow as it counts.
    BatchForgetIn {
        count: u32,
        dummy: u32,
    }

    /// GETATTR.
    GetAttrIn {
        getattr_flags: u32,
        dummy: u32,
        fh: u64,
    }

    /// STATX.
    StatxIn {
        getattr_flags: u32,
        reserved: u32,
        fh: u64,
        sx_flags: u32,
        sx_mask: u32,
    }

    /// SETATTR.
    SetAttrIn {
        valid: u32,
        padding: u32,
        fh: u64,
        size: u64,
        lock_owner: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }

    /// MKNOD; a name follows.
    MkNodIn {
        mode: u32,
        rdev: u32,
        umask: u32,
        padding: u32,
    }

    /// MKDIR; a name follows.
    MkDirIn {
        mode: u32,
        umask: u32,
    }

    /// RENAME; two names follow.
    RenameIn {
        newdir: u64,
    }

    /// RENAME2; two names follow.
    Rename2In {
        newdir: u64,
        flags: u32,
        padding: u32,
    }

    /// LINK; a name follows.
    LinkIn {
        oldnodeid: u64,
    }

    /// OPEN and OPENDIR.
    OpenIn {
        /// Flags of `open(2)`.
        flags: u32,
        open_flags: u32,
    }

    /// CREATE and TMPFILE; a name follows.
    CreateIn {
        /// Flags of `open(2)`.
        flags: u32,
        mode: u32,
        umask: u32,
        open_flags: u32,
    }

    /// RELEASE and RELEASEDIR.
    ReleaseIn {
        fh: u64,
        flags: u32,
        release_flags: u32,
        lock_owner: u64,
    }

    /// READ, READDIR and READDIRPLUS.
    ReadIn {
        fh: u64,
        offset: u64,
        /// Most bytes the answer may have.
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }

    /// WRITE; the bytes follow.
    WriteIn {
        fh: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }

    /// FSYNC and FSYNCDIR.
    FSyncIn {
        fh: u64,
        fsync_flags: u32,
        padding: u32,
    }

    /// SETXATTR without `SETXATTR_EXT`; name and value follow.
    SetXattrShortIn {
        size: u32,
        flags: u32,
    }

    /// SETXATTR; name and value follow.
    SetXattrIn {
        size: u32,
        flags: u32,
        setxattr_flags: u32,
        padding: u32,
    }

    /// GETXATTR, where a name follows, and LISTXATTR.
    GetXattrIn {
        /// Most bytes the answer may have; 0 asks for the length alone.
        size: u32,
        padding: u32,
    }

    /// INTERRUPT.
    InterruptIn {
        /// The request whose caller got a signal.
        unique: u64,
    }

    /// FALLOCATE.
    FAllocateIn {
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
        padding: u32,
    }

    /// LSEEK.
    LSeekIn {
        fh: u64,
        offset: u64,
        whence: u32,
        padding: u32,
    }

    /// COPY_FILE_RANGE and COPY_FILE_RANGE_64.
    CopyFileRangeIn {
        fh_in: u64,
        off_in: u64,
        nodeid_out: u64,
        fh_out: u64,
        off_out: u64,
        len: u64,
        flags: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as `sizeof` gives them for `include/uapi/linux/fuse.h`.
    #[test]
    fn layouts_have_the_kernels_sizes() {
        for (name, size, expected) in [
            ("in header", size_of::<InHeader>(), 40),
            ("init", size_of::<InitIn>(), 64),
            ("forget one", size_of::<ForgetOne>(), 16),
            ("getattr", size_of::<GetAttrIn>(), 16),
            ("statx", size_of::<StatxIn>(), 24),
            ("setattr", size_of::<SetAttrIn>(), 88),
            ("mknod", size_of::<MkNodIn>(), 16),
            ("rename2", size_of::<Rename2In>(), 16),
            ("create", size_of::<CreateIn>(), 16),
            ("release", size_of::<ReleaseIn>(), 24),
            ("read", size_of::<ReadIn>(), 40),
            ("write", size_of::<WriteIn>(), 40),
            ("setxattr", size_of::<SetXattrIn>(), 16),
            ("fallocate", size_of::<FAllocateIn>(), 32),
            ("lseek", size_of::<LSeekIn>(), 24),
            ("copy_file_range", size_of::<CopyFileRangeIn>(), 56),
        ] {
            assert_eq!(size, expected, "{name}");
        }
    }
}
