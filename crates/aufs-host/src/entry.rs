//! One host file, named by a directory handle and a name, or held by a descriptor.
//!
//! Every operation works on the entry itself: a symbolic link is never
//! followed. Where Linux has no such call for a held `O_PATH` descriptor, the
//! entry is reached through `/proc/self/fd`, which leads to the very inode.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Statx, StatxAttributes, StatxFlags, Timespec,
    Timestamps, Uid,
};
use rustix::io::{self, Errno};

use crate::chmod;
use crate::errno::errno_of;

/// A host file; see the module.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// The entry `name` of a directory.
    At(BorrowedFd<'a>, &'a OsStr),
    /// The file an `O_PATH` descriptor, or any other, was opened on.
    Held(BorrowedFd<'a>),
    /// The file an ordinary descriptor was opened on, which needs no way over `/proc`.
    Open(BorrowedFd<'a>),
}

/// What is to be known before an entry is removed or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removability {
    /// Whether the host protects the file by the immutable or append-only flag.
    pub is_immutable: bool,
    /// Number of its names.
    pub nlink: u32,
}

/// Flags of every handle on a directory, but for how it is opened.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the subdirectory `name` of `parent` as a handle, with which it can be read too where that is allowed.
///
/// # Errors
///
/// `ENOENT`; `ENOTDIR` or `ELOOP` when it is no directory; else what `openat(2)` reports.
pub fn open_directory(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    match fs::openat(&parent, name, DIRECTORY | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => fs::openat(parent, name, DIRECTORY | OFlags::PATH, Mode::empty()),
        other => other,
    }
}

/// Returns the path under which this process reaches what `fd` holds.
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl Entry<'_> {
    /// Returns the attributes, as `fstatat(2)` without following.
    ///
    /// # Errors
    ///
    /// What `newfstatat(2)` reports; `ENOENT` when the name is gone.
    pub fn stat(&self) -> io::Result<Stat> {
        match *self {
            Self::At(dir, name) => fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
            Self::Held(fd) | Self::Open(fd) => fs::fstat(fd),
        }
    }

    /// Sets the length of a regular file in bytes; where there is a descriptor, it must be open for writing.
    ///
    /// # Errors
    ///
    /// What `openat(2)` and `ftruncate(2)` report; `ETXTBSY` while the file is executed.
    pub fn truncate(&self, len_bytes: u64) -> io::Result<()> {
        match *self {
            Self::Open(fd) => fs::ftruncate(fd, len_bytes),
            Self::At(..) | Self::Held(_) => {
                fs::ftruncate(self.open(OFlags::WRONLY | OFlags::NONBLOCK)?, len_bytes)
            }
        }
    }

    /// Opens the file; `O_NOFOLLOW` and `O_CLOEXEC` are added.
    ///
    /// # Errors
    ///
    /// What `openat(2)` reports; `ELOOP` on a symbolic link unless `O_PATH` is given.
    pub fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC;
        match *self {
            Self::At(dir, name) => fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()),
            Self::Held(fd) | Self::Open(fd) if flags.contains(OFlags::PATH) => {
                fd.try_clone_to_owned().map_err(errno_of)
            }
            Self::Held(fd) | Self::Open(fd) => fs::open(proc_path(fd), flags, Mode::empty()),
        }
        .map(File::from)
    }

    /// Sets owner and group; `None` leaves one alone.
    ///
    /// # Errors
    ///
    /// What `fchownat(2)` reports; `EPERM` without the right, `EINVAL` for an id the namespace does not map.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match *self {
            Self::At(dir, name) => fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
            Self::Open(fd) => fs::fchown(fd, uid, gid),
            Self::Held(fd) => fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Sets the twelve permission bits.
    ///
    /// # Errors
    ///
    /// What `chmod(2)` reports; `EOPNOTSUPP` on a symbolic link.
    pub fn chmod(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let is_done = match *self {
            Self::Open(_) => false,
            Self::At(dir, name) => chmod::without_following(dir, name, mode.as_raw_mode())?,
            Self::Held(fd) => chmod::without_following(fd, OsStr::new(""), mode.as_raw_mode())?,
        };
        if is_done {
            return Ok(());
        }
        match *self {
            Self::Open(fd) => fs::fchmod(fd, mode),
            // fchmodat(2) follows links, so the file is pinned down first.
            Self::At(..) => Entry::Held(self.open(OFlags::PATH)?.as_fd()).chmod(mode.as_raw_mode()),
            Self::Held(fd) => {
                if FileType::from_raw_mode(self.stat()?.st_mode) == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                fs::chmod(proc_path(fd), mode)
            }
        }
    }

    /// Sets access and modification time.
    ///
    /// # Errors
    ///
    /// What `utimensat(2)` reports.
    pub fn set_times(&self, times: &Timestamps) -> io::Result<()> {
        match *self {
            Self::At(dir, name) => fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW),
            Self::Open(fd) => fs::futimens(fd, times),
            Self::Held(fd) => fs::utimensat(fs::CWD, proc_path(fd), times, AtFlags::empty()),
        }
    }

    /// Returns the time the file came to be, none where its file system does not know.
    ///
    /// # Errors
    ///
    /// What `statx(2)` reports.
    pub fn birth_time(&self) -> io::Result<Option<Timespec>> {
        let statx = self.statx(StatxFlags::BTIME)?;
        let time = statx.stx_btime;
        let is_known = StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::BTIME);
        Ok(is_known.then(|| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() }))
    }

    /// Returns what the host knows about removing the entry, in one call.
    ///
    /// # Errors
    ///
    /// What `statx(2)` reports.
    pub fn removability(&self) -> io::Result<Removability> {
        let statx = self.statx(StatxFlags::TYPE | StatxFlags::NLINK)?;
        let is_immutable =
            statx.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND);
        Ok(Removability { is_immutable, nlink: statx.stx_nlink })
    }

    fn statx(&self, wanted: StatxFlags) -> io::Result<Statx> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match *self {
            Self::At(dir, name) => fs::statx(dir, name, flags, wanted),
            Self::Held(fd) | Self::Open(fd) => fs::statx(fd, "", flags | AtFlags::EMPTY_PATH, wanted),
        }
    }

    /// Reads the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is none; else what `readlinkat(2)` reports.
    pub fn read_link(&self) -> io::Result<OsString> {
        let target = match *self {
            Self::At(dir, name) => fs::readlinkat(dir, name, Vec::new())?,
            Self::Held(fd) | Self::Open(fd) => fs::readlinkat(fd, "", Vec::new())?,
        };
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Gives the file one more name, `name` in `target`.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `EMLINK`; else what `linkat(2)` reports.
    pub fn link(&self, target: impl AsFd, name: &OsStr) -> io::Result<()> {
        match *self {
            Self::At(dir, old) => fs::linkat(dir, old, target, name, AtFlags::empty()),
            // AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH, the way over /proc does not.
            Self::Held(fd) | Self::Open(fd) => match fs::linkat(fd, "", &target, name, AtFlags::EMPTY_PATH) {
                Err(Errno::NOENT | Errno::PERM) => {
                    fs::linkat(fs::CWD, proc_path(fd), &target, name, AtFlags::SYMLINK_FOLLOW)
                }
                other => other,
            },
        }
    }

    /// Returns how the calls for extended attributes reach the file.
    pub(crate) fn reach(&self) -> Result<Reach<'_>, Errno> {
        let (bytes, follow) = match *self {
            Self::Open(fd) => return Ok(Reach::Descriptor(fd)),
            Self::At(dir, name) => {
                let mut bytes = proc_path(dir).into_bytes();
                bytes.push(b'/');
                bytes.extend_from_slice(name.as_bytes());
                (bytes, false)
            }
            Self::Held(fd) => (proc_path(fd).into_bytes(), true),
        };
        let path = CString::new(bytes).map_err(|_| Errno::INVAL)?;
        Ok(if follow { Reach::Followed(path) } else { Reach::Unfollowed(path) })
    }
}

