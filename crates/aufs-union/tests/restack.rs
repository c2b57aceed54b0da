//! Branches that come, go and change under a union in use: it then shows what a union opened anew shows.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_testkit::model::{Branch, stacks};
use aufs_union::attr::Creator;
use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{BranchChange, Keep, New, Node, OpenFile, Union, UnionOptions, Users};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;
use rustix::fs::FileType;
use rustix::io::Errno;

const NAMES: [&str; 4] = ["a", "b", "d", "e"];
const PERMS: [&str; 4] = ["rw", "ro", "ro+wh", "rr+wh"];

fn me() -> Creator {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Creator { uid, gid, umask: 0o022 }
}

fn find(union: &Union, dir: &Arc<Node>, name: &str) -> Option<Arc<Node>> {
    union.lookup(dir, OsStr::new(name)).unwrap().map(|it| it.node)
}

/// Returns the nodes of all paths that the model uses, as far as they are shown.
fn known(union: &Union) -> BTreeMap<String, Arc<Node>> {
    let mut known = BTreeMap::new();
    let mut todo = vec![(String::new(), Arc::clone(union.root()))];
    while let Some((path, dir)) = todo.pop() {
        for name in NAMES {
            let Some(node) = find(union, &dir, name) else { continue };
            let path = format!("{path}/{name}");
            if node.file_type() == FileType::Directory {
                todo.push((path.clone(), Arc::clone(&node)));
            }
            known.insert(path, node);
        }
    }
    known
}

