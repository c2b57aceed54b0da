//! The union on plain directories, one promise a test.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use aufs_union::attr::{Creator, SetAttr};
use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Keep, Node, RenameMode, Union, UnionErrorKind, UnionOptions};

use stack::open;

const ME: Creator = Creator { uid: 0, gid: 0, umask: 0o022 };

fn me() -> Creator {
    Creator { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), ..ME }
}

fn find(union: &Union, path: &str) -> Option<Arc<Node>> {
    let mut node = Arc::clone(union.root());
    for part in path.split('/') {
        node = union.lookup(&node, OsStr::new(part)).unwrap()?.node;
    }
    Some(node)
}

fn names(union: &Union, dir: &Arc<Node>) -> Vec<String> {
    let entries = union.read_directory(dir, 0, usize::MAX).unwrap();
    let mut names: Vec<String> = entries.iter().map(|it| it.name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_reader_sees_the_copy_after_the_first_write() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    fs::write(base.path().join("b1/d/f"), "hello world").unwrap();
    let union = open(base.path(), 1);
    let node = find(&union, "d/f").unwrap();
    let reader = union.open_file(&node).unwrap();
    let writer = union.open_file(&node).unwrap();
    assert!(!base.path().join("b0/d").exists(), "opening copies nothing up");
    union.write_at(&writer, b"HELLO", 0).unwrap();
    let mut buffer = [0; 32];
    let count = union.read_at(&reader, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"HELLO world");
    assert_eq!(fs::read(base.path().join("b1/d/f")).unwrap(), b"hello world");
    assert_eq!(fs::read(base.path().join("b0/d/f")).unwrap(), b"HELLO world");
}

#[test]
fn inode_numbers_survive_copy_up_and_equal_those_listed() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/f"), "x").unwrap();
    let union = open(base.path(), 1);
    let before = find(&union, "f").unwrap().ino();
    union.copy_up(&find(&union, "f").unwrap(), Keep::All).unwrap();
    assert_eq!(find(&union, "f").unwrap().ino(), before);
    let listed = union.read_directory(union.root(), 0, 9).unwrap();
    assert_eq!(listed.iter().map(|it| it.ino).collect::<Vec<_>>(), [before]);
}

#[test]
fn a_truncating_copy_keeps_only_what_remains() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/f"), "0123456789").unwrap();
    let union = open(base.path(), 1);
    let cut = SetAttr { len_bytes: Some(4), ..SetAttr::default() };
    assert_eq!(union.set_attributes(&find(&union, "f").unwrap(), &cut).unwrap().len_bytes, 4);
    assert_eq!(fs::read(base.path().join("b0/f")).unwrap(), b"0123");
}

#[test]
fn a_removed_file_stays_usable_for_who_has_it() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/f"), "ghost").unwrap();
    let union = open(base.path(), 1);
    let node = find(&union, "f").unwrap();
    let open = union.open_file(&node).unwrap();
    union.unlink(union.root(), OsStr::new("f")).unwrap();
    assert!(base.path().join("b0/.wh.f").exists());
    union.write_at(&open, b"G", 0).unwrap();
    let mut buffer = [0; 8];
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"Ghost");
    assert!(find(&union, "f").is_none());
    assert_eq!(fs::read(base.path().join("b1/f")).unwrap(), b"ghost");
}

#[test]
fn a_new_directory_over_a_removed_one_is_opaque() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    fs::write(base.path().join("b1/d/x"), "x").unwrap();
    let union = open(base.path(), 1);
    let d = find(&union, "d").unwrap();
    assert_eq!(union.rmdir(union.root(), OsStr::new("d")).unwrap_err().kind, UnionErrorKind::NotEmpty);
    union.unlink(&d, OsStr::new("x")).unwrap();
    union.rmdir(union.root(), OsStr::new("d")).unwrap();
    assert!(find(&union, "d").is_none());
    let made =
        union.create_special(union.root(), OsStr::new("d"), aufs_union::New::Directory(0o755), me()).unwrap();
    assert!(names(&union, &made.node).is_empty());
    assert!(base.path().join("b0/d/.wh..wh..opq").exists());
    assert!(!base.path().join("b0/.wh.d").exists());
}

