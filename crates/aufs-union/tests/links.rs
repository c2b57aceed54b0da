//! Files with several names: link counts, pseudo-links, and what a later union finds.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_union::attr::SetAttr;
use aufs_union::{Found, Keep, RenameMode, Union, UnionOptions};

use stack::{open, options};

fn find(union: &Union, path: &str) -> Option<Found> {
    let mut found = Found { node: Arc::clone(union.root()), attr: union.attributes(union.root()).unwrap() };
    for part in path.split('/') {
        found = union.lookup(&found.node, OsStr::new(part)).unwrap()?;
    }
    Some(found)
}

fn nlink(union: &Union, path: &str) -> u32 {
    find(union, path).unwrap().attr.nlink
}

fn read(union: &Union, path: &str) -> String {
    let node = find(union, path).unwrap().node;
    let open = union.open_file(&node).unwrap();
    let mut buffer = [0; 64];
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    String::from_utf8(buffer[..count].to_vec()).unwrap()
}

fn append(union: &Union, path: &str, text: &str) {
    let found = find(union, path).unwrap();
    union.copy_up(&found.node, Keep::All).unwrap();
    let open = union.open_file(&found.node).unwrap();
    assert_eq!(union.write_at(&open, text.as_bytes(), found.attr.len_bytes).unwrap(), text.len());
}

fn unlink(union: &Union, dir: &str, name: &str) {
    let dir = if dir.is_empty() { Arc::clone(union.root()) } else { find(union, dir).unwrap().node };
    union.unlink(&dir, OsStr::new(name)).unwrap();
}

fn pseudo_links(base: &Path) -> Vec<PathBuf> {
    fs::read_dir(base.join("b0/.wh..wh.plnk")).unwrap().map(|it| it.unwrap().path()).collect()
}

/// A lower file with the names `a`, `d/b` and `d/e/c`.
fn three_names(base: &Path) {
    fs::create_dir_all(base.join("b2/d/e")).unwrap();
    fs::write(base.join("b2/a"), "data").unwrap();
    fs::hard_link(base.join("b2/a"), base.join("b2/d/b")).unwrap();
    fs::hard_link(base.join("b2/a"), base.join("b2/d/e/c")).unwrap();
}

/// Ends the union as a kill would: nothing is flushed.
fn killed(union: Union) {
    drop(union);
}

#[test]
fn names_of_a_copied_up_file_are_counted_wherever_they_lie() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    let union = open(base.path(), 2);
    append(&union, "d/b", "1");
    for path in ["a", "d/b", "d/e/c"] {
        assert_eq!((nlink(&union, path), read(&union, path)), (3, "data1".to_owned()), "{path}");
    }
    let node = find(&union, "a").unwrap().node;
    union.link(&node, union.root(), OsStr::new("new")).unwrap();
    assert_eq!(nlink(&union, "d/b"), 4);
    unlink(&union, "d", "b");
    unlink(&union, "", "new");
    assert_eq!(nlink(&union, "a"), 2);
    append(&union, "d/e/c", "2");
    assert_eq!(read(&union, "a"), "data12");
    fs::write(base.path().join("b0/x"), "").unwrap();
    let root = union.root();
    union.rename(root, OsStr::new("x"), root, OsStr::new("a"), RenameMode::Replace).unwrap();
    assert_eq!((nlink(&union, "d/e/c"), nlink(&union, "a")), (1, 1));
    assert_eq!(pseudo_links(base.path()).len(), 1);
    let held = find(&union, "d/e/c").unwrap().node;
    unlink(&union, "d/e", "c");
    assert_eq!(union.attributes(&held).unwrap().nlink, 0);
    assert_eq!(pseudo_links(base.path()), [] as [PathBuf; 0], "the last name takes its bytes along");
}

#[test]
fn removing_names_below_counts_down_without_a_copy() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    let union = open(base.path(), 2);
    unlink(&union, "", "a");
    assert_eq!((nlink(&union, "d/b"), nlink(&union, "d/e/c")), (2, 2));
    unlink(&union, "d", "b");
    assert_eq!(nlink(&union, "d/e/c"), 1);
    append(&union, "d/e/c", "1");
    assert_eq!((nlink(&union, "d/e/c"), pseudo_links(base.path()).len()), (1, 0));
    assert_eq!(fs::metadata(base.path().join("b0/d/e/c")).unwrap().nlink(), 1);
}

#[test]
fn a_flush_makes_each_name_a_link_of_the_copy() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    let union = open(base.path(), 2);
    append(&union, "d/e/c", "1");
    unlink(&union, "d/e", "c");
    assert_eq!(pseudo_links(base.path()).len(), 1);
    assert_eq!(union.flush_pseudo_links().unwrap(), 2);
    assert_eq!(pseudo_links(base.path()), [] as [PathBuf; 0]);
    assert_eq!(union.flush_pseudo_links().unwrap(), 0);
    drop(union);
    let union = open(base.path(), 2);
    for path in ["a", "d/b"] {
        assert_eq!((nlink(&union, path), read(&union, path)), (2, "data1".to_owned()), "{path}");
    }
    assert!(Arc::ptr_eq(&find(&union, "a").unwrap().node, &find(&union, "d/b").unwrap().node));
    assert!(find(&union, "d/e/c").is_none());
}

