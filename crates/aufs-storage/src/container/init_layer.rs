//! What every container finds in its tree, whatever the image has: mount points, and files that the host fills in.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aufs_host::entry::open_directory;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// What is made.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Directory,
    File,
    Symlink(&'static str),
}

/// Source: moby's `daemon/initlayer/setup_unix.go`.
const ENTRIES: [(&str, Kind); 10] = [
    ("dev/pts", Kind::Directory),
    ("dev/shm", Kind::Directory),
    ("proc", Kind::Directory),
    ("sys", Kind::Directory),
    (".dockerenv", Kind::File),
    ("etc/resolv.conf", Kind::File),
    ("etc/hosts", Kind::File),
    ("etc/hostname", Kind::File),
    ("dev/console", Kind::File),
    ("etc/mtab", Kind::Symlink("/proc/mounts")),
];

/// Fills a tree; what is there already stays as it is.
///
/// The tree is the image's, so nothing is followed: a symbolic link or a file in the place of a directory goes.
pub(super) fn fill(root: BorrowedFd<'_>) -> Result<(), Errno> {
    for (path, kind) in ENTRIES {
        let path = Path::new(path);
        let mut dir = open_directory(root, OsStr::new("."))?;
        for component in path.parent().into_iter().flat_map(Path::iter) {
            dir = enter(&dir, component)?;
        }
        if let Some(name) = path.file_name() {
            make(&dir, name, kind)?;
        }
    }
    Ok(())
}

fn enter(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    make(dir, name, Kind::Directory)?;
    open_directory(dir.as_fd(), name)
}

fn make(dir: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    let found = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => None,
        other => Some(FileType::from_raw_mode(other?.st_mode)),
    };
    match (found, kind) {
        // An image may bring files of these names; only what cannot be used as wanted is replaced.
        (Some(FileType::Directory), _) | (Some(_), Kind::Symlink(_)) => return Ok(()),
        (Some(FileType::RegularFile), Kind::File) => return Ok(()),
        (Some(_), Kind::File | Kind::Directory) => rustix::fs::unlinkat(dir, name, AtFlags::empty())?,
        (None, _) => {}
    }
    match kind {
        Kind::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::Symlink(target) => rustix::fs::symlinkat(target, dir, name),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o755)).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_of_the_image_leads_out() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
        for dir in [&root, &outside] {
            fs::create_dir(dir).unwrap();
        }
        symlink(&outside, root.join("etc")).unwrap();
        fs::write(root.join("dev"), "a file").unwrap();
        fs::create_dir(root.join("proc")).unwrap();
        fs::write(root.join("proc/kept"), "").unwrap();
        let dir = File::open(&root).unwrap();
        fill(dir.as_fd()).unwrap();
        fill(dir.as_fd()).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(
            root.join("etc/hosts").is_file()
                && root.join("dev/pts").is_dir()
                && root.join("proc/kept").exists()
        );
        assert_eq!(fs::read_link(root.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    }
}