#[test]
fn renames_leave_whiteouts_and_refuse_lower_directories() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    fs::write(base.path().join("b1/d/x"), "x").unwrap();
    fs::write(base.path().join("b1/f"), "f").unwrap();
    let union = open(base.path(), 1);
    let root = union.root();
    let rename = |from: &str, to: &str| {
        union.rename(root, OsStr::new(from), root, OsStr::new(to), RenameMode::Replace).map_err(|it| it.kind)
    };
    assert_eq!(rename("d", "e"), Err(UnionErrorKind::CrossBranch));
    assert_eq!(rename("f", "g"), Ok(()));
    assert_eq!(names(&union, root), ["d", "g"]);
    assert_eq!(fs::read(base.path().join("b0/g")).unwrap(), b"f");
    assert!(base.path().join("b0/.wh.f").exists());
    assert_eq!(rename("g", "f"), Ok(()));
    assert!(!base.path().join("b0/.wh.f").exists());
    assert_eq!(fs::read(base.path().join("b1/f")).unwrap(), b"f");
}

#[test]
fn one_union_at_a_time_writes_to_a_branch() {
    let base = tempfile::tempdir().unwrap();
    let first = open(base.path(), 1);
    let spec = BranchSpec { path: base.path().join("b0"), perm: BranchPerm::ReadWrite };
    let options = UnionOptions { stack: vec![spec], ..UnionOptions::default() };
    let error = Union::open(&options).unwrap_err();
    assert!(error.to_string().contains("in use by another mount"), "{error}");
    drop(first);
    assert!(Union::open(&options).is_ok());
}

#[test]
fn more_handles_than_the_limit_still_work() {
    let base = tempfile::tempdir().unwrap();
    for index in 0..300 {
        fs::create_dir_all(base.path().join(format!("b1/d{index}/s"))).unwrap();
    }
    let union = open(base.path(), 1);
    for _ in 0..2 {
        for index in 0..300 {
            assert!(find(&union, &format!("d{index}/s")).is_some());
        }
    }
}

#[test]
fn the_other_names_of_a_hard_link_follow_its_copy() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/a"), "old").unwrap();
    fs::hard_link(base.path().join("b1/a"), base.path().join("b1/b")).unwrap();
    let union = open(base.path(), 1);
    {
        let open = union.open_file(&find(&union, "a").unwrap()).unwrap();
        union.write_at(&open, b"NEW", 0).unwrap();
    }
    let open = union.open_file(&find(&union, "b").unwrap()).unwrap();
    let mut buffer = [0; 8];
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"NEW");
    union.unlink(union.root(), OsStr::new("a")).unwrap();
    let open = union.open_file(&find(&union, "b").unwrap()).unwrap();
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"NEW");
    assert_eq!(fs::read(base.path().join("b1/b")).unwrap(), b"old");
}

#[test]
fn root_immutable_files_below_stay_as_they_are() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/f"), "x").unwrap();
    let file = fs::File::open(base.path().join("b1/f")).unwrap();
    let flags = ioctl_getflags(&file).unwrap_or(IFlags::empty());
    if let Err(errno) = ioctl_setflags(&file, flags | IFlags::IMMUTABLE) {
        let required = std::env::var("REQUIRE").unwrap_or_default().contains("root");
        assert!(!required || errno != rustix::io::Errno::PERM, "root is required");
        return eprintln!("skipped: no immutable files here: {errno}");
    }
    let union = open(base.path(), 1);
    let node = find(&union, "f").unwrap();
    let copied = union.copy_up(&node, Keep::All).map_err(|it| it.errno());
    let removed = union.unlink(union.root(), OsStr::new("f")).map_err(|it| it.errno());
    fs::write(base.path().join("b0/g"), "y").unwrap();
    let root = union.root();
    let replaced = union
        .rename(root, OsStr::new("g"), root, OsStr::new("f"), RenameMode::Replace)
        .map_err(|it| it.errno());
    ioctl_setflags(&file, flags).unwrap();
    for (what, result) in [("copied", copied.map(drop)), ("removed", removed), ("replaced", replaced)] {
        assert_eq!(result, Err(rustix::io::Errno::PERM), "{what}");
    }
    assert!(!base.path().join("b0/.wh.f").exists() && !base.path().join("b0/f").exists());
}