fn content(union: &Union, open: &OpenFile) -> String {
    let mut bytes = vec![0; 100];
    let count = union.read_at(open, &mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn names(union: &Union, dir: &Arc<Node>) -> BTreeSet<String> {
    let entries = union.read_directory(dir, 0, usize::MAX).unwrap();
    entries.iter().map(|it| it.name.to_string_lossy().into_owned()).collect()
}

/// What is shown at each path, and the link count of files.
type Shown = BTreeMap<String, (String, Option<u32>)>;

/// Returns all that is shown: what each entry is, its mode, names and bytes; listed and looked up.
fn shown(union: &Union) -> Shown {
    let root = (format!("{:?}", names(union, union.root())), None);
    let mut shown = BTreeMap::from([(String::new(), root)]);
    for (path, node) in known(union) {
        let attr = union.attributes(&node).unwrap();
        let (what, nlink) = match node.file_type() {
            FileType::Directory => (format!("{:?}", names(union, &node)), None),
            FileType::Symlink => (union.read_link(&node).unwrap().to_string_lossy().into_owned(), None),
            _ => (content(union, &union.open_file(&node).unwrap()), Some(attr.nlink)),
        };
        shown.insert(path, (format!("{:o} {} {} {what}", attr.mode, attr.uid, attr.mtime.tv_sec), nlink));
    }
    shown
}

fn without_link_counts(shown: &Shown) -> BTreeMap<&str, &str> {
    shown.iter().map(|(path, (what, _))| (path.as_str(), what.as_str())).collect()
}

/// Opens another union of the branches as they are now, which writes to none.
fn opened_anew(union: &Union) -> Union {
    let mut stack = union.branch_specs();
    for spec in &mut stack {
        if spec.perm.is_writable() {
            spec.perm = BranchPerm::ReadOnly { whiteouts: true };
        }
    }
    Union::open(&UnionOptions { stack, ..UnionOptions::default() }).unwrap()
}

fn perm(number: usize) -> BranchPerm {
    PERMS[number % PERMS.len()].parse().unwrap()
}

fn change_of(union: &Union, pool: &[PathBuf], (kind, at, which): (u8, u8, u8)) -> BranchChange {
    let specs = union.branch_specs();
    let (at, which) = (usize::from(at), usize::from(which));
    let path = specs[which % specs.len()].path.clone();
    match kind % 4 {
        0 | 1 => {
            let position = at.checked_sub(4).map(|it| it % (specs.len() + 1));
            let spec = BranchSpec { path: pool[which % pool.len()].clone(), perm: perm(at) };
            BranchChange::Add { position, spec }
        }
        2 => BranchChange::Remove { path },
        _ => BranchChange::Modify { path, perm: perm(at) },
    }
}

/// Changes something by the union, whatever it may be.
fn use_it(union: &Union, known: &BTreeMap<String, Arc<Node>>, (kind, at, which): (u8, u8, u8)) {
    let dirs = known.values().filter(|it| it.file_type() == FileType::Directory);
    let dirs: Vec<_> = std::iter::once(union.root()).chain(dirs).collect();
    let dir = dirs[usize::from(at) % dirs.len()];
    let name = OsStr::new(NAMES[usize::from(which) % NAMES.len()]);
    let node = known.values().nth(usize::from(at) % known.len().max(1));
    let done = match (kind % 7, node) {
        (0, _) => union.create(dir, name, 0o644, me()).map(drop),
        (1, _) => union.create_special(dir, name, New::Directory(0o755), me()).map(drop),
        (2, _) => union.unlink(dir, name),
        (3, _) => union.rmdir(dir, name),
        (4, Some(node)) => union.link(node, dir, name).map(drop),
        (5, Some(node)) => union.copy_up(node, Keep::All).map(drop),
        _ => union.read_directory(dir, 0, 9).map(drop),
    };
    if let Err(error) = done {
        let errno = error.errno();
        assert!(![Errno::IO, Errno::STALE, Errno::BADF, Errno::MFILE].contains(&errno), "{error}");
    }
}

/// Uses and changes a union in turn, and compares it after each change.
fn play(base: &Path, pool: &[Branch], steps: &[(bool, (u8, u8, u8))]) -> Result<(), TestCaseError> {
    let paths: Vec<PathBuf> = (0..pool.len()).map(|at| base.join(format!("b{at}"))).collect();
    for (path, branch) in paths.iter().zip(pool) {
        branch.tree.plant(path).unwrap();
    }
    let specs =
        paths.iter().zip(pool).take(pool.len().div_ceil(2)).enumerate().map(|(at, (path, branch))| {
            let whiteouts = branch.honors_whiteouts;
            let perm = if at == 0 { BranchPerm::ReadWrite } else { BranchPerm::ReadOnly { whiteouts } };
            BranchSpec { path: path.clone(), perm }
        });
    let options = UnionOptions { stack: specs.collect(), ..UnionOptions::default() };
    let mut union = Union::open(&options).unwrap();
    for &(uses, numbers) in steps {
        let held = known(&union);
        if uses {
            use_it(&union, &held, numbers);
            continue;
        }
        let open = known(&union).into_iter().filter(|it| it.1.file_type() == FileType::RegularFile);
        let open: Vec<_> = open.map(|(path, node)| (path, union.open_file(&node).unwrap())).collect();
        let open: Vec<_> = open.into_iter().map(|(path, it)| (path, content(&union, &it), it)).collect();
        let (before, specs) = (shown(&union), union.branch_specs());
        let change = change_of(&union, &paths, numbers);
        let is_used = |id: u64| usize::from(numbers.1) % 3 == 0 && id.is_multiple_of(2);
        let changed = union.change_branches(&change, |affected| Users {
            in_use: affected.losing.iter().filter(|it| is_used(it.id())).map(Arc::clone).collect(),
            written: Vec::new(),
        });
        let is_changed = matches!(changed, Ok(Some(_)));
        if let Err(error) = changed {
            let errno = error.errno();
            let allowed = [Errno::BUSY, Errno::INVAL, Errno::NOENT];
            prop_assert_eq!(allowed.contains(&errno), true, "{:?} {}", change, error);
            prop_assert_eq!(union.branch_specs(), specs);
        }
        let (after, anew) = (shown(&union), shown(&opened_anew(&union)));
        if is_changed {
            prop_assert_eq!(&after, &anew, "{:?}", change);
        } else {
            prop_assert_eq!(without_link_counts(&after), without_link_counts(&before), "no {:?}", change);
            prop_assert_eq!(without_link_counts(&after), without_link_counts(&anew), "no {:?}", change);
            // Hard links are completed even so, and then names that were hidden before do not count.
            for (path, (_, nlink)) in &after {
                let is_right = [&before, &anew].iter().any(|it| it[path].1 == *nlink);
                prop_assert_eq!(is_right, true, "{} has {:?} links, no {:?}", path, nlink, change);
            }
        }
        for (path, text, file) in &open {
            if is_used(file.node().id()) || file.node().has_name() {
                prop_assert_eq!(&content(&union, file), text, "{} was open during {:?}", path, change);
            }
        }
        let now = known(&union);
        for (path, node) in held {
            let is_dir = |node: &Arc<Node>| node.file_type() == FileType::Directory;
            match now.get(&path) {
                Some(shown) if is_dir(shown) && is_dir(&node) => {
                    prop_assert_eq!(shown.id(), node.id(), "{} after {:?}", path, change);
                }
                None if is_dir(&node) => prop_assert_eq!(names(&union, &node), BTreeSet::new()),
                _ => (),
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_change_of_branches_a_union_shows_what_a_new_one_shows(
        (first, second) in (stacks(), stacks()),
        steps in vec((any::<bool>(), any::<(u8, u8, u8)>()), 1..24),
    ) {
        let scratch = tempfile::tempdir()?;
        let pool: Vec<Branch> = first.into_iter().chain(second).collect();
        play(scratch.path(), &pool, &steps)?;
    }
}