/// A file as calls want it that know no directory handles.
pub(crate) enum Reach<'a> {
    /// By an ordinary descriptor.
    Descriptor(BorrowedFd<'a>),
    /// By a path through `/proc`, which itself is a link to follow.
    Followed(CString),
    /// By a path whose last part must not be followed.
    Unfollowed(CString),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn nothing_follows_a_symbolic_link() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), scratch.path().join("link")).unwrap();
        let dir = fs::open(scratch.path(), DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
        let link = Entry::At(dir.as_fd(), OsStr::new("link"));
        let held = link.open(OFlags::PATH).unwrap();
        for entry in [link, Entry::Held(held.as_fd())] {
            assert_eq!(FileType::from_raw_mode(entry.stat().unwrap().st_mode), FileType::Symlink);
            assert_eq!(entry.read_link().unwrap(), outside.path());
            assert_eq!(entry.chmod(0o777).unwrap_err(), Errno::OPNOTSUPP);
        }
        assert_eq!(link.open(OFlags::RDWR).unwrap_err(), Errno::LOOP);
        assert_eq!(outside.as_file().metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_held_file_is_reached_after_its_name_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        let dir = fs::open(scratch.path(), DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
        let held = Entry::At(dir.as_fd(), OsStr::new("file")).open(OFlags::PATH).unwrap();
        std::fs::remove_file(scratch.path().join("file")).unwrap();
        let entry = Entry::Held(held.as_fd());
        entry.chmod(0o640).unwrap();
        assert_eq!(entry.stat().unwrap().st_mode & 0o7777, 0o640);
        assert_eq!(entry.open(OFlags::RDONLY).unwrap().metadata().unwrap().len(), 1);
    }
}
