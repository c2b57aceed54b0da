//! What a tree shows to programs, to be compared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_union::attr::Attr;
use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Found, Node, Union, UnionOptions};
use rustix::fs::FileType;

/// Entries by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Type, mode, owner, attributes, target.
    facts: String,
    /// The first of its names, which tells files apart; none where that is left open.
    first_name: Option<String>,
    /// Content of a regular file, and the length it is said to have.
    content: Option<(u64, Arc<[u8]>)>,
    /// Its number of names, of anything but directories; none where it is left open.
    nlink: Option<u64>,
    /// Its modification, of anything but directories; none where it is left open.
    time: Option<(i64, i64)>,
}

impl Entry {
    fn line(&self, path: &str) -> String {
        let nlink = self.nlink.map(|it| format!(" links {it}")).unwrap_or_default();
        let time = self.time.map(|it| format!(" {it:?}")).unwrap_or_default();
        let content = self.content.as_ref().map(|(len, it)| format!(" len {len} {}", summary(it)));
        let first = self.first_name.as_ref().map(|it| format!(" is {it}")).unwrap_or_default();
        format!("{path} {}{}{nlink}{first}{time}", self.facts, content.unwrap_or_default())
    }

    /// The same without what `other` leaves open.
    fn open_as(&self, other: &Self) -> Self {
        Self {
            first_name: self.first_name.clone().filter(|_| other.first_name.is_some()),
            nlink: self.nlink.and(other.nlink),
            time: self.time.and(other.time),
            ..self.clone()
        }
    }
}

impl Tree {
    /// The same with all times left open.
    pub fn without_times(mut self) -> Self {
        for entry in self.0.values_mut() {
            entry.time = None;
        }
        self
    }

    /// The same with it left open which names are one file's.
    pub fn without_first_names(mut self) -> Self {
        for entry in self.0.values_mut() {
            entry.first_name = None;
        }
        self
    }

    /// The same with the number of names of `files` left open.
    pub fn without_link_counts(mut self, files: &[&str]) -> Self {
        for file in files {
            if let Some(entry) = self.0.get_mut(*file) {
                entry.nlink = None;
            }
        }
        self
    }

    /// The same, but for modes, owners and attributes of `files`, which are as in `other`.
    pub fn with_facts_of(mut self, other: &Self, files: &[&str]) -> Self {
        for file in files {
            if let (Some(entry), Some(other)) = (self.0.get_mut(*file), other.0.get(*file)) {
                entry.facts.clone_from(&other.facts);
            }
        }
        self
    }

    /// The same, but for `files`, which are as in `other`.
    pub fn with_files_of(mut self, other: &Self, files: &[&str]) -> Self {
        for file in files {
            match other.0.get(*file) {
                Some(entry) => self.0.insert((*file).to_owned(), entry.clone()),
                None => self.0.remove(*file),
            };
        }
        self
    }
}

/// The lines that differ, `-` for those missing in `found`; what `expected` leaves open does not count.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in expected.0.keys().chain(found.0.keys().filter(|it| !expected.0.contains_key(*it))) {
        let old = expected.0.get(path);
        let new = found.0.get(path).map(|new| old.map_or_else(|| new.clone(), |old| new.open_as(old)));
        if old != new.as_ref() {
            lines.extend(old.map(|it| format!("- {}", it.line(path))));
            lines.extend(new.map(|it| format!("+ {}", it.line(path))));
        }
    }
    lines
}

/// What there is to know of an entry.
#[derive(Debug)]
struct Seen {
    ino: u64,
    mode: u32,
    nlink: u64,
    owner: (u32, u32),
    rdev: u64,
    len_bytes: u64,
    time: (i64, i64),
    /// Content of a file, target of a symlink.
    bytes: Vec<u8>,
    attributes: BTreeMap<OsString, Vec<u8>>,
}

/// Collects what was seen; the first of its names tells which file it is.
#[derive(Debug, Default)]
struct Collector {
    tree: Tree,
    names: BTreeMap<u64, Vec<String>>,
}

impl Collector {
    fn add(&mut self, path: &Path, seen: Seen) {
        let name = printable(path);
        let file_type = FileType::from_raw_mode(seen.mode);
        let mut facts = format!("{:o} {}:{}", seen.mode, seen.owner.0, seen.owner.1);
        let mut content = None;
        match file_type {
            FileType::RegularFile => content = Some((seen.len_bytes, Arc::from(seen.bytes))),
            FileType::Symlink => facts.push_str(&format!(" -> {}", seen.bytes.escape_ascii())),
            FileType::CharacterDevice => facts.push_str(&format!(" device {:x}", seen.rdev)),
            _ => (),
        }
        for (name, value) in seen.attributes.iter().filter(|it| it.0.as_bytes().starts_with(b"user.")) {
            facts.push_str(&format!(" {}={}", name.display(), value.escape_ascii()));
        }
        let counts = file_type != FileType::Directory;
        if counts {
            self.names.entry(seen.ino).or_default().push(name.clone());
        }
        let (nlink, time) = (counts.then_some(seen.nlink), counts.then_some(seen.time));
        self.tree.0.insert(name, Entry { facts, first_name: None, content, nlink, time });
    }

