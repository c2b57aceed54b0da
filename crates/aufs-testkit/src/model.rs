//! The reference model: branches merged by recursion over trees in memory, and random histories.
//!
//! Written for clearness, from the rules alone, and without the union's code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::op::Op;
use crate::tree::Item;

/// A branch: what it holds, and whether its whiteouts count.
#[derive(Clone)]
pub struct Branch {
    /// What lies in it, whiteouts and markers included.
    pub tree: Item,
    /// `rw` and `+wh` honor whiteouts.
    pub honors_whiteouts: bool,
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} honoring whiteouts: {}", self.tree.lines(), self.honors_whiteouts)
    }
}

/// The tree that `branches`, topmost first, show.
pub fn merge(branches: &[Branch]) -> Item {
    let roots = branches.iter().filter_map(|it| as_dir(&it.tree).map(|dir| (dir, it.honors_whiteouts)));
    merge_dirs(&cut_at_opaque(roots.collect()))
}

type Entries = BTreeMap<String, Item>;

fn as_dir(item: &Item) -> Option<&Entries> {
    match item {
        Item::Dir(entries) => Some(entries),
        _ => None,
    }
}

/// An opaque directory hides those below it.
fn cut_at_opaque(mut dirs: Vec<(&Entries, bool)>) -> Vec<(&Entries, bool)> {
    let opaque = dirs.iter().position(|(dir, honors)| *honors && dir.contains_key(".wh..wh..opq"));
    if let Some(at) = opaque {
        dirs.truncate(at + 1);
    }
    dirs
}

fn merge_dirs(dirs: &[(&Entries, bool)]) -> Item {
    let names: BTreeSet<&String> =
        dirs.iter().flat_map(|(dir, _)| dir.keys()).filter(|name| !name.starts_with(".wh.")).collect();
    let shown = names.into_iter().filter_map(|name| Some((name.clone(), merge_name(dirs, name)?)));
    Item::Dir(shown.collect())
}

/// The first entry wins; directories go on merging past files, until a whiteout.
fn merge_name(dirs: &[(&Entries, bool)], name: &str) -> Option<Item> {
    let mut merged: Vec<(&Entries, bool)> = Vec::new();
    for (dir, honors) in dirs {
        match dir.get(name) {
            Some(Item::Dir(entries)) => merged.push((entries, *honors)),
            Some(item) if merged.is_empty() => return Some(item.clone()),
            _ => {}
        }
        if *honors && dir.contains_key(&format!(".wh.{name}")) {
            break; // A whiteout hides what lies below, not what lies beside it.
        }
    }
    if merged.is_empty() { None } else { Some(merge_dirs(&cut_at_opaque(merged))) }
}

/// Whether the stack hides no name of a file whose other names it shows.
///
/// Only then can the link count of a file on a lower branch be right: nobody
/// counts there what a branch above hides.
pub fn shows_all_links(branches: &[Branch]) -> bool {
    let (mut there, mut shown) = (BTreeMap::new(), BTreeMap::new());
    branches.iter().for_each(|it| it.tree.count_names(&mut there));
    merge(branches).count_names(&mut shown);
    shown.iter().all(|(file, count)| there.get(file) == Some(count))
}

const PATHS: [&str; 14] =
    ["a", "b", "d", "e", "d/a", "d/b", "d/e", "e/a", "e/d", "d/e/a", "d/e/b", "d/e/d", "e/d/a", "e/d/b"];

const MARKERS: [&str; 7] =
    [".wh.a", ".wh.d", "d/.wh.a", "d/.wh.e", "d/.wh..wh..opq", "d/e/.wh..wh..opq", "e/.wh.d"];

/// Stacks of one to six branches over a handful of names, so that they collide often.
pub fn stacks() -> impl Strategy<Value = Vec<Branch>> {
    let line = prop_oneof![
        2 => (select(&PATHS[..]), 0..3_u32).prop_map(|(path, n)| format!("{path} ={n}: linked {n}")),
        4 => (select(&PATHS[..]), any::<u8>()).prop_map(|(path, n)| format!("{path}: content {n}")),
        4 => select(&PATHS[..]).prop_map(|path| format!("{path}/")),
        1 => (select(&PATHS[..]), select(&PATHS[..])).prop_map(|(path, to)| format!("{path} -> {to}")),
        2 => select(&MARKERS[..]).prop_map(|path| format!("{path}:")),
    ];
    let branch = (vec(line, 0..12), any::<bool>())
        .prop_map(|(lines, honors_whiteouts)| Branch { tree: Item::from_lines(&lines), honors_whiteouts });
    vec(branch, 1..7).prop_map(|mut branches| {
        for (index, branch) in branches.iter_mut().enumerate() {
            branch.tree.renumber(FILES_MAX * u32::try_from(index).unwrap_or_default());
        }
        if let Some(top) = branches.first_mut() {
            top.honors_whiteouts = true;
        }
        branches
    })
}

/// Puts stacks beside each other into one, the n-th below `tn/`.
pub fn side_by_side(stacks: Vec<Vec<Branch>>) -> Vec<Branch> {
    let height = stacks.iter().map(Vec::len).max().unwrap_or_default();
    let mut joined = vec![Branch { tree: Item::empty_dir(), honors_whiteouts: true }; height];
    for (n, stack) in stacks.into_iter().enumerate() {
        for (mut branch, joined) in stack.into_iter().zip(&mut joined) {
            branch.tree.renumber(FILES_MAX * 100 * u32::try_from(n).unwrap_or_default());
            if let Item::Dir(entries) = &mut joined.tree {
                entries.insert(format!("t{n}"), branch.tree);
            }
            joined.honors_whiteouts &= branch.honors_whiteouts;
        }
    }
    if let Some(top) = joined.first_mut() {
        top.honors_whiteouts = true;
    }
    joined
}

