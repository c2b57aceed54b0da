//! Finds the two ends of a copy, by handles beneath the root they are asked for in.
//!
//! A container's tree is hostile: its links lead where they would lead a program in it, whoever changes
//! them meanwhile, since the kernel resolves every path beneath the handle on its root.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use aufs_host::entry::Entry;
use rustix::fs::{FileType, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::copy_rules::{Asked, CopyFault, Found, Source};
use super::error::ContainerErrorKind;
use crate::archive::{Form, Ground, join_bytes, open_in_root, split};
use crate::error::failed;

/// As the kernel's `MAXSYMLINKS`.
const LINKS_MAX: u32 = 40;

/// Opens what is to be copied; a link in its last name is followed only where that is asked for.
pub(super) fn open_source(
    root: BorrowedFd<'_>,
    asked: &Asked<'_>,
    is_followed: bool,
) -> Result<(OwnedFd, Source), ContainerErrorKind> {
    let follow = if is_followed || asked.is_directory { OFlags::empty() } else { OFlags::NOFOLLOW };
    let shown = || asked.shown.to_owned();
    let handle = match open(root, &asked.path, OFlags::PATH | follow) {
        Err(Errno::NOENT) => return Err(CopyFault::NoSource(shown()).into()),
        Err(Errno::NOTDIR) => return Err(CopyFault::NotDirectory(shown()).into()),
        other => other.map_err(failed("open", asked.shown))?,
    };
    let source = match (type_of(Entry::Held(handle.as_fd()), asked)?, asked.is_content) {
        (FileType::Directory, true) => Source::Content,
        (FileType::Directory, false) => Source::Directory,
        _ if asked.is_directory => return Err(CopyFault::NotDirectory(shown()).into()),
        _ => Source::File,
    };
    Ok((handle, source))
}

/// Where a copy goes.
pub(super) struct Destination {
    pub(super) found: Found,
    /// The directory that was found, or the one that has or gets the name.
    directory: OwnedFd,
    /// Its path from the root.
    path: Vec<u8>,
    /// The name, unless it is the directory itself that was found.
    pub(super) name: Vec<u8>,
}

impl Destination {
    /// Finds what is at a path, whose last name may be a link to it.
    pub(super) fn find(root: BorrowedFd<'_>, asked: &Asked<'_>) -> Result<Self, ContainerErrorKind> {
        let shown = || asked.shown.to_owned();
        let mut path = asked.path.clone();
        for _ in 0..LINKS_MAX {
            match open(root, &path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(directory) => {
                    return Self::writable(Found::Directory, directory, (path, Vec::new()), asked);
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(failed("open", asked.shown)(errno).into()),
            }
            let (dir, name) = split(&path);
            let directory = match open(root, dir, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => return Err(CopyFault::NoParent(shown()).into()),
                Err(Errno::NOTDIR) => return Err(CopyFault::NotDirectory(shown()).into()),
                other => other.map_err(failed("open", asked.shown))?,
            };
            if matches!(name, b"" | b"." | b"..") {
                return Err(CopyFault::NoParent(shown()).into());
            }
            let entry = Entry::At(directory.as_fd(), OsStr::from_bytes(name));
            let found = match entry.stat().map(|it| FileType::from_raw_mode(it.st_mode)) {
                Err(Errno::NOENT) => Found::Missing,
                Ok(FileType::RegularFile) => Found::File,
                Ok(FileType::Symlink) => {
                    let target = entry.read_link().map_err(failed("readlink", asked.shown))?;
                    path = match target.as_bytes().strip_prefix(b"/") {
                        Some(target) => target.to_vec(),
                        None => join_bytes(dir, target.as_bytes()).into_encoded_bytes(),
                    };
                    continue;
                }
                // A directory has come since it was looked for.
                Ok(FileType::Directory) => continue,
                Ok(_) => return Err(CopyFault::OntoSpecial(shown()).into()),
                Err(errno) => return Err(failed("stat", asked.shown)(errno).into()),
            };
            return Self::writable(found, directory, (dir.to_vec(), name.to_vec()), asked);
        }
        Err(failed("open", asked.shown)(Errno::LOOP).into())
    }

    fn writable(
        found: Found,
        directory: OwnedFd,
        (path, name): (Vec<u8>, Vec<u8>),
        asked: &Asked<'_>,
    ) -> Result<Self, ContainerErrorKind> {
        let stat = rustix::fs::fstatvfs(&directory).map_err(failed("statvfs", asked.shown))?;
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(CopyFault::ReadOnly(asked.shown.to_owned()).into());
        }
        Ok(Self { found, directory, path, name })
    }

    /// The directory, to be unpacked into.
    pub(super) fn ground<'a>(&'a self, root: BorrowedFd<'a>) -> Ground<'a> {
        Ground { root, base: self.directory.as_fd(), path: &self.path, form: Form::Tree }
    }
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open_in_root(root, OsStr::from_bytes(path), flags, Form::Tree)
}

fn type_of(entry: Entry<'_>, asked: &Asked<'_>) -> Result<FileType, ContainerErrorKind> {
    let stat = entry.stat().map_err(failed("stat", asked.shown))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}
