//! What every container finds in its tree, whatever the image has: mount points, and files that the host fills in.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use aufs_union::attr::Creator;
use aufs_union::{New, Node, Union, UnionError};
use rustix::fs::FileType;
use rustix::process::{getegid, geteuid};

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

/// Permission bits of what is made, as Docker's daemon makes it.
const MODE: u32 = 0o755;

/// Fills the union of a layer and the image; what is there already stays as it is.
///
/// The tree is the image's, so nothing is followed: a symbolic link or a file in the place of a directory goes.
pub(super) fn fill(union: &Union) -> Result<(), UnionError> {
    for (path, kind) in ENTRIES {
        let path = Path::new(path);
        let mut dir = Arc::clone(union.root());
        for component in path.parent().into_iter().flat_map(Path::iter) {
            dir = make(union, &dir, component, Kind::Directory)?;
        }
        if let Some(name) = path.file_name() {
            make(union, &dir, name, kind)?;
        }
    }
    Ok(())
}

/// Returns what is under a name, and makes it unless it can be used as it is.
fn make(union: &Union, dir: &Arc<Node>, name: &OsStr, kind: Kind) -> Result<Arc<Node>, UnionError> {
    if let Some(found) = union.lookup(dir, name)? {
        match (found.node.file_type(), kind) {
            // An image may bring files of these names; only what cannot be used as wanted is replaced.
            (FileType::Directory, _) | (_, Kind::Symlink(_)) | (FileType::RegularFile, Kind::File) => {
                return Ok(found.node);
            }
            (_, Kind::File | Kind::Directory) => union.unlink(dir, name)?,
        }
    }
    let creator = Creator { uid: geteuid().as_raw(), gid: getegid().as_raw(), umask: 0 };
    let made = match kind {
        Kind::Directory => union.create_special(dir, name, New::Directory(MODE), creator)?,
        Kind::Symlink(target) => {
            union.create_special(dir, name, New::Symlink(OsStr::new(target)), creator)?
        }
        Kind::File => union.create(dir, name, MODE, creator)?.0,
    };
    Ok(made.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use aufs_union::UnionOptions;
    use aufs_union::branch::{BranchPerm, BranchSpec};

    use crate::unmounted::with_union;

    #[test]
    fn nothing_of_the_image_leads_out() {
        let scratch = tempfile::tempdir().unwrap();
        let [own, image, outside] = ["own", "image", "outside"].map(|it| scratch.path().join(it));
        for dir in [&own, &image, &outside] {
            fs::create_dir(dir).unwrap();
        }
        symlink(&outside, image.join("etc")).unwrap();
        fs::write(image.join("dev"), "a file").unwrap();
        fs::create_dir(image.join("proc")).unwrap();
        fs::set_permissions(image.join("proc"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(image.join("proc/kept"), "").unwrap();
        fs::create_dir(image.join("sys")).unwrap();
        let perm = BranchPerm::ReadOnly { whiteouts: true };
        let stack = vec![
            BranchSpec { path: own.clone(), perm: BranchPerm::ReadWrite },
            BranchSpec { path: image.clone(), perm },
        ];
        for _ in 0..2 {
            let options = UnionOptions { stack: stack.clone(), ..UnionOptions::default() };
            with_union(&options, fill).unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let mode = |path: &str| fs::metadata(own.join(path)).unwrap().permissions().mode() & 0o7777;
        assert!(own.join("etc/hosts").is_file() && own.join("dev/pts").is_dir());
        assert_eq!((mode("etc"), mode("etc/hosts"), mode("dev/shm")), (0o755, 0o755, 0o755));
        assert!(!own.join("proc").exists() && !own.join("sys").exists(), "what the image has is not copied");
        assert_eq!(fs::read_link(own.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    }
}
