//! Trees far deeper than any path: nothing may need stack, or descriptors, for each level.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use aufs_union::attr::Creator;
use aufs_union::{Keep, New, RenameMode, Union};
use rustix::fs::{self, AtFlags, Mode, OFlags};

use stack::open;

const LEVELS: usize = 10_000;

fn name() -> &'static OsStr {
    OsStr::new("d")
}

fn handle(dir: impl std::os::fd::AsFd, path: &str) -> OwnedFd {
    fs::openat(dir, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A chain of directories in `root`, with a file in the last.
fn dig(root: &Path) {
    let mut dir = OwnedFd::from(std::fs::File::open(root).unwrap());
    for _ in 0..LEVELS {
        fs::mkdirat(&dir, name(), Mode::RWXU).unwrap();
        dir = handle(&dir, "d");
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    fs::openat(&dir, "file", flags, Mode::RUSR | Mode::WUSR).unwrap();
}

/// Removes the chain, which libraries do level by level on the stack.
fn fill_in(root: &Path) {
    let root = std::fs::File::open(root).unwrap();
    while fs::statat(&root, "d/d", AtFlags::empty()).is_ok() {
        fs::renameat(&root, "d/d", &root, "next").unwrap();
        for marker in [".wh..wh..opq", ".wh.d", ".wh.file"] {
            if fs::unlinkat(&root, format!("d/{marker}"), AtFlags::empty()).is_ok() {
                continue; // There need not be any.
            }
        }
        fs::unlinkat(&root, "d", AtFlags::REMOVEDIR).unwrap();
        fs::renameat(&root, "next", &root, "d").unwrap();
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_copied_up_and_forgotten() {
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    dig(&base.path().join("b1"));
    let me = Creator {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        umask: 0o022,
    };
    let mut dir = Arc::clone(union.root());
    while let Some(found) = union.lookup(&dir, name()).unwrap() {
        dir = found.node;
    }
    let file = union.lookup(&dir, OsStr::new("file")).unwrap().unwrap().node;
    union.copy_up(&file, Keep::All).unwrap();
    union.create(&dir, OsStr::new("new"), 0o644, me).unwrap();
    let made = union.create_special(union.root(), OsStr::new("top"), New::Directory(0o755), me).unwrap();
    union.rename(&dir, OsStr::new("new"), &made.node, OsStr::new("new"), RenameMode::Replace).unwrap();
    assert!(union.lookup(&made.node, OsStr::new("new")).unwrap().is_some());
    drop((file, made));
    // The last node keeps all above it.
    drop(dir);
    drop(union);
    let again: Union = open(base.path(), 1);
    assert_eq!(again.read_directory(again.root(), 0, usize::MAX).unwrap().len(), 2);
    drop(again);
    for branch in ["b0", "b1"] {
        fill_in(&base.path().join(branch));
    }
}
