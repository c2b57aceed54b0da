//! Why a stack could not be mounted, changed or unmounted.
//!
//! Each message fits one line and names the thing and the remedy, since people
//! meet these texts at the end of a failing script.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::option::path_line;

/// An operation on a mount failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}", path_line(path))]
pub struct MountError {
    /// What was looked at or done: `branch`, `workdir`, `mount point`, `mount`, `unmount`, `remount`.
    pub op: &'static str,
    /// The host path it concerns.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub kind: MountErrorKind,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountErrorKind {
    /// Nothing is there.
    #[error("no such directory; create it or correct the path")]
    Missing,
    /// Something else is there.
    #[error("not a directory; name a directory")]
    NotDirectory,
    /// It cannot be looked at.
    #[error("cannot be used: {}", .0.desc())]
    Inaccessible(Errno),
    /// A FUSE mount whose server is gone.
    #[error("a dead mount lies here, its server is gone; remove it with fusermount3 -u or umount -l")]
    DeadMount,
    /// Nothing to stack.
    #[error("no branches given; name them with -o br:PATH=PERM or --branch PATH=PERM")]
    NoBranches,
    /// More branches than an index can count.
    #[error("{count} branches are more than {}", crate::stack::BRANCHES_MAX)]
    TooManyBranches {
        /// How many were given.
        count: usize,
    },
    /// Two branches are one directory.
    #[error("the same directory as branch {}; name each directory once", path_line(other))]
    Twice {
        /// The branch further up.
        other: PathBuf,
    },
    /// One branch contains another.
    #[error("lies inside branch {}; branches must not contain each other", path_line(outer))]
    Nested {
        /// The containing branch.
        outer: PathBuf,
    },
    /// The union would contain itself.
    #[error("lies inside branch {}; mount outside of every branch", path_line(branch))]
    InsideBranch {
        /// The containing branch.
        branch: PathBuf,
    },
    /// The mount would hide its own branch.
    #[error("contains branch {}; mount outside of every branch", path_line(branch))]
    AroundBranch {
        /// The contained branch.
        branch: PathBuf,
    },
    /// A writable branch that cannot be written.
    #[error("cannot be written: {}; make it writable, or give it as ro+wh or the mount as ro", .0.desc())]
    NotWritable(Errno),
    /// Drafts could not be published by a rename.
    #[error(
        "on another file system than the writable branch {}; choose a directory beside it",
        path_line(upper)
    )]
    WorkdirElsewhere {
        /// The writable branch.
        upper: PathBuf,
    },
    /// Kernel aufs was asked for, and the kernel has none.
    #[error("no aufs in /proc/filesystems; load it with modprobe aufs, or use --mounter fuse")]
    NoKernelAufs,
    /// Kernel aufs cannot do what was asked for.
    #[error("kernel aufs cannot do this: {reason}; use --mounter fuse")]
    KernelAufsCannot {
        /// What it cannot.
        reason: String,
    },
    /// `mount(2)` of aufs failed.
    #[error("mount(2) of type aufs with {data:?}: {}", errno.desc())]
    KernelMount {
        /// The data of the failing call.
        data: String,
        /// Its errno.
        errno: Errno,
    },
    /// `/dev/fuse` cannot be opened.
    #[error("cannot open /dev/fuse: {}; {}", .0.desc(), fuse_remedy(*.0))]
    NoFuse(Errno),
    /// The serving program is nowhere.
    #[error("the aufs program that serves the mount was not found (AUFS_BIN, beside this program, PATH)")]
    NoServer,
    /// The serving program could not be started or talked to.
    #[error("the serving program {}: {error}", path_line(server))]
    Server {
        /// The program.
        server: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The serving program ended before it said anything.
    #[error("the serving program ended ({status}) before the mount was up")]
    ServerDied {
        /// Its exit status as text.
        status: String,
    },
    /// The serving program reported an error; nothing is mounted.
    #[error("{message}")]
    Served {
        /// Its one line.
        message: String,
        /// The errno behind it, if one is known.
        errno: Option<i32>,
        /// The kind of failure, as its exit code says.
        class: ErrorClass,
    },
    /// Not a mount point.
    #[error("not mounted")]
    NotMounted,
    /// Somebody works in the mount.
    #[error("in use; end the programs that use it, or detach it with --lazy")]
    Busy,
    /// The server outlived its mount.
    #[error(
        "unmounted, but its server (process {pid}) still runs after {seconds} s; \
         another mount namespace may hold the mount"
    )]
    ServerLingers {
        /// The server.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The kernel refuses.
    #[error("{call}: {}", errno.desc())]
    Call {
        /// The system call.
        call: &'static str,
        /// Its errno.
        errno: Errno,
    },
    /// The server answers by an attribute, and the mount has none.
    #[error("mounted with noxattr, so its server cannot be asked; mount it without to see what it does")]
    Speechless,
    /// What is mounted is none of our server's.
    #[error(
        "a mount of type {fs_type}, whose server does not tell about itself; name a mount of aufs over FUSE"
    )]
    NotServed {
        /// Its type in mountinfo.
        fs_type: String,
    },
    /// `fusermount3` refuses.
    #[error("fusermount3: {message}")]
    Fusermount {
        /// What it printed.
        message: String,
    },
    /// A remount that asks for more than flags and single branches.
    #[error(
        "a remount changes flags such as ro, and single branches by append:, add:, del: and mod:; \
         unmount and mount again to change {word}"
    )]
    RemountCannot {
        /// The option that cannot change.
        word: &'static str,
    },
}

