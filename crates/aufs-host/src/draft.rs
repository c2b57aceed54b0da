//! Entries being built out of sight, and the one step that makes each visible.
//!
//! Drafts lie in a directory of their own on the file system of their target,
//! so that a crash leaves nothing but drafts, and none where users look.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{self, Errno};
use tracing::warn;

use crate::entry::{Entry, open_directory};
use crate::errno::errno_of;
use crate::listing;
use crate::remove::remove_tree;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Permission bits a draft starts with: not those that chown and writing clear.
const KEPT_BITS: u32 = 0o1777;

/// An unfinished entry; removed unless published.
#[derive(Debug)]
pub struct Draft<'a> {
    dir: BorrowedFd<'a>,
    kind: Kind,
    published: bool,
}

#[derive(Debug)]
enum Kind {
    /// Without any name: the kernel forgets it when the descriptor is closed.
    Nameless(File),
    /// A regular file under a name, where the file system has no `O_TMPFILE`.
    NamedFile(File, OsString),
    /// Anything but a regular file.
    Named(OsString),
}

/// What a draft is to become, for entries that are no regular files.
#[derive(Debug, Clone, Copy)]
pub enum Special<'a> {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(&'a OsStr),
    /// A device, FIFO or socket of this type and device number.
    Node(FileType, u64),
}

impl<'a> Draft<'a> {
    /// Starts a regular file, empty, with these permission bits unless the file system has its own view.
    ///
    /// # Errors
    ///
    /// What `openat(2)` reports; `ENOSPC` and `EROFS` are the usual ones.
    pub fn file(dir: BorrowedFd<'a>, mode: u32) -> io::Result<Self> {
        let mode = mode & KEPT_BITS;
        let kind = if let Some(file) = nameless_file(dir, mode)? {
            Kind::Nameless(file)
        } else {
            let name = fresh_name();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            Kind::NamedFile(File::from(fs::openat(dir, &name, flags, Mode::from_raw_mode(mode))?), name)
        };
        Ok(Self { dir, kind, published: false })
    }

    /// As [`Draft::file`], for an entry that is no regular file.
    ///
    /// # Errors
    ///
    /// What `mkdirat(2)`, `symlinkat(2)`, `mknodat(2)` report; `EPERM` for devices without privilege.
    pub fn special(dir: BorrowedFd<'a>, what: Special<'_>, mode: u32) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(mode & KEPT_BITS);
        let name = fresh_name();
        match what {
            Special::Directory => fs::mkdirat(dir, &name, mode)?,
            Special::Symlink(target) => fs::symlinkat(target, dir, &name)?,
            Special::Node(file_type, device) => fs::mknodat(dir, &name, file_type, mode, device)?,
        }
        Ok(Self { dir, kind: Kind::Named(name), published: false })
    }

    /// Returns the draft as an entry, to give it its attributes.
    pub fn entry(&self) -> Entry<'_> {
        match &self.kind {
            Kind::Nameless(file) | Kind::NamedFile(file, _) => Entry::Open(file.as_fd()),
            Kind::Named(name) => Entry::At(self.dir, name),
        }
    }

    /// Returns the open file of a regular-file draft.
    pub fn as_file(&self) -> Option<&File> {
        match &self.kind {
            Kind::Nameless(file) | Kind::NamedFile(file, _) => Some(file),
            Kind::Named(_) => None,
        }
    }

    /// Opens a directory draft.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` when it is none; else what `openat(2)` reports.
    pub fn open_directory(&self) -> io::Result<OwnedFd> {
        match &self.kind {
            Kind::Named(name) => open_directory(self.dir, name),
            Kind::Nameless(_) | Kind::NamedFile(..) => Err(Errno::NOTDIR),
        }
    }

    /// Gives the draft its final name in one step; it must be free.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the name is taken; else what `linkat(2)` or `renameat2(2)` report.
    pub fn publish(&mut self, parent: impl AsFd, name: &OsStr) -> io::Result<()> {
        match &self.kind {
            Kind::Nameless(file) => Entry::Open(file.as_fd()).link(parent, name)?,
            Kind::NamedFile(_, draft) | Kind::Named(draft) => {
                fs::renameat_with(self.dir, draft, parent, name, RenameFlags::NOREPLACE)?;
            }
        }
        self.published = true;
        Ok(())
    }

    /// As [`Draft::publish`], in the place of what has the name, unless that is a directory.
    ///
    /// # Errors
    ///
    /// `EISDIR`; else what `linkat(2)` or `renameat2(2)` report. What had the name still has it then.
    pub fn replace(&mut self, parent: impl AsFd, name: &OsStr) -> io::Result<()> {
        match self.publish(&parent, name) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
        // A link does not take the place of another; a name beside it does.
        let beside = name_beside();
        self.publish(&parent, &beside)?;
        take_over(parent, &beside, name)
    }

    /// Returns the open file of a regular-file draft that was published; none of others.
    pub fn into_published(mut self) -> Option<File> {
        if !self.published {
            return None;
        }
        match std::mem::replace(&mut self.kind, Kind::Named(OsString::new())) {
            Kind::Nameless(file) | Kind::NamedFile(file, _) => Some(file),
            Kind::Named(_) => None,
        }
    }

    /// Opens the draft, to be kept when it and its name, if it has one, are gone; but for regular files as `O_PATH`.
    ///
    /// # Errors
    ///
    /// What `dup(2)` or `openat(2)` report.
    pub fn keep(&self) -> io::Result<OwnedFd> {
        match &self.kind {
            Kind::Nameless(file) | Kind::NamedFile(file, _) => {
                file.try_clone().map(OwnedFd::from).map_err(errno_of)
            }
            Kind::Named(name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fs::openat(self.dir, name, flags, Mode::empty())
            }
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let removed = match &self.kind {
            Kind::Nameless(_) => Ok(()),
            Kind::NamedFile(_, name) => fs::unlinkat(self.dir, name, AtFlags::empty()),
            Kind::Named(name) => remove_tree(self.dir, name),
        };
        if let Err(errno) = removed {
            warn!(%errno, "an abandoned draft stays behind until the next mount");
        }
    }
}

