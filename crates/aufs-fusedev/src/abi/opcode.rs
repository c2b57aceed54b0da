//! What requests ask for.

/// Defines the opcodes once, with their numbers and names.
macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Opcode {
            $($(#[$doc])* $name = $number,)*
        }

        impl Opcode {
            /// All opcodes, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the opcode with this number.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the name in lower case, such as `lookup`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

opcodes! {
    /// Finds a name.
    Lookup = 1, "lookup";
    /// Takes back lookups; has no reply.
    Forget = 2, "forget";
    /// Reads attributes.
    GetAttr = 3, "getattr";
    /// Changes attributes.
    SetAttr = 4, "setattr";
    /// Reads the target of a symbolic link.
    ReadLink = 5, "readlink";
    /// Makes a symbolic link.
    Symlink = 6, "symlink";
    /// Makes a file, device, FIFO or socket.
    MkNod = 8, "mknod";
    /// Makes a directory.
    MkDir = 9, "mkdir";
    /// Removes a name.
    Unlink = 10, "unlink";
    /// Removes a directory.
    RmDir = 11, "rmdir";
    /// Moves a name.
    Rename = 12, "rename";
    /// Adds a name.
    Link = 13, "link";
    /// Opens a file.
    Open = 14, "open";
    /// Reads bytes.
    Read = 15, "read";
    /// Writes bytes.
    Write = 16, "write";
    /// Reads the sizes of the file system.
    StatFs = 17, "statfs";
    /// Ends an open file.
    Release = 18, "release";
    /// Flushes a file to its disk.
    FSync = 20, "fsync";
    /// Sets an extended attribute.
    SetXattr = 21, "setxattr";
    /// Reads an extended attribute.
    GetXattr = 22, "getxattr";
    /// Lists extended attributes.
    ListXattr = 23, "listxattr";
    /// Removes an extended attribute.
    RemoveXattr = 24, "removexattr";
    /// A descriptor was closed.
    Flush = 25, "flush";
    /// Settles how to talk.
    Init = 26, "init";
    /// Opens a directory.
    OpenDir = 27, "opendir";
    /// Lists a directory.
    ReadDir = 28, "readdir";
    /// Ends an open directory.
    ReleaseDir = 29, "releasedir";
    /// Flushes a directory to its disk.
    FSyncDir = 30, "fsyncdir";
    /// Reads a POSIX lock.
    GetLk = 31, "getlk";
    /// Sets a POSIX lock.
    SetLk = 32, "setlk";
    /// Sets a POSIX lock and waits for it.
    SetLkW = 33, "setlkw";
    /// Asks whether access is allowed.
    Access = 34, "access";
    /// Makes and opens a file.
    Create = 35, "create";
    /// The caller of another request got a signal; has no reply.
    Interrupt = 36, "interrupt";
    /// Maps a block.
    BMap = 37, "bmap";
    /// The file system is going.
    Destroy = 38, "destroy";
    /// `ioctl(2)`.
    IoCtl = 39, "ioctl";
    /// `poll(2)`.
    Poll = 40, "poll";
    /// Answers a retrieve notification; has no reply.
    NotifyReply = 41, "notify_reply";
    /// Takes back lookups of several nodes; has no reply.
    BatchForget = 42, "batch_forget";
    /// Reserves or punches a range.
    FAllocate = 43, "fallocate";
    /// Lists a directory with attributes.
    ReadDirPlus = 44, "readdirplus";
    /// Moves a name, with flags.
    Rename2 = 45, "rename2";
    /// Finds data or a hole.
    LSeek = 46, "lseek";
    /// Copies between files.
    CopyFileRange = 47, "copy_file_range";
    /// Maps a file for DAX.
    SetupMapping = 48, "setupmapping";
    /// Unmaps a file of DAX.
    RemoveMapping = 49, "removemapping";
    /// Flushes the file system.
    SyncFs = 50, "syncfs";
    /// Makes a file without a name.
    TmpFile = 51, "tmpfile";
    /// Reads attributes, as `statx(2)`.
    StatX = 52, "statx";
    /// Copies between files, and reports more than 4 GiB.
    CopyFileRange64 = 53, "copy_file_range_64";
}

impl Opcode {
    /// One more than the largest number: the length of a table by opcode.
    pub const COUNT: usize = 54;

    /// Returns the number.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Whether the kernel waits for a reply.
    pub fn has_reply(self) -> bool {
        !matches!(self, Self::Forget | Self::BatchForget | Self::Interrupt | Self::NotifyReply)
    }
}

/// What a notification tells the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum NotifyCode {
    /// Attributes or pages of a node are outdated.
    InvalInode = 2,
    /// A name is outdated.
    InvalEntry = 3,
    /// Pages of a node.
    Store = 4,
    /// A name is gone, and its watchers should hear of it.
    Delete = 6,
    /// All names are outdated.
    IncEpoch = 8,
    /// Nodes that nobody uses are to be forgotten.
    Prune = 9,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_fit_the_table() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode.number()), Some(opcode));
            assert!((opcode.number() as usize) < Opcode::COUNT, "{opcode:?}");
        }
        for unknown in [0, 7, 19, 54, 4096, u32::MAX] {
            assert_eq!(Opcode::from_number(unknown), None);
        }
    }
}
