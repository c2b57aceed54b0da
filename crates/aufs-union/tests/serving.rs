//! What a server asks of a union beyond what programs see: nameless files, descriptors at hand, reports.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use aufs_union::attr::{Creator, SetAttr, SetTime};
use aufs_union::{Change, CopyUpReport, Found, Keep, Node, Union, UnionOptions};
use rustix::fs::{FileType, Timespec, XattrFlags};

use stack::{open, options};

fn me() -> Creator {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Creator { uid, gid, umask: 0o022 }
}

fn find(union: &Union, path: &str) -> Option<Found> {
    let mut found = Found { node: Arc::clone(union.root()), attr: union.attributes(union.root()).unwrap() };
    for part in path.split('/') {
        found = union.lookup(&found.node, OsStr::new(part)).unwrap()?;
    }
    Some(found)
}

#[test]
fn a_nameless_file_works_and_goes_with_its_last_user() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    let union = open(base.path(), 1);
    let dir = find(&union, "d").unwrap().node;
    let (found, file) = match union.create_nameless(&dir, 0o666, me()) {
        Err(error) if error.errno() == rustix::io::Errno::OPNOTSUPP => {
            return eprintln!("skipped: no nameless files on this file system");
        }
        other => other.unwrap(),
    };
    assert_eq!((found.attr.mode & 0o7777, found.attr.nlink), (0o644, 0));
    let open = union.open_created(&found.node, file);
    assert_eq!(union.write_at(&open, b"text", 0).unwrap(), 4);
    let change = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let attr = union.set_attributes(&found.node, &change).unwrap();
    assert_eq!((attr.mode & 0o7777, attr.len_bytes), (0o600, 4));
    union.set_xattr(&found.node, OsStr::new("user.x"), b"y", XattrFlags::empty()).unwrap();
    assert_eq!(union.xattr(&found.node, OsStr::new("user.x")).unwrap().as_deref(), Some(&b"y"[..]));
    drop(open);
    let again = union.open_file(&found.node).unwrap();
    let mut buffer = [0; 8];
    let count = union.read_at(&again, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"text");
    assert_eq!(union.read_directory(&dir, 0, 9).unwrap(), []);
    assert_eq!(fs::read_dir(base.path().join("b0/d")).unwrap().count(), 0);
    let known = Arc::downgrade(&found.node);
    drop((again, found));
    assert!(known.upgrade().is_none());
}

#[test]
fn a_nameless_file_can_be_given_a_name() {
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    let (found, mut file) = match union.create_nameless(union.root(), 0o640, me()) {
        Err(error) if error.errno() == rustix::io::Errno::OPNOTSUPP => {
            return eprintln!("skipped: no nameless files on this file system");
        }
        other => other.unwrap(),
    };
    file.write_all(b"text").unwrap();
    let linked = union.link(&found.node, union.root(), OsStr::new("name")).unwrap();
    assert!(Arc::ptr_eq(&linked.node, &found.node));
    assert_eq!((linked.attr.nlink, linked.attr.ino), (1, found.attr.ino));
    assert!(Arc::ptr_eq(&find(&union, "name").unwrap().node, &found.node));
    assert_eq!(fs::read(base.path().join("b0/name")).unwrap(), b"text");
    union.unlink(union.root(), OsStr::new("name")).unwrap();
    assert!(find(&union, "name").is_none());
    assert_eq!(union.attributes(&found.node).unwrap().len_bytes, 4);
}

#[test]
fn attributes_change_through_a_descriptor_also_where_the_name_leads_nowhere() {
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    let (found, file) = union.create(union.root(), OsStr::new("f"), 0o644, me()).unwrap();
    let open = union.open_created(&found.node, file);
    // Behind the union's back, so that only the descriptor can be what it used.
    fs::rename(base.path().join("b0/f"), base.path().join("b0/g")).unwrap();
    let change = SetAttr {
        mode: Some(0o600),
        len_bytes: Some(7),
        mtime: Some(SetTime::At(Timespec { tv_sec: 5, tv_nsec: 6 })),
        ..SetAttr::default()
    };
    let attr = union.set_attributes_through(&found.node, Some(&open), &change, None).unwrap();
    assert_eq!((attr.mode & 0o7777, attr.len_bytes, attr.mtime.tv_sec), (0o600, 7, 5));
    let host = fs::metadata(base.path().join("b0/g")).unwrap();
    assert_eq!((host.permissions().mode() & 0o7777, host.len(), host.mtime()), (0o600, 7, 5));
    assert!(union.set_attributes(&found.node, &change).is_err());
}