/// Creates a file in `dir` that has no name, open for reading and writing; none where there are no such files.
///
/// # Errors
///
/// What `openat(2)` reports otherwise.
pub fn nameless_file(dir: impl AsFd, mode: u32) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match fs::openat(dir, ".", flags, Mode::from_raw_mode(mode)) {
        Ok(fd) => Ok(Some(File::from(fd))),
        // So answer file systems, and kernels, that do not know the flag.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns a name no other draft of this process has.
pub fn fresh_name() -> OsString {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    OsString::from(format!("{}.{number}", rustix::process::getpid()))
}

/// Returns a name for what stands where others look until it takes its own by [`take_over`].
pub fn name_beside() -> OsString {
    OsString::from_iter([OsStr::new(".aufs-"), &fresh_name()])
}

/// Gives the entry `beside` of `dir` the name of another entry there, which goes; after an error `beside` goes.
///
/// # Errors
///
/// `EISDIR` for a directory; else what `renameat2(2)` and `unlinkat(2)` report.
pub fn take_over(dir: impl AsFd, beside: &OsStr, name: &OsStr) -> io::Result<()> {
    let renamed = fs::renameat(&dir, beside, &dir, name);
    // Where both are names of one file, rename(2) succeeds and leaves them.
    match fs::unlinkat(&dir, beside, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => renamed,
        Err(errno) => renamed.and(Err(errno)),
    }
}

/// Returns the process that gave a draft this name, if it is one of [`fresh_name`].
pub fn owner_of(name: &OsStr) -> Option<i32> {
    let (pid, number) = name.to_str()?.split_once('.')?;
    number.parse::<u64>().ok().and(pid.parse().ok())
}

/// Whether there is a process of this id, so that its drafts may still be written to.
pub fn is_alive(pid: i32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

/// Lists the names in `dir` without `.` and `..`; threads may share the handle, and it may be an `O_PATH` one.
///
/// # Errors
///
/// What `openat(2)` and `getdents64(2)` report.
pub fn read_names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    // A handle has one position for all who read it.
    let own = fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    listing::visit(own, true, |entry| names.push(entry.name.to_owned()))?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_share_a_handle_all_read_every_name() {
        let scratch = tempfile::tempdir().unwrap();
        for at in 0..500 {
            File::create(scratch.path().join(format!("a-name-of-some-length-{at}"))).unwrap();
        }
        let shared = File::open(scratch.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| assert_eq!(read_names(&shared).unwrap().len(), 500)));
            }
        });
    }
}
