//! Two trees compared as they are shown, and what is packed of that.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use aufs_storage::archive::{ApplyOptions, Owners, PackOptions, apply, pack_changes};
use aufs_storage::changes::{Change, between, size_of};
use aufs_testkit::tree::plant;
use proptest::prelude::*;
use rustix::fs::XattrFlags;

fn compare(old: &Path, new: &Path) -> Vec<Change> {
    between(File::open(old).unwrap().as_fd(), File::open(new).unwrap().as_fd()).unwrap()
}

fn said(old: &Path, new: &Path) -> Vec<String> {
    compare(old, new).iter().map(ToString::to_string).collect()
}

/// Two equal trees, times included.
fn twins(lines: &[&str]) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("old")).unwrap();
    plant(&base.path().join("old"), lines).unwrap();
    let [old, new] = ["old", "new"].map(|it| base.path().join(it));
    let copied = std::process::Command::new("cp").arg("-a").args([&old, &new]).status().unwrap();
    assert!(copied.success());
    base
}

#[test]
fn equal_trees_differ_in_nothing() {
    let base = twins(&["a/b/c: text", "empty/", "l -> a", "x =1: one", "y =1: one"]);
    assert_eq!(said(&base.path().join("old"), &base.path().join("new")), [""; 0]);
}

/// What it is about, what is done to one of two equal trees, and what is said of it.
type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn each_kind_of_difference_is_told() {
    let changes: [Case<'_>; 14] = [
        ("a new file", &|d| fs::write(d.join("d/new"), "").unwrap(), &["C /d", "A /d/new"]),
        ("a new tree", &|d| fs::create_dir_all(d.join("n/m")).unwrap(), &["A /n", "A /n/m"]),
        ("a file that goes", &|d| fs::remove_file(d.join("d/f")).unwrap(), &["C /d", "D /d/f"]),
        ("a tree that goes", &|d| fs::remove_dir_all(d.join("d")).unwrap(), &["D /d"]),
        ("another length", &|d| fs::write(d.join("f"), "longer than it was").unwrap(), &["C /f"]),
        (
            "another time",
            &|d| {
                let then = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
                File::open(d.join("f")).unwrap().set_modified(then).unwrap();
            },
            &["C /f"],
        ),
        (
            "another mode",
            &|d| fs::set_permissions(d.join("d/e"), fs::Permissions::from_mode(0o700)).unwrap(),
            &["C /d", "C /d/e"],
        ),
        (
            "another attribute",
            &|d| rustix::fs::setxattr(d.join("f"), "user.note", b"x", XattrFlags::empty()).unwrap(),
            &["C /f"],
        ),
        (
            "another target",
            &|d| {
                fs::remove_file(d.join("l")).unwrap();
                symlink("g", d.join("l")).unwrap();
            },
            &["C /l"],
        ),
        (
            "a file for a directory",
            &|d| {
                fs::remove_dir_all(d.join("d")).unwrap();
                fs::write(d.join("d"), "").unwrap();
            },
            &["C /d"],
        ),
        (
            "a directory for a file",
            &|d| {
                fs::remove_file(d.join("f")).unwrap();
                fs::create_dir_all(d.join("f/g")).unwrap();
            },
            &["C /f", "A /f/g"],
        ),
        (
            "a rename",
            &|d| fs::rename(d.join("d/f"), d.join("d/moved")).unwrap(),
            &["C /d", "D /d/f", "A /d/moved"],
        ),
        (
            "a directory made anew",
            &|d| {
                fs::remove_dir_all(d.join("d")).unwrap();
                fs::create_dir(d.join("d")).unwrap();
            },
            &["C /d", "D /d/e", "D /d/f"],
        ),
        ("aufs's own names", &|d| fs::write(d.join(".wh..wh.aufs"), "").unwrap(), &[]),
    ];
    for (what, change, expected) in changes {
        let base = twins(&["d/e/", "d/f: file", "f: file", "l -> f"]);
        let [old, new] = ["old", "new"].map(|it| base.path().join(it));
        change(&new);
        assert_eq!(said(&old, &new), expected, "{what}");
    }
}

#[test]
fn files_count_once_and_directories_not() {
    let base = twins(&["same: 123", "d/changed: 1"]);
    let new = base.path().join("new");
    fs::write(new.join("d/changed"), "1234").unwrap();
    fs::write(new.join("d/added"), "12345678").unwrap();
    fs::hard_link(new.join("d/added"), new.join("d/again")).unwrap();
    fs::remove_file(new.join("same")).unwrap();
    let changes = compare(&base.path().join("old"), &new);
    assert_eq!(size_of(File::open(&new).unwrap().as_fd(), &changes).unwrap(), 12);
    // What has gone since does not count.
    fs::remove_dir_all(new.join("d")).unwrap();
    assert_eq!(size_of(File::open(&new).unwrap().as_fd(), &changes).unwrap(), 0);
}

/// What is at each path: nothing but that it is a directory, or what a file holds.
fn seen(root: &Path, path: &str, tree: &mut BTreeMap<String, Option<String>>) {
    let names = fs::read_dir(root.join(path)).unwrap().map(|it| it.unwrap().file_name());
    let names: Vec<String> = names.map(|it| it.into_string().unwrap()).collect();
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    let clear = |tree: &mut BTreeMap<String, Option<String>>, path: &str| {
        tree.retain(|it, _| it != path && !it.starts_with(&format!("{path}/")));
    };
    for victim in names.iter().filter_map(|it| it.strip_prefix(".wh.")) {
        clear(tree, &at(victim));
    }
    for name in names.iter().filter(|it| !it.starts_with(".wh.")) {
        let path = at(name);
        if root.join(&path).is_dir() {
            if tree.get(&path).is_some_and(Option::is_some) {
                clear(tree, &path);
            }
            tree.insert(path.clone(), None);
            seen(root, &path, tree);
        } else {
            clear(tree, &path);
            tree.insert(path.clone(), Some(fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abc](/[abc](/[abc])?)?(/|: x{0,3})", 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What differs, packed and unpacked as a layer, makes the new tree of the old one.
    #[test]
    fn a_difference_laid_on_the_old_tree_shows_the_new_one(old in lines(), new in lines()) {
        let base = tempfile::tempdir().unwrap();
        let [before, after, layer] = ["old", "new", "layer"].map(|it| base.path().join(it));
        for (path, lines) in [(&before, &old), (&after, &new), (&layer, &Vec::new())] {
            fs::create_dir(path).unwrap();
            plant(path, lines).unwrap();
        }
        let changes = compare(&before, &after);
        let mut archive = Vec::new();
        let root = File::open(&after).unwrap();
        pack_changes(root.as_fd(), &changes, &mut archive, &PackOptions::default()).unwrap();
        let options = ApplyOptions { owners: Owners::Caller, ..ApplyOptions::default() };
        apply(File::open(&layer).unwrap().as_fd(), archive.as_slice(), &options).unwrap();
        let (mut wanted, mut got) = Default::default();
        seen(&after, "", &mut wanted);
        seen(&before, "", &mut got);
        seen(&layer, "", &mut got);
        prop_assert_eq!(got, wanted);
    }
}