#[test]
fn a_descriptor_of_the_lower_file_is_not_used_to_change_it() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1")).unwrap();
    fs::write(base.path().join("b1/f"), "lower").unwrap();
    let union = open(base.path(), 1);
    let node = find(&union, "f").unwrap().node;
    let reader = union.open_file(&node).unwrap();
    let change = SetAttr { len_bytes: Some(2), mode: Some(0o600), ..SetAttr::default() };
    let attr = union.set_attributes_through(&node, Some(&reader), &change, None).unwrap();
    assert_eq!((attr.len_bytes, attr.mode & 0o7777), (2, 0o600));
    assert_eq!(fs::read(base.path().join("b1/f")).unwrap(), b"lower");
    assert_eq!(fs::read(base.path().join("b0/f")).unwrap(), b"lo");
}

#[test]
fn copies_are_reported_with_their_parents() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    fs::write(base.path().join("b1/d/f"), vec![7; 70_000]).unwrap();
    let union = open(base.path(), 1);
    let reports: Arc<Mutex<Vec<CopyUpReport>>> = Arc::default();
    let told = Arc::clone(&reports);
    union.observe(move |change| {
        if let Change::CopiedUp(report) = change {
            told.lock().unwrap().push(report);
        }
    });
    let node = find(&union, "d/f").unwrap().node;
    assert!(union.copy_up(&node, Keep::First(66_000)).unwrap());
    assert!(!union.copy_up(&node, Keep::All).unwrap());
    let reports = reports.lock().unwrap();
    let types: Vec<_> = reports.iter().map(|it| it.file_type).collect();
    assert_eq!(types, [FileType::Directory, FileType::RegularFile]);
    let of_file = reports[1];
    assert_eq!((of_file.node_id, of_file.len_bytes), (node.id(), 66_000));
    assert!(of_file.method.is_some() && reports[0].method.is_none());
    assert!(0 < of_file.phases.data_ns && 0 < of_file.phases.publish_ns, "{of_file:?}");
}

#[test]
fn counters_tell_how_lookups_were_answered() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("b1/d")).unwrap();
    for index in 0..40 {
        fs::write(base.path().join(format!("b1/d/f{index}")), "").unwrap();
    }
    let union = open(base.path(), 1);
    let nodes: Vec<_> = (0..40).map(|index| find(&union, &format!("d/f{index}")).unwrap().node).collect();
    let counters = union.counters();
    assert!(1 < counters.probes && counters.index_hits < 40, "{counters:?}");
    assert_eq!(counters.probes + counters.index_hits, 41, "one for each name and one for the directory");
    assert_eq!(counters.indexes_built, 1);
    assert!(0 < counters.open_handles);
    assert!(find(&union, "d/f7").is_some());
    assert!(counters.known_names < union.counters().known_names);
    drop(nodes);
}

#[test]
fn a_server_finds_its_word_in_the_node_again() {
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    let (found, mut file) = union.create(union.root(), OsStr::new("f"), 0o644, me()).unwrap();
    assert_eq!(found.node.server_tag().swap(77, Ordering::Relaxed), 0);
    file.write_all(b"x").unwrap();
    file.rewind().unwrap();
    assert_eq!(file.read(&mut [0; 4]).unwrap(), 1);
    assert_eq!(find(&union, "f").unwrap().node.server_tag().load(Ordering::Relaxed), 77);
}

