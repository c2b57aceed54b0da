//! Trees of any depth can be removed. The limit on descriptors is the process's, hence a binary of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use aufs_host::draft::read_names;
use aufs_host::remove::remove_tree;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Levels: more than one path can name, and more than descriptors reach.
const DEPTH: usize = 4000;

#[test]
fn a_tree_deeper_than_paths_and_descriptors_reach_is_removed() {
    let base = tempfile::tempdir().unwrap();
    let top = OwnedFd::from(File::open(base.path()).unwrap());
    let mut dir = rustix::io::dup(&top).unwrap();
    for level in 0..DEPTH {
        for name in ["dir", "sibling"] {
            rustix::fs::mkdirat(&dir, name, Mode::RWXU).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(rustix::fs::openat(&dir, level.to_string(), flags, Mode::RUSR).unwrap());
        dir = rustix::fs::openat(&dir, "dir", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(dir);
    let few = Rlimit { current: Some(60), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();
    remove_tree(&top, OsStr::new("dir")).unwrap();
    let mut left = read_names(&top).unwrap();
    left.sort();
    assert_eq!(left, ["0", "sibling"]);
}
