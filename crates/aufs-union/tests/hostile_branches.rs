//! Branches that hold what no aufs would have put there: every case a table of plants.
//!
//! `hostile_histories.rs` does the same at random, `fuse_hostile.rs` of aufs-cli through the mount.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

mod stack;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use aufs_testkit::hostile::{Kind, Outside, snapshot};
use aufs_testkit::tree::plant;
use aufs_union::attr::Creator;
use aufs_union::{New, Node, RenameMode, Union, UnionErrorKind};

use stack::{open, options};

fn me() -> Creator {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Creator { uid, gid, umask: 0o022 }
}

fn find(union: &Union, path: &str) -> Option<Arc<Node>> {
    let mut node = Arc::clone(union.root());
    for part in path.split('/').filter(|it| !it.is_empty()) {
        node = union.lookup(&node, OsStr::new(part)).unwrap()?.node;
    }
    Some(node)
}

fn names(union: &Union, dir: &str) -> Vec<String> {
    let dir = find(union, dir).unwrap();
    let entries = union.read_directory(&dir, 0, usize::MAX).unwrap();
    let names: BTreeSet<_> = entries.iter().map(|it| it.name.to_string_lossy().into_owned()).collect();
    names.into_iter().collect()
}

fn text(union: &Union, path: &str) -> String {
    let open = union.open_file(&find(union, path).unwrap()).unwrap();
    let mut buffer = [0; 64];
    let count = union.read_at(&open, &mut buffer, 0).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// Asks for names before and after the directories were read, as the two ways to find them must agree.
fn shows(union: &Union, path: &str) -> bool {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let by_name = find(union, path).is_some();
    assert_eq!(names(union, dir).iter().any(|it| it == name), by_name, "listing and lookup of {path}");
    assert_eq!(find(union, path).is_some(), by_name, "lookup of {path} after listing");
    by_name
}

#[test]
fn a_marker_counts_by_its_name_whatever_its_type() {
    for kind in Kind::all() {
        for branch in ["b0", "b1"] {
            let base = tempfile::tempdir().unwrap();
            let outside = Outside::new(&base.path().join("outside")).unwrap();
            plant(&base.path().join("b0"), &["d/upper: u"]).unwrap();
            plant(&base.path().join("b1"), &["d/middle: m"]).unwrap();
            plant(&base.path().join("b2"), &["a: low", "d/lower: l", "e/x: low"]).unwrap();
            for marker in [".wh.a", "d/.wh..wh..opq", ".wh.e"] {
                kind.plant(&base.path().join(branch).join(marker), &outside).unwrap();
            }
            let below = ["b1", "b2"].map(|it| snapshot(&base.path().join(it)).unwrap());
            let what = format!("{kind:?} on {branch}");
            let merged: &[&str] = if branch == "b0" { &["upper"] } else { &["middle", "upper"] };
            {
                let union = open(base.path(), 2);
                assert!(!shows(&union, "a") && !shows(&union, "e"), "{what}");
                assert_eq!(names(&union, "d"), merged, "{what}");
                union.create(union.root(), OsStr::new("a"), 0o644, me()).unwrap();
                union.create_special(union.root(), OsStr::new("e"), New::Directory(0o755), me()).unwrap();
                assert_eq!((text(&union, "a"), names(&union, "e")), (String::new(), vec![]), "{what}");
            }
            {
                let union = open(base.path(), 2);
                assert_eq!((text(&union, "a"), names(&union, "e")), (String::new(), vec![]), "{what}");
                assert_eq!(names(&union, "d"), merged, "{what}");
                union.unlink(union.root(), OsStr::new("a")).unwrap();
                union.rmdir(union.root(), OsStr::new("e")).unwrap();
                let d = find(&union, "d").unwrap();
                for name in merged {
                    union.unlink(&d, OsStr::new(name)).unwrap();
                }
                union.rmdir(union.root(), OsStr::new("d")).unwrap();
                assert_eq!(names(&union, ""), [""; 0], "{what}");
            }
            assert_eq!(names(&open(base.path(), 2), ""), [""; 0], "{what}, opened again");
            assert!(["b1", "b2"].map(|it| snapshot(&base.path().join(it)).unwrap()) == below, "{what}");
            assert!(outside.is_untouched().unwrap(), "{what}");
        }
    }
}

#[test]
fn bookkeeping_of_another_type_is_named_and_left_alone() {
    for name in [".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", ".wh..wh.draft"] {
        for kind in Kind::all() {
            let base = tempfile::tempdir().unwrap();
            let outside = Outside::new(&base.path().join("outside")).unwrap();
            plant(&base.path().join("b1"), &["a: low"]).unwrap();
            let lower = options(base.path(), 1).stack.pop().unwrap().path.join(name);
            kind.plant(&lower, &outside).unwrap();
            drop(open(base.path(), 1));
            let upper = base.path().join("b0").join(name);
            aufs_host::remove::remove_tree(fs::File::open(base.path().join("b0")).unwrap(), OsStr::new(name))
                .unwrap();
            kind.plant(&upper, &outside).unwrap();
            let before = snapshot(&upper).unwrap();
            let fits = if name == ".wh..wh.aufs" {
                matches!(kind, Kind::EmptyFile | Kind::Text)
            } else {
                matches!(kind, Kind::EmptyDir | Kind::FullDir)
            };
            let what = format!("{name} is {kind:?}");
            match Union::open(&options(base.path(), 1)) {
                Ok(union) => {
                    assert!(fits, "{what}: opened");
                    assert_eq!(names(&union, ""), ["a"], "{what}");
                    union.unlink(union.root(), OsStr::new("a")).unwrap();
                    assert!(fs::symlink_metadata(base.path().join("b0/.wh.a")).unwrap().is_file(), "{what}");
                }
                Err(error) => {
                    assert!(!fits, "{what}: {error}");
                    assert!(error.to_string().contains(name), "{what}: {error}");
                    assert!(snapshot(&upper).unwrap() == before, "{what}: changed");
                }
            }
            assert!(outside.is_untouched().unwrap(), "{what}");
        }
    }
}

/// What a crash, of ours or of kernel aufs, may leave at the root of the writable branch.
#[test]
fn what_a_crash_left_behind_is_not_shown_and_leads_nowhere() {
    for kind in Kind::all() {
        let base = tempfile::tempdir().unwrap();
        let outside = Outside::new(&base.path().join("outside")).unwrap();
        plant(&base.path().join("b0"), &["d/kept: k", ".wh..wh.draft/", ".wh..wh.plnk/", ".wh..wh.orph/"])
            .unwrap();
        plant(&base.path().join("b1"), &["d/low: l"]).unwrap();
        for left in [
            ".wh..wh.draft/4711.0",
            ".wh..wh.plnk/12.34",
            ".wh..wh.plnk/12.34.56",
            ".wh..wh.plnk/odd",
            ".wh..wh.orph/0000000000000012.0000000000000034",
            "d/.wh..wh.low.3f2a",
            ".wh..wh.d.3f2a",
        ] {
            kind.plant(&base.path().join("b0").join(left), &outside).unwrap();
        }
        {
            let union = open(base.path(), 1);
            assert_eq!(fs::read_dir(base.path().join("b0/.wh..wh.draft")).unwrap().count(), 0, "{kind:?}");
            assert_eq!(
                (names(&union, ""), names(&union, "d")),
                (vec!["d".into()], vec!["kept".into(), "low".into()])
            );
            let d = find(&union, "d").unwrap();
            union.unlink(&d, OsStr::new("low")).unwrap();
            union.unlink(&d, OsStr::new("kept")).unwrap();
            union.rmdir(union.root(), OsStr::new("d")).unwrap();
            union.flush_pseudo_links().unwrap();
        }
        assert_eq!(names(&open(base.path(), 1), ""), [""; 0], "{kind:?}");
        assert!(outside.is_untouched().unwrap(), "{kind:?}");
        assert_eq!(fs::read_to_string(base.path().join("b1/d/low")).unwrap(), "l");
    }
}

/// What is done with `x`, which has a whiteout beside it.
type Act = (&'static str, fn(&Union, &Arc<Node>) -> Result<(), UnionErrorKind>, &'static [&'static str]);

fn rename(union: &Union, from: &str, to: &str, mode: RenameMode) -> Result<(), UnionErrorKind> {
    let root = union.root();
    union.rename(root, OsStr::new(from), root, OsStr::new(to), mode).map_err(|it| it.kind)
}

#[test]
fn a_name_beside_its_whiteout_is_shown_and_can_be_removed_renamed_and_replaced() {
    let acts: [Act; 6] = [
        ("nothing", |_, _| Ok(()), &["other", "x"]),
        (
            "removed",
            |union, node| {
                let name = OsStr::new("x");
                if node.file_type() == rustix::fs::FileType::Directory {
                    let inside = names(union, "x");
                    inside.iter().for_each(|it| union.unlink(node, OsStr::new(it)).unwrap());
                    return union.rmdir(union.root(), name).map_err(|it| it.kind);
                }
                union.unlink(union.root(), name).map_err(|it| it.kind)
            },
            &["other"],
        ),
        ("renamed", |union, _| rename(union, "x", "y", RenameMode::Replace), &["other", "y"]),
        ("replaced", |union, _| rename(union, "other", "x", RenameMode::Replace), &["x"]),
        ("swapped", |union, _| rename(union, "other", "x", RenameMode::Exchange), &["other", "x"]),
        (
            "changed",
            |union, node| {
                let change = aufs_union::attr::SetAttr { mode: Some(0o700), ..Default::default() };
                union.set_attributes(node, &change).map(drop).map_err(|it| it.kind)
            },
            &["other", "x"],
        ),
    ];
    for is_dir in [false, true] {
        for branch in [0, 1, 2] {
            for (what, act, expected) in &acts {
                let base = tempfile::tempdir().unwrap();
                let entry =
                    |text: &str| if is_dir { format!("x/{text}: {text}") } else { format!("x: {text}") };
                let other = if is_dir { "other/" } else { "other: o" };
                for n in 0..4 {
                    let root = base.path().join(format!("b{n}"));
                    let shown = [entry("shown"), ".wh.x: ".to_owned()];
                    match n {
                        _ if n == branch => plant(&root, &shown).unwrap(),
                        _ if branch < n => plant(&root, &[entry("hidden")]).unwrap(),
                        _ => plant(&root, &["z: "]).unwrap(),
                    }
                }
                plant(&base.path().join("b0"), &[other]).unwrap();
                let below = [1, 2, 3].map(|n| snapshot(&base.path().join(format!("b{n}"))).unwrap());
                let what = format!("{what}, directory: {is_dir}, branch {branch}");
                let look = |union: &Union| {
                    let mut seen = names(union, "");
                    seen.retain(|it| it != "z");
                    for name in seen.clone() {
                        assert!(shows(union, &name), "{what}");
                        if find(union, &name).unwrap().file_type() == rustix::fs::FileType::Directory {
                            seen.extend(names(union, &name).iter().map(|it| format!("{name}/{it}")));
                        } else {
                            seen.push(format!("{name}: {}", text(union, &name)));
                        }
                    }
                    seen
                };
                let after = {
                    let union = open(base.path(), 3);
                    let node = find(&union, "x").unwrap();
                    if is_dir {
                        assert_eq!(names(&union, "x"), ["shown"], "{what}");
                    } else {
                        assert_eq!(text(&union, "x"), "shown", "{what}");
                    }
                    let done = act(&union, &node);
                    let seen = look(&union);
                    match done {
                        Ok(()) => {
                            let top: Vec<_> = seen.iter().filter(|it| !it.contains(['/', ':'])).collect();
                            assert_eq!(top, expected.iter().collect::<Vec<_>>(), "{what}");
                        }
                        // What lies below moves with mv alone.
                        Err(UnionErrorKind::CrossBranch) => assert!(is_dir && branch != 0, "{what}"),
                        Err(UnionErrorKind::NotEmpty) => {
                            assert!(is_dir && what.starts_with("replaced"), "{what}")
                        }
                        Err(kind) => panic!("{what}: {kind}"),
                    }
                    assert!(!seen.iter().any(|it| it.contains("hidden")), "{what}: {seen:?}");
                    seen
                };
                assert_eq!(look(&open(base.path(), 3)), after, "{what}, opened again");
                assert!(
                    [1, 2, 3].map(|n| snapshot(&base.path().join(format!("b{n}"))).unwrap()) == below,
                    "{what}"
                );
            }
        }
    }
}

/// A whiteout below what hides it means nothing, until that goes; above, it hides.
#[test]
fn a_whiteout_below_a_name_is_moot_and_one_above_hides() {
    for (case, lines, shown, after_removal) in [
        ("below a file", [&["x: top"][..], &[".wh.x: "], &["x: low"]], Some("top"), None),
        ("below a lower file", [&[], &["x: mid"], &[".wh.x: "]], Some("mid"), None),
        ("above a file", [&[".wh.x: "], &["x: mid"], &["x: low"]], None, None),
        ("between two files", [&["x: top"], &[".wh.x: "], &["x: low"]], Some("top"), None),
        ("beside and below", [&["x: top", ".wh.x: "], &[".wh.x: "], &["x: low"]], Some("top"), None),
    ] {
        let base = tempfile::tempdir().unwrap();
        for (n, lines) in lines.iter().enumerate() {
            plant(&base.path().join(format!("b{n}")), lines).unwrap();
        }
        let below = [1, 2].map(|n| snapshot(&base.path().join(format!("b{n}"))).unwrap());
        let union = open(base.path(), 2);
        let look = |union: &Union| shows(union, "x").then(|| text(union, "x"));
        assert_eq!(look(&union).as_deref(), shown, "{case}");
        if shown.is_some() {
            union.unlink(union.root(), OsStr::new("x")).unwrap();
            assert_eq!(look(&union).as_deref(), after_removal, "{case}, removed");
        }
        drop(union);
        let union = open(base.path(), 2);
        assert_eq!(look(&union).as_deref(), after_removal, "{case}, opened again");
        union.create(union.root(), OsStr::new("x"), 0o644, me()).unwrap();
        assert_eq!(look(&union).as_deref(), Some(""), "{case}, made again");
        assert!([1, 2].map(|n| snapshot(&base.path().join(format!("b{n}"))).unwrap()) == below, "{case}");
    }
}

fn links_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().nlink()
}

/// A file system gives a file only so many names, ext4 65000.
#[test]
fn whiteouts_get_a_new_base_when_the_old_one_has_no_links_left() {
    const NAMES_MAX: usize = 70_000;
    let base = tempfile::tempdir().unwrap();
    plant(&base.path().join("b1"), &["a: low", "b: low", "c: low", "d/x: low"]).unwrap();
    drop(open(base.path(), 1));
    let (first, elsewhere) = (base.path().join("b0/.wh..wh.aufs"), base.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let given = (0..NAMES_MAX).find(|n| fs::hard_link(&first, elsewhere.join(n.to_string())).is_err());
    let Some(given) = given else {
        return println!("skipped: this file system gives a file more than {NAMES_MAX} names");
    };
    println!("{given} names were given");
    let union = open(base.path(), 1);
    for name in ["a", "b"] {
        union.unlink(union.root(), OsStr::new(name)).unwrap();
        assert!(!shows(&union, name), "{name}");
    }
    union.unlink(&find(&union, "d").unwrap(), OsStr::new("x")).unwrap();
    union.rmdir(union.root(), OsStr::new("d")).unwrap();
    union.create_special(union.root(), OsStr::new("d"), New::Directory(0o755), me()).unwrap();
    let whiteouts =
        [".wh.a", ".wh.b", "d/.wh..wh..opq", ".wh..wh.aufs"].map(|it| base.path().join("b0").join(it));
    let inodes: BTreeSet<u64> = whiteouts.iter().map(|it| fs::metadata(it).unwrap().ino()).collect();
    assert_eq!(inodes.len(), 1, "one base again for all of them");
    assert_ne!(inodes.first(), Some(&fs::metadata(elsewhere.join("0")).unwrap().ino()));
    assert_eq!(links_of(&first), 4);
    drop(union);
    let union = open(base.path(), 1);
    assert_eq!((names(&union, ""), names(&union, "d")), (vec!["c".to_owned(), "d".to_owned()], vec![]));
}