#[test]
fn new_entries_get_the_group_of_a_setgid_directory_from_then_on() {
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    if me().uid != 0 {
        return eprintln!("skipped: only root gives files away");
    }
    let other = Creator { uid: 1234, gid: 2345, umask: 0 };
    let make = |union: &Union, dir: &Arc<Node>, name: &str| {
        let (found, _) = union.create(dir, OsStr::new(name), 0o6755, other).unwrap();
        (found.attr.uid, found.attr.gid, found.attr.mode & 0o7777)
    };
    let what = aufs_union::New::Directory(0o755);
    let dir = union.create_special(union.root(), OsStr::new("d"), what, other).unwrap();
    assert_eq!((dir.attr.uid, dir.attr.gid), (1234, 2345));
    let dir = dir.node;
    assert_eq!(make(&union, &dir, "a"), (1234, 2345, 0o6755));
    let change = SetAttr { mode: Some(0o2755), gid: Some(99), ..SetAttr::default() };
    union.set_attributes(&dir, &change).unwrap();
    assert_eq!(make(&union, &dir, "b"), (1234, 99, 0o6755));
}

#[test]
fn a_default_acl_reaches_new_directories_in_new_directories() {
    // One entry each for owner, group, others: version 2, then tag, permissions and id of each.
    let acl: Vec<u8> = [2_u32.to_le_bytes()]
        .into_iter()
        .flatten()
        .chain([(1_u16, 7_u16), (4, 5), (32, 0)].into_iter().flat_map(|(tag, permissions)| {
            [tag.to_le_bytes(), permissions.to_le_bytes(), [255; 2], [255; 2]].concat()
        }))
        .collect();
    let base = tempfile::tempdir().unwrap();
    let union = open(base.path(), 1);
    let what = aufs_union::New::Directory(0o777);
    let make =
        |dir: &Arc<Node>, name: &str| union.create_special(dir, OsStr::new(name), what, me()).unwrap().node;
    let outer = make(union.root(), "outer");
    let mode_of_new = |dir: &Arc<Node>, name: &str| {
        union.create(dir, OsStr::new(name), 0o666, me()).unwrap().0.attr.mode & 0o777
    };
    assert_eq!(mode_of_new(&make(&outer, "before"), "f"), 0o644);
    let name = OsStr::new("system.posix_acl_default");
    match union.set_xattr(&outer, name, &acl, XattrFlags::empty()) {
        Err(error) if error.errno() == rustix::io::Errno::OPNOTSUPP => {
            return eprintln!("skipped: no access control lists on this file system");
        }
        set => set.unwrap(),
    }
    assert_eq!(mode_of_new(&make(&make(&outer, "after"), "deeper"), "f"), 0o640);
}

#[test]
fn a_union_without_extended_attributes_neither_shows_nor_copies_them() {
    let base = tempfile::tempdir().unwrap();
    let options = options(base.path(), 1);
    fs::write(base.path().join("b1/f"), "text").unwrap();
    let (name, flags) = (OsStr::new("user.x"), XattrFlags::empty());
    if let Err(errno) = rustix::fs::setxattr(base.path().join("b1/f"), name, b"y", flags) {
        return eprintln!("skipped: no extended attributes on this file system: {errno}");
    }
    for no_xattrs in [true, false] {
        let options = UnionOptions { no_xattrs, ..options.clone() };
        let union = Union::open(&options).unwrap();
        let node = find(&union, "f").unwrap().node;
        let shown = union.xattr(&node, name).map_err(|it| it.errno());
        let expected = if no_xattrs { Err(rustix::io::Errno::OPNOTSUPP) } else { Ok(Some(b"y".to_vec())) };
        assert_eq!(shown, expected);
        assert_eq!(union.set_xattr(&node, OsStr::new("user.z"), b"z", flags).is_err(), no_xattrs);
        union.copy_up(&node, Keep::All).unwrap();
        let copied = rustix::fs::getxattr(base.path().join("b0/f"), name, &mut [0; 8]).is_ok();
        assert_eq!(copied, !no_xattrs);
        drop((union, node));
        fs::remove_file(base.path().join("b0/f")).unwrap();
    }
}