    fn add_error(&mut self, path: &Path, error: &std::io::Error) {
        let entry =
            Entry { facts: format!("{error}"), first_name: None, content: None, nlink: None, time: None };
        self.tree.0.insert(printable(path), entry);
    }

    fn end(mut self) -> Tree {
        for names in self.names.values() {
            for name in names {
                self.tree.0.get_mut(name).unwrap().first_name = names.iter().min().cloned();
            }
        }
        self.tree
    }
}

/// Reads what lies below `root`.
pub fn read(root: &Path) -> Tree {
    let mut collector = Collector::default();
    for path in walk(root) {
        let name = path.strip_prefix(root).unwrap();
        match see(&path) {
            Ok(seen) => collector.add(name, seen),
            Err(error) => collector.add_error(name, &error),
        }
    }
    collector.end()
}

fn see(path: &Path) -> std::io::Result<Seen> {
    let stat = fs::symlink_metadata(path)?;
    let bytes = match stat.file_type() {
        it if it.is_file() => fs::read(path)?,
        it if it.is_symlink() => fs::read_link(path)?.into_os_string().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    Ok(Seen {
        ino: stat.ino(),
        mode: stat.mode(),
        nlink: stat.nlink(),
        owner: (stat.uid(), stat.gid()),
        rdev: stat.rdev(),
        len_bytes: stat.len(),
        time: (stat.mtime(), stat.mtime_nsec()),
        bytes,
        attributes: attributes(path)?,
    })
}

fn attributes(path: &Path) -> std::io::Result<BTreeMap<OsString, Vec<u8>>> {
    let mut names = [0; 256];
    let len = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|it| it.starts_with(b"user.")) {
        let mut value = [0; 256];
        let name = OsStr::from_bytes(name);
        let len = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        found.insert(name.to_owned(), value[..len].to_vec());
    }
    Ok(found)
}

/// Reads what a union of these branches shows that may change none.
pub fn read_union(branches: &[PathBuf]) -> Tree {
    let perm = BranchPerm::ReadOnly { whiteouts: true };
    let stack = branches.iter().map(|it| BranchSpec { path: it.clone(), perm }).collect();
    let union = Union::open(&UnionOptions { stack, ..UnionOptions::default() }).unwrap();
    let mut collector = Collector::default();
    let attr = union.attributes(union.root()).unwrap();
    let mut left = vec![(PathBuf::new(), Found { node: Arc::clone(union.root()), attr })];
    while let Some((path, found)) = left.pop() {
        if found.node.file_type() == FileType::Directory {
            for entry in union.read_directory(&found.node, 0, usize::MAX).unwrap() {
                let inside = union.lookup(&found.node, &entry.name).unwrap();
                left.push((path.join(&entry.name), inside.unwrap()));
            }
        }
        collector.add(&path, see_in(&union, &found.node, &found.attr));
    }
    collector.end()
}

fn see_in(union: &Union, node: &Arc<Node>, attr: &Attr) -> Seen {
    let bytes = match node.file_type() {
        FileType::RegularFile => {
            let mut bytes = vec![0; usize::try_from(attr.len_bytes).unwrap()];
            let open = union.open_file(node).unwrap();
            let len_bytes = union.read_at(&open, &mut bytes, 0).unwrap();
            bytes.truncate(len_bytes);
            bytes
        }
        FileType::Symlink => union.read_link(node).unwrap().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let names = union.xattr_names(node).unwrap().into_iter();
    let value = |name: OsString| union.xattr(node, &name).unwrap().map(|value| (name, value));
    Seen {
        ino: attr.ino,
        mode: attr.mode,
        nlink: attr.nlink.into(),
        owner: (attr.uid, attr.gid),
        rdev: attr.rdev,
        len_bytes: attr.len_bytes,
        time: (attr.mtime.tv_sec, attr.mtime.tv_nsec),
        bytes,
        attributes: names.filter_map(value).collect(),
    }
}

/// Every path below `root`, as text.
pub fn names(root: &Path) -> Vec<String> {
    walk(root).iter().map(|it| printable(it.strip_prefix(root).unwrap())).collect()
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![(root.to_owned(), true)]);
    while let Some((path, is_dir)) = left.pop() {
        if is_dir {
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                left.push((entry.path(), entry.file_type().unwrap().is_dir()));
            }
        }
        found.push(path);
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
