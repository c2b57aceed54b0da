//! How much memory a known file costs, and that it comes back.
//!
//! The only test of its binary: the allocator counts for the whole process.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::alloc::System;
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use aufs_union::{Node, Union};
use cap::Cap;

use stack::options;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const DIRECTORIES: usize = 30;
const FILES: usize = 1000;
/// As requested from the allocator, which itself adds some; names of a dozen bytes.
const BYTES_PER_FILE_MAX: usize = 176;

/// Lists every directory and looks every name up, as a walk with attributes does.
fn walk(union: &Union) -> Vec<Arc<Node>> {
    let mut nodes = Vec::with_capacity(DIRECTORIES * FILES + DIRECTORIES);
    for directory in 0..DIRECTORIES {
        let dir = union.lookup(union.root(), OsStr::new(&format!("d{directory}"))).unwrap().unwrap().node;
        for entry in union.read_directory(&dir, 0, usize::MAX).unwrap() {
            nodes.push(union.lookup(&dir, &entry.name).unwrap().unwrap().node);
        }
        nodes.push(dir);
    }
    nodes
}

#[test]
fn a_known_file_costs_little_and_nothing_once_it_is_forgotten() {
    let base = tempfile::tempdir().unwrap();
    let options = options(base.path(), 1);
    for directory in 0..DIRECTORIES {
        let branch = options.stack[directory % 2].path.join(format!("d{directory}"));
        fs::create_dir_all(&branch).unwrap();
        for file in 0..FILES {
            fs::write(branch.join(format!("file-{file}.txt")), "").unwrap();
        }
    }
    let union = Union::open(&options).unwrap();
    let before = ALLOCATOR.allocated();
    let nodes = walk(&union);
    let held = ALLOCATOR.allocated() - before - nodes.capacity() * size_of::<Arc<Node>>();
    let per_file = held / (DIRECTORIES * FILES);
    assert!(per_file <= BYTES_PER_FILE_MAX, "{per_file} bytes for each known file");
    assert!(FILES * DIRECTORIES * 100 < held, "the measurement itself is broken: {held} bytes in all");

    // The files go first, as the kernel forgets them, and leave the facts of their directories.
    let (dirs, files): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|it| it.file_type() == rustix::fs::FileType::Directory);
    drop(files);
    let kept = ALLOCATOR.allocated() - before;
    assert!(kept < DIRECTORIES * FILES * 90, "{kept} bytes for the facts alone");
    drop(dirs);
    let kept = ALLOCATOR.allocated() - before;
    assert!(kept < DIRECTORIES * 512, "{kept} bytes stay after all is forgotten");
}