fn fuse_remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES => "run as root, or let others open it (chmod 666 /dev/fuse)",
        Errno::EPERM => "give the container the device (--device /dev/fuse)",
        _ => "load the fuse module (modprobe fuse), or give the container the device (--device /dev/fuse)",
    }
}

/// What kind of trouble an error is; the exit codes of `aufs` follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorClass {
    /// The operation was tried and failed.
    Failure = 1,
    /// The request makes no sense.
    Usage = 2,
    /// The host, or the user's rights, lack something.
    Unsupported = 3,
    /// A directory cannot be used as asked.
    Refused = 4,
    /// The mount is in use.
    Busy = 5,
}

impl ErrorClass {
    /// Returns the class for an exit code; unknown ones are plain failures.
    pub fn of_code(code: u8) -> Self {
        [Self::Usage, Self::Unsupported, Self::Refused, Self::Busy]
            .into_iter()
            .find(|it| *it as u8 == code)
            .unwrap_or(Self::Failure)
    }
}

impl MountErrorKind {
    /// Returns what kind of trouble this is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoBranches | Self::TooManyBranches { .. } | Self::RemountCannot { .. } => ErrorClass::Usage,
            Self::NoKernelAufs | Self::KernelAufsCannot { .. } | Self::NoFuse(_) | Self::NoServer => {
                ErrorClass::Unsupported
            }
            Self::Missing
            | Self::NotDirectory
            | Self::Inaccessible(_)
            | Self::DeadMount
            | Self::Twice { .. }
            | Self::Nested { .. }
            | Self::InsideBranch { .. }
            | Self::AroundBranch { .. }
            | Self::NotWritable(_)
            | Self::WorkdirElsewhere { .. }
            | Self::NotServed { .. }
            | Self::Speechless
            | Self::NotMounted => ErrorClass::Refused,
            Self::Busy => ErrorClass::Busy,
            Self::Served { class, .. } => *class,
            Self::KernelMount { .. }
            | Self::Server { .. }
            | Self::ServerDied { .. }
            | Self::ServerLingers { .. }
            | Self::Call { .. }
            | Self::Fusermount { .. } => ErrorClass::Failure,
        }
    }

    /// Returns the errno behind the error, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Inaccessible(errno)
            | Self::NotWritable(errno)
            | Self::NoFuse(errno)
            | Self::KernelMount { errno, .. }
            | Self::Call { errno, .. } => Some(*errno),
            Self::Missing => Some(Errno::ENOENT),
            Self::NotDirectory => Some(Errno::ENOTDIR),
            Self::DeadMount => Some(Errno::ENOTCONN),
            Self::Busy => Some(Errno::EBUSY),
            Self::NotMounted | Self::NotServed { .. } | Self::Speechless => Some(Errno::EINVAL),
            Self::Server { error, .. } => error.raw_os_error().map(Errno::from_raw),
            Self::Served { errno, .. } => errno.map(Errno::from_raw),
            _ => None,
        }
    }

    /// Adds what was being done, and to which path.
    pub fn during(self, op: &'static str, path: &Path) -> MountError {
        MountError { op, path: path.to_owned(), kind: self }
    }
}
