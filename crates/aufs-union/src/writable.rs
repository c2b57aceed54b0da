//! The writable branch: its bookkeeping entries, its lock, and where drafts are built.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_host::draft::read_names;
use aufs_host::entry::Entry;
use aufs_host::privilege;
use aufs_host::remove::remove_tree;
use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{self, Errno};
use tracing::warn;

use crate::branch::BranchIndex;
use crate::error::UnionErrorKind;
use crate::marker;
use crate::names::{DRAFTS, ORPHANS, PSEUDO_LINKS, WHITEOUT_BASE};

/// Why branches cannot be shown as a union.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenUnionError {
    /// The stack is empty.
    #[error("a union needs at least one branch")]
    NoBranches,
    /// The process may not open enough files for so many branches.
    #[error(
        "{branches} branches need a limit of at least {needed} open files, not {limit}; raise it (ulimit -n)"
    )]
    TooManyBranches {
        /// How many there are.
        branches: usize,
        /// The limit they need (`RLIMIT_NOFILE`).
        needed: usize,
        /// The limit there is.
        limit: usize,
    },
    /// A branch cannot be opened.
    #[error("cannot open branch {path}: {errno}", path = path.display())]
    Branch {
        /// The branch.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Two branches are one directory, under two paths or one.
    #[error("{path} is the same directory as branch {other}", path = path.display(), other = other.display())]
    Twice {
        /// The path.
        path: PathBuf,
        /// The branch.
        other: PathBuf,
    },
    /// Reading a branch's root failed.
    #[error("cannot read the root of a branch: {0}")]
    Marker(Errno),
    /// The writable branch cannot be prepared.
    #[error("cannot write to branch {path}: {errno}{remedy}", path = path.display())]
    Writable {
        /// The branch, or the work directory.
        path: PathBuf,
        /// Why.
        errno: Errno,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Names of copied-up files that a killed union left apart cannot be brought together.
    #[error("cannot complete hard links that another mount left in .wh..wh.plnk of the rw branch: {0}")]
    PseudoLinks(UnionErrorKind),
    /// Something else lies where the writable branch has its bookkeeping; links are not followed.
    #[error("cannot use {path} of the rw branch: it is no {wanted}; remove it", path = path.display())]
    Bookkeeping {
        /// What lies there.
        path: PathBuf,
        /// What should.
        wanted: &'static str,
    },
    /// Another union writes there.
    #[error("branch {path} is in use by another mount; unmount that first", path = path.display())]
    InUse {
        /// The branch.
        path: PathBuf,
    },
    /// Drafts and branch lie on different file systems.
    #[error("workdir {workdir} is not on the file system of {branch}", workdir = workdir.display(), branch = branch.display())]
    WorkdirElsewhere {
        /// The work directory.
        workdir: PathBuf,
        /// The writable branch.
        branch: PathBuf,
    },
}

impl OpenUnionError {
    /// Returns the errno a mount call reports.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoBranches
            | Self::Twice { .. }
            | Self::WorkdirElsewhere { .. }
            | Self::Bookkeeping { .. } => Errno::INVAL,
            Self::Branch { errno, .. } | Self::Marker(errno) | Self::Writable { errno, .. } => *errno,
            Self::TooManyBranches { .. } => Errno::MFILE,
            Self::InUse { .. } => Errno::BUSY,
            Self::PseudoLinks(kind) => kind.errno(),
        }
    }
}

/// The branch that takes all changes.
#[derive(Debug)]
pub(crate) struct Writable {
    pub(crate) index: BranchIndex,
    /// Where drafts are built.
    pub(crate) drafts: OwnedFd,
    /// Where the copies of files have one more name, whose other names lie below.
    pub(crate) pseudo_links: OwnedFd,
    /// Whether attributes only the host's root may set must be kept.
    pub(crate) keeps_all_xattrs: bool,
    /// Locked while the union is open; one union at a time writes to a branch.
    _lock: File,
}

