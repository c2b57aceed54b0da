//! What a tree shows to programs, to be compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Entries by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// All but times: type, mode, owner, length, links, attributes, content or target.
    facts: String,
    /// Modification, of anything but directories.
    time: Option<(i64, i64)>,
}

impl Tree {
    /// A line for each entry, with times or without.
    pub fn lines(&self, with_times: bool) -> Vec<String> {
        let line = |(path, entry): (&String, &Entry)| match entry.time {
            Some(time) if with_times => format!("{path} {} {time:?}", entry.facts),
            _ => format!("{path} {}", entry.facts),
        };
        self.0.iter().map(line).collect()
    }
}

/// The lines that differ, `-` for those missing in `found`.
pub fn differences(expected: &Tree, found: &Tree, with_times: bool) -> Vec<String> {
    let (expected, found) = (expected.lines(with_times), found.lines(with_times));
    let missing = expected.iter().filter(|it| !found.contains(it)).map(|it| format!("- {it}"));
    let added = found.iter().filter(|it| !expected.contains(it)).map(|it| format!("+ {it}"));
    missing.chain(added).collect()
}

/// Reads what lies below `root`, but for length, time and content of `except`.
pub fn read(root: &Path, except: &[&str]) -> Tree {
    let mut tree = Tree::default();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    for path in walk(root) {
        let name = printable(path.strip_prefix(root).unwrap());
        let stat = match fs::symlink_metadata(&path) {
            Ok(stat) => stat,
            Err(error) => {
                tree.0.insert(name, Entry { facts: format!("{error}"), time: None });
                continue;
            }
        };
        let (file_type, is_excepted) = (stat.file_type(), except.contains(&name.as_str()));
        let mut facts = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
        if !file_type.is_dir() {
            let first = first_names.entry(stat.ino()).or_insert_with(|| name.clone());
            facts.push_str(&format!(" links {} as {first}", stat.nlink()));
        }
        if file_type.is_file() && !is_excepted {
            let content = fs::read(&path).map(|it| summary(&it));
            facts.push_str(&format!(" len {} {content:?}", stat.len()));
        } else if file_type.is_symlink() {
            facts.push_str(&format!(" -> {:?}", fs::read_link(&path)));
        } else if file_type.is_char_device() {
            facts.push_str(&format!(" device {:x}", stat.rdev()));
        }
        facts.push_str(&attributes(&path));
        let time = (!file_type.is_dir() && !is_excepted).then(|| (stat.mtime(), stat.mtime_nsec()));
        tree.0.insert(name, Entry { facts, time });
    }
    tree
}

/// Every path below `root`, as text.
pub fn names(root: &Path) -> Vec<String> {
    walk(root).iter().map(|it| printable(it.strip_prefix(root).unwrap())).collect()
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
            let mut inside: Vec<_> = fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
            inside.sort();
            found.extend(inside);
        }
    }
    found
}

fn printable(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Short content whole, long content by length and sum.
fn summary(content: &[u8]) -> String {
    match content.len() {
        0..=64 => content.escape_ascii().to_string(),
        len => format!("{len} bytes, sum {}", content.iter().map(|it| u64::from(*it)).sum::<u64>()),
    }
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names[..]) else { return " no attributes".to_owned() };
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|it| it.starts_with(b"user.")) {
        let mut value = vec![0; 4096];
        let name = OsStr::from_bytes(name);
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        found.insert(name.to_owned(), value[..len].escape_ascii().to_string());
    }
    if found.is_empty() { String::new() } else { format!(" {found:?}") }
}
