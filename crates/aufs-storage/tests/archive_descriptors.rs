//! Deep trees and many branches take few descriptors. The limit is the process's, hence a binary of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};

use archive_kit::{Scene, Tar, lines, pack_dir};
use aufs_storage::changes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Levels of the tree: more than handles are kept.
const DEPTH: usize = 300;
/// Branches that are compared.
const BRANCHES: usize = 100;
/// Descriptors that are enough for all, each branch and the test's own.
const DESCRIPTORS: u64 = 2 * BRANCHES as u64 + 60;

/// Calls `work` while the process may open few descriptors.
fn with_few<T>(work: impl FnOnce() -> T) -> T {
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), ..usual }).unwrap();
    let result = work();
    setrlimit(Resource::Nofile, usual).unwrap();
    result
}

#[test]
fn deep_trees_and_many_branches_take_few_descriptors() {
    let path = "d/".repeat(DEPTH);
    let tar = Tar::new()
        .pax(&[("path", format!("{path}f").as_bytes())])
        .file("x", "deep")
        // Back to a level whose handle is no longer kept, and to the top.
        .pax(&[("path", format!("{}g", "d/".repeat(DEPTH / 2)).as_bytes())])
        .file("x", "half")
        .file("d/z", "behind")
        .end();
    let scene = Scene::new();
    with_few(|| scene.apply(&tar)).unwrap();
    assert_eq!(scene.lines().len(), DEPTH + 3);

    let (packed, packed_tar) = with_few(|| pack_dir(&scene.root()));
    assert_eq!(packed.entries, DEPTH as u64 + 3);
    let again = Scene::new();
    again.apply(&packed_tar).unwrap();
    assert_eq!(lines(&again.root()), scene.lines());

    let root = File::open(scene.root()).unwrap();
    let lowers: Vec<File> = (0..BRANCHES).map(|_| File::open(again.root()).unwrap()).collect();
    let lowers: Vec<BorrowedFd<'_>> = lowers.iter().map(AsFd::as_fd).collect();
    let changes = with_few(|| changes::changes(root.as_fd(), &lowers)).unwrap();
    let files = changes.iter().filter(|it| !it.path.ends_with("d")).count();
    assert_eq!(files, 3);
    assert_eq!(with_few(|| changes::size(root.as_fd())).unwrap(), 4 + 4 + 6);

    // A removal takes no more than what it removes took.
    with_few(|| scene.apply(&Tar::new().file("d", "").end())).unwrap();
    assert_eq!(scene.lines(), ["d 644: "]);
    assert!(fs::metadata(scene.root().join("d")).unwrap().is_file());
}