impl Writable {
    /// Makes the bookkeeping entries kernel aufs has too, and clears drafts of a crash.
    pub(crate) fn prepare(
        path: &Path,
        root: &Arc<OwnedFd>,
        index: BranchIndex,
        workdir: Option<&Path>,
    ) -> Result<Self, OpenUnionError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |errno| OpenUnionError::Writable { path, errno, remedy: remedy_for(errno) }
        };
        check_bookkeeping(path, root)?;
        // The lock comes before any change, since another union may be at work.
        make_directory(root, DRAFTS).map_err(fail(path))?;
        let inside = open_readable(root.as_fd(), DRAFTS).map_err(fail(path))?;
        let lock = File::from(inside.try_clone().map_err(|_| Errno::MFILE).map_err(fail(path))?);
        match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(OpenUnionError::InUse { path: path.to_owned() }),
            other => other.map_err(fail(path))?,
        }
        for name in [PSEUDO_LINKS, ORPHANS] {
            make_directory(root, name).map_err(fail(path))?;
        }
        let pseudo_links = open_readable(root.as_fd(), PSEUDO_LINKS).map_err(fail(path))?;
        marker::make_base(root).map_err(fail(path))?;
        let drafts = match workdir {
            None => inside,
            Some(workdir) => open_workdir(workdir, root, path)?,
        };
        clear(&drafts).map_err(fail(path))?;
        Ok(Self { index, drafts, pseudo_links, keeps_all_xattrs: privilege::is_host_root(), _lock: lock })
    }
}

impl Drop for Writable {
    /// Removes what only lived as long as the union: hidden names of files whose own are gone.
    fn drop(&mut self) {
        let removed = read_names(&self.drafts)
            .and_then(|names| names.iter().try_for_each(|name| remove_tree(&self.drafts, name)));
        if let Err(errno) = removed {
            warn!(%errno, "drafts stay behind until the next mount");
        }
    }
}

fn remedy_for(errno: Errno) -> &'static str {
    match errno {
        Errno::ROFS => "; mark it ro, or use a branch on a writable file system",
        Errno::NOSPC | Errno::DQUOT => "; free some space, mounting needs a few inodes",
        Errno::ACCESS | Errno::PERM => "; its directory must be writable for the mounting user",
        _ => "",
    }
}

/// Refuses to work with names of ours that are something else, before anything is changed.
fn check_bookkeeping(path: &Path, root: &OwnedFd) -> Result<(), OpenUnionError> {
    let (directory, file) = ((FileType::Directory, "directory"), (FileType::RegularFile, "regular file"));
    let names = [(DRAFTS, directory), (PSEUDO_LINKS, directory), (ORPHANS, directory), (WHITEOUT_BASE, file)];
    for (name, (file_type, wanted)) in names {
        match Entry::At(root.as_fd(), OsStr::new(name)).stat() {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != file_type => {
                return Err(OpenUnionError::Bookkeeping { path: path.join(name), wanted });
            }
            Ok(_) | Err(Errno::NOENT) => (),
            Err(errno) => {
                let remedy = remedy_for(errno);
                return Err(OpenUnionError::Writable { path: path.join(name), errno, remedy });
            }
        }
    }
    Ok(())
}

fn make_directory(root: &OwnedFd, name: &str) -> io::Result<()> {
    match fs::mkdirat(root, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn open_readable(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

fn open_workdir(workdir: &Path, root: &OwnedFd, branch: &Path) -> Result<OwnedFd, OpenUnionError> {
    let fail =
        |errno| OpenUnionError::Writable { path: workdir.to_owned(), errno, remedy: remedy_for(errno) };
    let dir = aufs_host::pin::open_plain(workdir).map_err(fail)?;
    make_directory(&dir, DRAFTS).map_err(fail)?;
    let drafts = open_readable(dir.as_fd(), DRAFTS).map_err(fail)?;
    let (inside, outside) = (fs::fstat(&drafts).map_err(fail)?, fs::fstat(root).map_err(fail)?);
    if inside.st_dev != outside.st_dev {
        return Err(OpenUnionError::WorkdirElsewhere {
            workdir: workdir.to_owned(),
            branch: branch.to_owned(),
        });
    }
    Ok(drafts)
}

fn clear(drafts: &OwnedFd) -> io::Result<()> {
    for name in read_names(drafts)? {
        warn!(name = ?name, "removing a draft that a crash left behind");
        remove_tree(drafts, &name)?;
    }
    Ok(())
}