#[test]
fn a_directory_is_not_moved_into_itself_nor_swapped_with_what_it_holds() {
    use rustix::io::Errno;
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b0/d/e/f")).unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let union = open(base.path(), 1);
        let (root, d, e) = (union.root(), find(&union, "d").unwrap(), find(&union, "d/e").unwrap());
        let rename = |dir: &Arc<Node>, name: &str, to: &Arc<Node>, new_name: &str, mode| {
            union.rename(dir, OsStr::new(name), to, OsStr::new(new_name), mode).map_err(|it| it.errno())
        };
        for (mode, above) in [(RenameMode::Replace, Errno::NOTEMPTY), (RenameMode::Exchange, Errno::INVAL)] {
            assert_eq!(rename(root, "d", &e, "f", mode), Err(Errno::INVAL));
            assert_eq!(rename(root, "d", &d, "e", mode), Err(Errno::INVAL));
            assert_eq!(rename(&d, "e", root, "d", mode), Err(above));
            assert_eq!(rename(&e, "f", root, "d", mode), Err(above));
        }
        done.send(()).unwrap();
    });
    // It locks directories, and one that it locked twice would wait for ever.
    finished.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
}

/// Two names of one lower file in different directories, and the text it had.
fn with_two_names(base: &Path) -> Union {
    fs::create_dir_all(base.join("b1/d1")).unwrap();
    fs::create_dir_all(base.join("b1/d2")).unwrap();
    fs::write(base.join("b1/d1/a"), "old").unwrap();
    fs::hard_link(base.join("b1/d1/a"), base.join("b1/d2/b")).unwrap();
    open(base, 1)
}

fn write_new(union: &Union, path: &str) {
    let open = union.open_file(&find(union, path).unwrap()).unwrap();
    union.write_at(&open, b"NEW", 0).unwrap();
}

fn text(union: &Union, path: &str) -> String {
    let open = union.open_file(&find(union, path).unwrap()).unwrap();
    let mut buffer = [0; 16];
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[test]
fn a_hard_link_elsewhere_keeps_the_copy_when_the_copied_name_goes() {
    for replaced in [false, true] {
        let base = tempfile::tempdir().unwrap();
        let union = with_two_names(base.path());
        let (d1, d2) = (find(&union, "d1").unwrap(), find(&union, "d2").unwrap());
        let held = find(&union, "d2/b").unwrap();
        write_new(&union, "d1/a");
        if replaced {
            union.create(&d1, OsStr::new("other"), 0o644, me()).unwrap();
            let to = OsStr::new("a");
            union.rename(&d1, OsStr::new("other"), &d1, to, RenameMode::Replace).unwrap();
        } else {
            union.unlink(&d1, OsStr::new("a")).unwrap();
        }
        drop(held);
        assert_eq!(text(&union, "d2/b"), "NEW", "replaced: {replaced}");
        write_new(&union, "d2/b");
        union.rename(&d2, OsStr::new("b"), &d2, OsStr::new("c"), RenameMode::Replace).unwrap();
        assert_eq!(text(&union, "d2/c"), "NEW");
        assert_eq!(fs::read(base.path().join("b0/d2/c")).unwrap(), b"NEW");
        assert_eq!(fs::read(base.path().join("b1/d2/b")).unwrap(), b"old");
        drop((d1, d2, union));
        assert_eq!(fs::read_dir(base.path().join("b0/.wh..wh.draft")).unwrap().count(), 0);
        assert_eq!(text(&open(base.path(), 1), "d2/c"), "NEW");
    }
}

#[test]
fn what_is_written_to_a_hard_link_stays_after_another_name_was_removed() {
    let base = tempfile::tempdir().unwrap();
    let union = with_two_names(base.path());
    let held = find(&union, "d1/a").unwrap();
    union.unlink(&find(&union, "d1").unwrap(), OsStr::new("a")).unwrap();
    write_new(&union, "d2/b");
    drop(held);
    assert_eq!(text(&union, "d2/b"), "NEW");
    assert_eq!(fs::read(base.path().join("b0/d2/b")).unwrap(), b"NEW");
    assert_eq!(fs::read(base.path().join("b1/d2/b")).unwrap(), b"old");
}
