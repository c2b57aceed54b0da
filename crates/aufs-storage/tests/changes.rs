//! What `changes` says of branches: Docker's own cases, and those in which Docker's driver was wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use archive_kit::without_moot_whiteouts;
use aufs_storage::changes::{ChangeKind, changes};
use aufs_testkit::tree::plant;
use proptest::prelude::*;

/// The time that all directories get, so that only meant differences count.
const THEN: Duration = Duration::from_secs(1_000_000_000);

/// Branches, the topmost first.
struct Stack {
    scratch: tempfile::TempDir,
    count: usize,
}

impl Stack {
    /// Plants branches; each is a list of tree lines, the first that of the writable branch.
    fn new(branches: &[&[&str]]) -> Self {
        let stack = Self { scratch: tempfile::tempdir().unwrap(), count: branches.len() };
        for (at, lines) in branches.iter().enumerate() {
            fs::create_dir(stack.branch(at)).unwrap();
            plant(&stack.branch(at), lines).unwrap();
        }
        for at in 0..branches.len() {
            stack.settle(&stack.branch(at), SystemTime::UNIX_EPOCH + THEN);
        }
        stack
    }

    fn branch(&self, at: usize) -> PathBuf {
        self.scratch.path().join(at.to_string())
    }

    /// Gives all directories of a branch one time.
    fn settle(&self, directory: &Path, time: SystemTime) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                self.settle(&path, time);
            }
        }
        File::open(directory).unwrap().set_modified(time).unwrap();
    }

    fn changes(&self) -> Vec<String> {
        let branches: Vec<File> = (0..self.count).map(|at| File::open(self.branch(at)).unwrap()).collect();
        let (rw, lowers) = branches.split_first().unwrap();
        let lowers: Vec<_> = lowers.iter().map(AsFd::as_fd).collect();
        changes(rw.as_fd(), &lowers).unwrap().iter().map(ToString::to_string).collect()
    }
}

/// What it is about, branches, and changes.
type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str]);