#[test]
fn pseudo_links_of_a_killed_union_are_honoured() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    let union = open(base.path(), 2);
    append(&union, "a", "1");
    unlink(&union, "", "a");
    killed(union);
    let union = open(base.path(), 2);
    assert_eq!(pseudo_links(base.path()), [] as [PathBuf; 0]);
    for path in ["d/b", "d/e/c"] {
        assert_eq!((nlink(&union, path), read(&union, path)), (2, "data1".to_owned()), "{path}");
    }
    assert!(find(&union, "a").is_none());
    assert_eq!(fs::read(base.path().join("b2/a")).unwrap(), b"data");
}

#[test]
fn a_copy_whose_names_were_all_removed_goes_after_a_kill() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    let union = open(base.path(), 2);
    append(&union, "a", "1");
    let entry = pseudo_links(base.path()).remove(0);
    let kept = base.path().join("kept");
    fs::hard_link(&entry, &kept).unwrap();
    for (dir, name) in [("", "a"), ("d", "b"), ("d/e", "c")] {
        unlink(&union, dir, name);
    }
    killed(union);
    fs::hard_link(&kept, &entry).unwrap(); // As if killed before the pseudo-link went.
    fs::remove_file(kept).unwrap();
    drop(open(base.path(), 2));
    assert_eq!(pseudo_links(base.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_stale_pseudo_link_joins_no_other_file() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    drop(open(base.path(), 2));
    let lower = fs::metadata(base.path().join("b2/a")).unwrap();
    let dir = base.path().join("b0/.wh..wh.plnk");
    let put = |name: &str| {
        fs::write(dir.join("made"), "stale").unwrap();
        let own = fs::metadata(dir.join("made")).unwrap().ino().to_string();
        fs::rename(dir.join("made"), dir.join(name.replace("OWN", &own))).unwrap();
    };
    put(&format!("{}.OWN", lower.ino())); // As kernel aufs names them.
    put(&format!("{}.OWN.12345", lower.ino())); // Of a file that had this number before.
    put("not a pseudo-link");
    fs::create_dir(dir.join("directory")).unwrap();
    fs::write(base.path().join("b0/named"), "kernel").unwrap();
    fs::hard_link(base.path().join("b0/named"), dir.join("11.12")).unwrap();
    let union = open(base.path(), 2);
    for path in ["a", "d/b", "d/e/c"] {
        assert_eq!((nlink(&union, path), read(&union, path)), (3, "data".to_owned()), "{path}");
    }
    assert_eq!(nlink(&union, "named"), 1, "a pseudo-link that stands for nothing is gone");
    assert_eq!(pseudo_links(base.path()).len(), 4, "bytes that have no other name stay");
}

#[test]
fn names_hidden_or_replaced_stay_so_when_pseudo_links_are_honoured() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/a"), "above").unwrap();
    let union = open(base.path(), 2);
    append(&union, "d/b", "1");
    unlink(&union, "d/e", "c");
    killed(union);
    let union = open(base.path(), 2);
    assert_eq!((read(&union, "a"), read(&union, "d/b")), ("above".to_owned(), "data1".to_owned()));
    assert!(find(&union, "d/e/c").is_none());
    assert!(!base.path().join("b0/a").exists());
}

#[test]
fn special_files_and_removed_open_files_keep_their_names_together_too() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    let fifo = base.path().join("b1/p");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::hard_link(&fifo, base.path().join("b1/q")).unwrap();
    fs::write(base.path().join("b1/f"), "data").unwrap();
    fs::hard_link(base.path().join("b1/f"), base.path().join("b1/g")).unwrap();
    let union = open(base.path(), 1);
    let pipe = find(&union, "p").unwrap().node;
    union.set_attributes(&pipe, &SetAttr { mode: Some(0o640), ..SetAttr::default() }).unwrap();
    // Written to after its only known name is gone.
    let file = find(&union, "f").unwrap().node;
    unlink(&union, "", "f");
    union.copy_up(&file, Keep::All).unwrap();
    let open_file = union.open_file(&file).unwrap();
    union.write_at(&open_file, b"D", 0).unwrap();
    assert_eq!((read(&union, "g"), nlink(&union, "g")), ("Data".to_owned(), 1));
    drop(open_file);
    union.flush_pseudo_links().unwrap();
    drop((pipe, file, union));
    let union = open(base.path(), 1);
    assert_eq!((read(&union, "g"), nlink(&union, "g"), nlink(&union, "q")), ("Data".to_owned(), 1, 2));
    let copy = fs::metadata(base.path().join("b0/q")).unwrap();
    assert!(copy.file_type().is_fifo() && copy.mode() & 0o777 == 0o640);
}

#[test]
fn a_name_that_cannot_be_brought_up_parts() {
    let base = tempfile::tempdir().unwrap();
    three_names(base.path());
    fs::create_dir_all(base.path().join("b1")).unwrap();
    let mut stack: UnionOptions = options(base.path(), 2);
    // A read-only branch above the writable one has `d`, so nothing can be put into it.
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    stack.stack.swap(0, 1);
    let union = Union::open(&stack).unwrap();
    append(&union, "a", "1");
    union.flush_pseudo_links().unwrap();
    drop(union);
    let union = Union::open(&stack).unwrap();
    assert_eq!((read(&union, "a"), read(&union, "d/b")), ("data1".to_owned(), "data".to_owned()));
}