/// As many histories as `dirs`, each on names below its directory.
pub fn histories_beside(dirs: [&'static str; 4], len_max: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    let [a, b, c, d] = dirs.map(|dir| histories_in(dir, len_max));
    (a, b, c, d).prop_map(|(a, b, c, d)| vec![a, b, c, d])
}

/// How many cases a test makes: `MODEL_CASES` in the environment, else `default`.
pub fn cases(default: u32) -> u32 {
    std::env::var("MODEL_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// More than the numbered files of a branch.
const FILES_MAX: u32 = 100;

/// Random histories of calls on the same names, at most `len_max` of them.
pub fn histories(len_max: usize) -> impl Strategy<Value = Vec<Op>> {
    histories_in("", len_max)
}

/// As [`histories`], on names below the directory `dir`, which ends in a slash.
pub fn histories_in(dir: &'static str, len_max: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(simple_calls(&PATHS, dir), 1..=len_max)
}

/// Calls on `names` below `dir` that a union answers without a mount too.
pub(crate) fn simple_calls(
    names: &'static [&'static str],
    dir: &'static str,
) -> impl Strategy<Value = Op> + use<> {
    let path = || select(names).prop_map(move |path| format!("{dir}{path}"));
    let target = select(names).prop_map(str::to_owned);
    // Only root may give files away.
    let own = rustix::process::geteuid();
    let uid = move || select(if own.is_root() { vec![0, 7] } else { vec![own.as_raw()] });
    let data = || select(&["", "x", "longer text"][..]).prop_map(str::to_owned);
    let mode = || select(&["0700", "0755", "0711", "6755"][..]).prop_map(str::to_owned);
    let name = || select(&["user.model", "user.other"][..]).prop_map(str::to_owned);
    prop_oneof![
        3 => (path(), data()).prop_map(|(path, data)| Op::WriteFile { path, data, mode: None }),
        2 => (path(), data()).prop_map(|(path, data)| Op::AppendFile { path, data }),
        1 => (path(), data()).prop_map(|(path, data)| Op::Overwrite { path, data, off: Some(2) }),
        1 => path().prop_map(|path| Op::CreatExcl { path }),
        1 => (path(), select(&[0_u64, 3, 20][..])).prop_map(|(path, length)| Op::Truncate { path, length }),
        1 => (path(), mode()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        1 => (path(), Just(1_234_567_890)).prop_map(|(path, t)| Op::Utimens { path, t }),
        1 => (path(), data(), name())
            .prop_map(|(path, value, name)| Op::Setxattr { path, name, value, flags: None }),
        1 => (path(), name()).prop_map(|(path, name)| Op::Removexattr { path, name }),
        1 => (path(), uid()).prop_map(|(path, uid)| Op::Chown { path, uid, gid: uid }),
        1 => (path(), uid()).prop_map(|(path, uid)| Op::Lchown { path, uid, gid: uid }),
        2 => (path(), path()).prop_map(|(src, dst)| Op::Link { src, dst }),
        1 => (target, path()).prop_map(|(target, path)| Op::Symlink { target, path }),
        3 => path().prop_map(|path| Op::Mkdir { path, mode: None }),
        3 => path().prop_map(|path| Op::Rmdir { path }),
        4 => path().prop_map(|path| Op::Unlink { path }),
        5 => (path(), path()).prop_map(|(src, dst)| Op::Rename { src, dst }),
        1 => (path(), path(), select(&["NOREPLACE", "EXCHANGE"][..]))
            .prop_map(|(src, dst, flag)| Op::Renameat2 { src, dst, flag: flag.to_owned() }),
        1 => path().prop_map(|path| Op::Lsr { path }),
        1 => path().prop_map(|path| Op::ReadFile { path, n: None }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(branches: &[(&[&str], bool)]) -> Vec<String> {
        let branch = |(lines, honors): &(&[&str], bool)| Branch {
            tree: Item::from_lines(lines),
            honors_whiteouts: *honors,
        };
        merge(&branches.iter().map(branch).collect::<Vec<_>>()).lines()
    }

    #[test]
    fn the_rules_of_merging() {
        let below: (&[&str], bool) = (&["d/x: low", "f: low"], false);
        for (case, top, expected) in [
            ("file above file", &["f: top"][..], &["d/", "d/x: low", "f: top"][..]),
            ("whiteout", &[".wh.d:"], &["f: low"]),
            ("directories merge", &["d/y: top"], &["d/", "d/x: low", "d/y: top", "f: low"]),
            ("opaque", &["d/.wh..wh..opq:"], &["d/", "f: low"]),
            ("a name beats its own whiteout", &["d/", ".wh.d:"], &["d/", "f: low"]),
        ] {
            assert_eq!(shown(&[(top, true), below]), expected, "{case}");
        }
        assert_eq!(shown(&[(&[".wh.d:"], false), below]), ["d/", "d/x: low", "f: low"], "ro without +wh");
        let skipped: &[&str] = &["d: file"];
        assert_eq!(
            shown(&[(&["d/"], true), (skipped, true), below]),
            ["d/", "d/x: low", "f: low"],
            "a file below a directory is skipped"
        );
    }
}