fn check(table: &[Case<'_>]) {
    for (case, branches, expected) in table {
        // Sizes of directories are compared, too; they differ with the number of names on some file systems only.
        assert_eq!(Stack::new(branches).changes(), *expected, "{case}");
    }
}

#[test]
fn kinds_are_told_by_what_lies_below() {
    check(&[
        ("nothing", &[&[], &["a: 1"]], &[]),
        ("a base", &[&["a: 1", "d/b: 2"]], &["A /a", "A /d", "A /d/b"]),
        ("a new file", &[&["a: 1"], &["b: 2"]], &["A /a"]),
        ("a changed file", &[&["a: 1"], &["a: 2"]], &["C /a"]),
        ("a copy of a file", &[&["a: 1"], &["a: 1"]], &["C /a"]),
        ("a file of a deep branch", &[&["a: 1"], &[], &[], &["a: 2"]], &["C /a"]),
        ("a removed file", &[&[".wh.a: "], &["a: 1"]], &["D /a"]),
        ("a removed directory", &[&[".wh.d: "], &["d/e/f: 1"]], &["D /d"]),
        ("a whiteout of a name with a dot", &[&[".wh..baz: "], &[".baz: "]], &["D /.baz"]),
        ("a file in place of a directory", &[&["d: 1"], &["d/e: 1"]], &["C /d"]),
        ("a directory in place of a file", &[&["d/e: 1"], &["d: 1"]], &["C /d", "A /d/e"]),
        ("a link that leads nowhere", &[&["l -> x"], &["l -> y"]], &["C /l"]),
        (
            "bookkeeping",
            &[
                &[".wh..wh.aufs: ", ".wh..wh.plnk/1.2: ", "d/.wh..wh.e.1a2b/x: ", ".wh.: ", ".wh...: "],
                &["d/"],
            ],
            &[],
        ),
    ]);
}

#[test]
fn directories_are_named_where_something_came_or_went() {
    // moby#13590: a changed file names nothing else, an added one the directories above.
    check(&[
        ("changed", &[&["1/2/3/file: x"], &["1/2/3/file: y"]], &["C /1/2/3/file"]),
        ("added", &[&["1/2/3/new: x"], &["1/2/3/file: y"]], &["C /1", "C /1/2", "C /1/2/3", "A /1/2/3/new"]),
        ("removed", &[&["1/2/.wh.file: "], &["1/2/file: y"]], &["C /1", "C /1/2", "D /1/2/file"]),
        ("below a new one", &[&["1/2/3: x"], &["1/y: "]], &["C /1", "A /1/2", "A /1/2/3"]),
        ("the root", &[&["a: "], &[]], &["A /a"]),
        ("beside a longer name", &[&["d/a: ", "d-x: "], &["d/"]], &["C /d", "A /d-x", "A /d/a"]),
    ]);
}

#[test]
fn a_directory_counts_as_changed_by_its_own_attributes() {
    let stack = Stack::new(&[&["d/", "e/", "f/", "g/"], &["d/", "e/", "f/", "g/"]]);
    let in_rw = |name: &str| stack.branch(0).join(name);
    let time = |name: &str, extra: Duration| {
        let time = SystemTime::UNIX_EPOCH + THEN + extra;
        File::open(in_rw(name)).unwrap().set_modified(time).unwrap();
    };
    fs::set_permissions(in_rw("d"), fs::Permissions::from_mode(0o700)).unwrap();
    time("e", Duration::from_secs(1));
    // An archive may have whole seconds only.
    time("f", Duration::from_nanos(5));
    assert_eq!(stack.changes(), ["C /d", "C /e"]);
    let below = File::open(stack.branch(1).join("f")).unwrap();
    below.set_modified(SystemTime::UNIX_EPOCH + THEN + Duration::from_nanos(7)).unwrap();
    assert_eq!(stack.changes(), ["C /d", "C /e", "C /f"]);
}

#[test]
fn what_the_branches_below_hide_is_not_there() {
    check(&[
        ("removed in between, then made anew", &[&["a: 3"], &[".wh.a: "], &["a: 1"]], &["A /a"]),
        ("its directory removed in between", &[&["d/a: 3"], &[".wh.d: "], &["d/a: 1"]], &["A /d", "A /d/a"]),
        (
            "a directory above removed in between",
            &[&["d/e/a: 3"], &["x/"], &[".wh.d: "], &["d/e/a: 1"]],
            &["A /d", "A /d/e", "A /d/e/a"],
        ),
        (
            "an opaque directory in between",
            &[&["d/a: 3", "d/b: 3"], &["d/.wh..wh..opq: ", "d/b: 2"], &["d/a: 1", "d/b: 1"]],
            &["C /d", "A /d/a", "C /d/b"],
        ),
        (
            "an opaque root in between",
            &[&["a: 3", "b: 3"], &[".wh..wh..opq: ", "b: 2"], &["a: 1"]],
            &["A /a", "C /b"],
        ),
        ("a name beats its whiteout", &[&["a: 3"], &[".wh.a: ", "a: 2"], &["a: 1"]], &["C /a"]),
        ("the same in the writable branch", &[&["a: 3", ".wh.a: "], &["a: 1"]], &["C /a"]),
        ("a file between directories", &[&["d/a: 3"], &["d: 2"], &["d/a: 1"]], &["C /d", "C /d/a"]),
        ("a link to a directory below", &[&["d/a: 3"], &["d -> e", "e/a: 1"]], &["C /d", "A /d/a"]),
    ]);
}

#[test]
fn an_opaque_directory_reports_what_it_hides() {
    check(&[
        (
            "removed and made anew",
            &[&["d/.wh..wh..opq: ", "d/new: "], &["d/old: ", "d/sub/x: "]],
            &["C /d", "A /d/new", "D /d/old", "D /d/sub"],
        ),
        ("with a name that was there", &[&["d/.wh..wh..opq: ", "d/a: 2"], &["d/a: 1"]], &["C /d/a"]),
        (
            "directories in it are cut off, too",
            &[&["d/.wh..wh..opq: ", "d/e/new: "], &["d/e/old: ", "d/e/f/x: "]],
            &["C /d", "C /d/e", "D /d/e/f", "A /d/e/new", "D /d/e/old"],
        ),
        (
            "of several branches",
            &[&["d/.wh..wh..opq: "], &["d/.wh.a: ", "d/b: "], &["d/a: ", "d/b: ", "d/c: "]],
            &["C /d", "D /d/b", "D /d/c"],
        ),
        (
            "with whiteouts beside",
            &[&["d/.wh..wh..opq: ", "d/.wh.a: ", "d/.wh.x: "], &["d/a: "]],
            &["C /d", "D /d/a"],
        ),
        ("the root", &[&[".wh..wh..opq: ", "a: "], &["b: ", "c/d: "]], &["A /a", "D /b", "D /c"]),
        ("which hides nothing", &[&["d/.wh..wh..opq: ", "d/a: "], &["x: "]], &["A /d", "A /d/a"]),
    ]);
}

/// containers/storage's Echo: a path of nine directories is removed at some depth, and what is below made anew.
#[test]
fn a_path_made_anew_below_a_removed_directory_is_new() {
    let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for depth in 0..names.len() {
        let base = format!("{}/file: x", names.join("/"));
        let above = &names[..depth];
        let path = |names: &[&str]| names.join("/");
        let whiteout = path(&[above, &[&format!(".wh.{}: ", names[depth])]].concat());
        let prefixes = |from: usize, to: usize, kind: &str| {
            (from..to).map(|end| format!("{kind} /{}", path(&names[..end]))).collect::<Vec<_>>()
        };
        let removed = Stack::new(&[&[&whiteout], &[&base]]);
        let gone = format!("D /{}", path(&names[..=depth]));
        assert_eq!(removed.changes(), [prefixes(1, depth + 1, "C"), vec![gone]].concat(), "{depth}");
        let anew = Stack::new(&[&[&base], &[&whiteout], &[&base]]);
        let file = format!("A /{}/file", path(&names));
        let expected =
            [prefixes(1, depth + 1, "C"), prefixes(depth + 1, names.len() + 1, "A"), vec![file]].concat();
        assert_eq!(anew.changes(), expected, "{depth}");
    }
}

#[test]
fn links_of_the_branch_are_not_followed() {
    let stack = Stack::new(&[&["a: "], &["b: "]]);
    symlink(stack.branch(1), stack.branch(0).join("l")).unwrap();
    symlink("/", stack.branch(1).join("l")).unwrap();
    assert_eq!(stack.changes(), ["A /a", "C /l"]);
}

/// A name of a tree of three levels.
fn paths() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab](/[ab](/[ab])?)?", 0..6)
}

