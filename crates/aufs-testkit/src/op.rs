//! The operations of the scenarios.
//!
//! Paths are below the union's root; `@NAME/…` addresses a branch directly and
//! `.` is the root. Handles are named by the scenario. What each does is
//! written once, in [`crate::replay`].

use serde::{Deserialize, Serialize};

/// One operation with its arguments. Modes are octal text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each variant is the system call of that name, each field its argument")]
pub enum Op {
    Open {
        path: String,
        flags: String,
        h: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    /// Opens `/proc/self/fd/N` of another handle.
    OpenatSelf {
        h0: String,
        flags: String,
        h: String,
    },
    Close {
        h: String,
    },
    Read {
        h: String,
        n: usize,
    },
    Pread {
        h: String,
        n: usize,
        off: u64,
    },
    Write {
        h: String,
        data: String,
    },
    Pwrite {
        h: String,
        data: String,
        off: u64,
    },
    Lseek {
        h: String,
        off: i64,
        whence: u8,
    },
    Ftruncate {
        h: String,
        length: u64,
    },
    Fstat {
        h: String,
    },
    Fchmod {
        h: String,
        mode: String,
    },
    Fchown {
        h: String,
        uid: u32,
        gid: u32,
    },
    Futimens {
        h: String,
        t: i64,
    },
    Fsync {
        h: String,
    },
    Fdatasync {
        h: String,
    },
    Fsetxattr {
        h: String,
        name: String,
        value: String,
    },
    Fallocate {
        h: String,
        mode: u32,
        off: u64,
        length: u64,
    },
    /// A POSIX lock, not waiting.
    Setlk {
        h: String,
        how: String,
    },
    /// The same lock asked for by a child process.
    SetlkChild {
        h: String,
        how: String,
    },
    Getflags {
        h: String,
    },
    Setflags {
        h: String,
        val: u32,
    },
    Mmap {
        h: String,
        m: String,
        length: usize,
        prot: String,
    },
    Mwrite {
        m: String,
        off: usize,
        data: String,
    },
    Msync {
        m: String,
    },
    Stat {
        path: String,
    },
    Lstat {
        path: String,
    },
    Exists {
        path: String,
    },
    Access {
        path: String,
        mode: u8,
    },
    ReadFile {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<usize>,
    },
    /// Creates or truncates, then writes.
    WriteFile {
        path: String,
        data: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    AppendFile {
        path: String,
        data: String,
    },
    /// Writes into a file without truncating it.
    Overwrite {
        path: String,
        data: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        off: Option<u64>,
    },
    CreatExcl {
        path: String,
    },
    Truncate {
        path: String,
        length: u64,
    },
    Chmod {
        path: String,
        mode: String,
    },
    Chown {
        path: String,
        uid: u32,
        gid: u32,
    },
    Lchown {
        path: String,
        uid: u32,
        gid: u32,
    },
    Utimens {
        path: String,
        t: i64,
    },
    Setxattr {
        path: String,
        name: String,
        value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flags: Option<u32>,
    },
    Getxattr {
        path: String,
        name: String,
    },
    Listxattr {
        path: String,
    },
    Removexattr {
        path: String,
        name: String,
    },
    Link {
        src: String,
        dst: String,
    },
    /// `linkat` of `/proc/self/fd/N`, as for an unnamed temporary file.
    LinkFd {
        h: String,
        dst: String,
    },
    Symlink {
        target: String,
        path: String,
    },
    Readlink {
        path: String,
    },
    Mkfifo {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    Mksock {
        path: String,
    },
    Mknod {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        rdev: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    Mkdir {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
    },
    Rmdir {
        path: String,
    },
    Unlink {
        path: String,
    },
    Rename {
        src: String,
        dst: String,
    },
    Renameat2 {
        src: String,
        dst: String,
        flag: String,
    },
    /// Names with their kind, `d`, `l` or `o`.
    Readdir {
        path: String,
    },
    Ls {
        path: String,
    },
    /// Every path below.
    Lsr {
        path: String,
    },
    /// The names of an open directory.
    OpendirFdRead {
        h: String,
    },
    Pathconf {
        path: String,
        name: String,
    },
    Exec {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        argv: Option<Vec<String>>,
    },
    Spawn {
        path: String,
        argv: Vec<String>,
        h: String,
    },
    Kill {
        h: String,
    },
    /// Changes branches of the live mount.
    Remount {
        options: String,
    },
    Umount {},
    Mount {},
    DropCaches {},
    Umask {
        mask: String,
    },
    /// The raw state of a branch at this moment.
    Snapshot {
        branch: String,
    },
    /// Which branches physically hold the path.
    InBranch {
        path: String,
    },
    /// Opens for writing, allocates or frees a range, closes.
    Allocate {
        path: String,
        mode: u32,
        off: u64,
        length: u64,
    },
    /// `copy_file_range` between two files, or within one.
    CopyRange {
        src: String,
        dst: String,
        from: u64,
        to: u64,
        length: usize,
    },
    /// Stores through a shared mapping; `short` where the file ends before that.
    MapWrite {
        path: String,
        off: usize,
        data: String,
    },
    /// Makes a file without a name in `dir`, writes it, and links it.
    Tmpfile {
        dir: String,
        dst: String,
        data: String,
    },
    /// Sets the modification time alone.
    Mtime {
        path: String,
        t: i64,
    },
    /// Writes until `size` or an error.
    Fill {
        path: String,
        size: usize,
    },
}

impl Op {
    /// The path whose entry the result describes, if it is one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Stat { path } | Self::Lstat { path } => Some(path),
            _ => None,
        }
    }
}