/// What a union of branches shows, by the simplest means: from the bottom, each branch changes the tree.
fn painted(branches: &[PathBuf], tree: &mut std::collections::BTreeSet<String>) {
    for branch in branches.iter().rev() {
        paint(branch, "", tree);
    }
}

fn paint(directory: &Path, path: &str, tree: &mut std::collections::BTreeSet<String>) {
    let names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let clear = |tree: &mut std::collections::BTreeSet<String>, path: &str| {
        tree.retain(|it| it != path && !it.starts_with(&format!("{path}/")));
    };
    if names.iter().any(|it| it == ".wh..wh..opq") {
        tree.retain(|it| !it.starts_with(&format!("{path}/")));
    }
    for victim in names.iter().filter_map(|it| it.strip_prefix(".wh.")) {
        clear(tree, &format!("{path}/{victim}"));
    }
    for name in names.iter().filter(|it| !it.starts_with(".wh.")) {
        let path = format!("{path}/{name}");
        tree.insert(path.clone());
        paint(&directory.join(name), &path, tree);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Trees of directories alone, in which a change is that a name comes or goes.
    #[test]
    fn additions_and_deletions_are_the_difference_of_two_views(
        branches in prop::collection::vec((paths(), paths(), prop::option::of("[ab](/[ab])?")), 2..5)
    ) {
        let lines: Vec<Vec<String>> = branches.iter().map(|(directories, whiteouts, opaque)| {
            let there = |it: &String| directories.iter().any(|path| *path == *it || path.starts_with(&format!("{it}/")));
            let mut lines: Vec<String> = directories.iter().map(|it| format!("{it}/")).collect();
            for whiteout in whiteouts.iter().filter(|it| !there(it)) {
                let (above, name) = whiteout.rsplit_once('/').map_or(("", whiteout.as_str()), |it| it);
                let above = if above.is_empty() { String::new() } else { format!("{above}/") };
                lines.push(format!("{above}.wh.{name}: "));
            }
            // A parent that only a whiteout asked for may be the victim of another.
            lines.extend(opaque.iter().map(|it| format!("{it}/.wh..wh..opq: ")));
            lines
        }).collect();
        let lines: Vec<Vec<&str>> = lines.iter().map(|it| it.iter().map(String::as_str).collect()).collect();
        let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
        let stack = Stack::new(&lines);
        for at in 0..stack.count {
            without_moot_whiteouts(&stack.branch(at));
        }
        let all: Vec<PathBuf> = (0..stack.count).map(|at| stack.branch(at)).collect();
        let (mut before, mut after) = Default::default();
        painted(&all[1..], &mut before);
        painted(&all, &mut after);
        let files: Vec<File> = all.iter().map(|it| File::open(it).unwrap()).collect();
        let lowers: Vec<_> = files[1..].iter().map(AsFd::as_fd).collect();
        let said = changes(files[0].as_fd(), &lowers).unwrap();
        let of_kind = |kind| {
            said.iter().filter(move |it| it.kind == kind).map(|it| it.path.to_str().unwrap().to_owned())
        };
        let added: Vec<String> = of_kind(ChangeKind::Add).collect();
        prop_assert_eq!(added, after.difference(&before).cloned().collect::<Vec<_>>());
        // Of what went, the uppermost is named; a whiteout of what was not there is named, too.
        let deleted: Vec<String> = of_kind(ChangeKind::Delete).filter(|it| before.contains(it)).collect();
        let gone = before.difference(&after);
        let uppermost = gone.filter(|it| after.contains(it.rsplit_once('/').unwrap().0) || it.matches('/').count() == 1);
        prop_assert_eq!(deleted, uppermost.cloned().collect::<Vec<_>>());
    }
}
