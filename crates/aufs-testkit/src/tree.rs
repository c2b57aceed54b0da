//! Trees as lines of text: to plant on the host, and to read back.
//!
//! `etc/` is a directory, `etc/passwd: root` a file with the content `root`,
//! `sh -> bash` a symlink, `a =1: text` one of the names of file 1. Parents that
//! no line names are made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::dump::BOOKKEEPING;
use crate::error::KitError;

/// One entry of a tree in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A directory and what it holds.
    Dir(BTreeMap<String, Item>),
    /// A file and its content.
    File(String),
    /// A name of the file with this number, and its content.
    Linked(u32, String),
    /// A symlink and its target.
    Symlink(String),
}

impl Item {
    /// An empty directory.
    pub fn empty_dir() -> Self {
        Self::Dir(BTreeMap::new())
    }

    /// The tree that `lines` describe.
    ///
    /// A line below something that is no directory is left out, and so is one
    /// that names an entry a second time; directories merge.
    pub fn from_lines<S: AsRef<str>>(lines: &[S]) -> Self {
        let mut root = Self::empty_dir();
        for line in lines {
            let (path, item) = parse(line.as_ref());
            root.put(path, item);
        }
        root
    }

    fn put(&mut self, path: &str, item: Item) {
        let Self::Dir(entries) = self else { return };
        match path.split_once('/') {
            Some((name, below)) => {
                entries.entry(name.to_owned()).or_insert_with(Self::empty_dir).put(below, item);
            }
            None => {
                entries.entry(path.to_owned()).or_insert(item);
            }
        }
    }

    /// The lines that describe the tree, sorted by path.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.add_lines("", &mut lines);
        lines
    }

    fn add_lines(&self, path: &str, lines: &mut Vec<String>) {
        match self {
            Self::File(content) => lines.push(format!("{path}: {content}")),
            Self::Linked(file, content) => lines.push(format!("{path} ={file}: {content}")),
            Self::Symlink(target) => lines.push(format!("{path} -> {target}")),
            Self::Dir(entries) => {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
                if !path.is_empty() {
                    lines.push(prefix.clone());
                }
                for (name, item) in entries {
                    item.add_lines(&format!("{prefix}{name}"), lines);
                }
            }
        }
    }

    /// Makes the tree on the host; `root` may exist already.
    ///
    /// # Errors
    ///
    /// What the host refused.
    pub fn plant(&self, root: &Path) -> Result<(), KitError> {
        self.plant_among(root, &mut BTreeMap::new())
    }

    /// `files` has the first name of each numbered file.
    fn plant_among(&self, root: &Path, files: &mut BTreeMap<u32, PathBuf>) -> Result<(), KitError> {
        let made: io::Result<()> = match self {
            Self::File(content) => fs::write(root, content),
            Self::Linked(file, content) => match files.get(file) {
                Some(first) => fs::hard_link(first, root),
                None => {
                    files.insert(*file, root.to_owned());
                    fs::write(root, content)
                }
            },
            Self::Symlink(target) => symlink(target, root),
            Self::Dir(_) => fs::create_dir_all(root),
        };
        made.map_err(KitError::at("plant", root))?;
        if let Self::Dir(entries) = self {
            for (name, item) in entries {
                item.plant_among(&root.join(name), files)?;
            }
        }
        Ok(())
    }

    /// Adds `offset` to the number of each numbered file, so that two trees share none.
    pub fn renumber(&mut self, offset: u32) {
        match self {
            Self::Dir(entries) => entries.values_mut().for_each(|it| it.renumber(offset)),
            Self::Linked(file, _) => *file += offset,
            Self::File(_) | Self::Symlink(_) => {}
        }
    }

    /// Counts the names of each numbered file.
    pub fn count_names(&self, counts: &mut BTreeMap<u32, usize>) {
        match self {
            Self::Dir(entries) => entries.values().for_each(|it| it.count_names(counts)),
            Self::Linked(file, _) => *counts.entry(*file).or_default() += 1,
            Self::File(_) | Self::Symlink(_) => {}
        }
    }

    /// Reads a tree from the host, without aufs's bookkeeping at its root.
    ///
    /// # Errors
    ///
    /// An entry cannot be read, or is neither directory, file nor symlink.
    pub fn read(root: &Path) -> Result<Self, KitError> {
        let mut tree = read(root)?;
        if let Self::Dir(entries) = &mut tree {
            entries.retain(|name, _| !BOOKKEEPING.iter().any(|it| name.starts_with(it)));
        }
        Ok(tree)
    }
}

fn read(path: &Path) -> Result<Item, KitError> {
    let kind = fs::symlink_metadata(path).map_err(KitError::at("stat", path))?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(KitError::at("read link", path))?;
        return Ok(Item::Symlink(target.to_string_lossy().into_owned()));
    }
    if kind.is_file() {
        let bytes = fs::read(path).map_err(KitError::at("read", path))?;
        return Ok(Item::File(String::from_utf8_lossy(&bytes).into_owned()));
    }
    if !kind.is_dir() {
        return Err(KitError::new("read", path, io::Error::other("a special file has no line")));
    }
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(KitError::at("list", path))? {
        let entry = entry.map_err(KitError::at("list", path))?;
        entries.insert(entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?);
    }
    Ok(Item::Dir(entries))
}

/// Splits a line into its path and what is there.
fn parse(line: &str) -> (&str, Item) {
    if let Some((path, target)) = line.split_once(" -> ") {
        return (path, Item::Symlink(target.to_owned()));
    }
    if let Some(path) = line.strip_suffix('/') {
        return (path, Item::empty_dir());
    }
    let (path, content) = line.split_once(':').unwrap_or((line, ""));
    let content = content.strip_prefix(' ').unwrap_or(content).to_owned();
    match path.split_once(" =").and_then(|(path, file)| Some((path, file.parse().ok()?))) {
        Some((path, file)) => (path, Item::Linked(file, content)),
        None => (path, Item::File(content)),
    }
}

/// Makes the tree that `lines` describe at `root`.
///
/// # Errors
///
/// As [`Item::plant`].
pub fn plant<S: AsRef<str>>(root: &Path, lines: &[S]) -> Result<(), KitError> {
    Item::from_lines(lines).plant(root)
}

/// The lines that describe the tree at `root`.
///
/// # Errors
///
/// As [`Item::read`].
pub fn read_lines(root: &Path) -> Result<Vec<String>, KitError> {
    Ok(Item::read(root)?.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_as_planted() {
        let root = tempfile::tempdir().unwrap();
        let lines = ["etc/", "etc/passwd: root\n", "etc/sh -> bash", "only/parents/", "z: "];
        plant(root.path(), &lines).unwrap();
        let expected = ["etc/", "etc/passwd: root\n", "etc/sh -> bash", "only/", "only/parents/", "z: "];
        assert_eq!(read_lines(root.path()).unwrap(), expected);
    }

    #[test]
    fn names_of_a_numbered_file_are_links() {
        use std::os::unix::fs::MetadataExt;
        let root = tempfile::tempdir().unwrap();
        let mut tree = Item::from_lines(&["a =1: x", "d/b =1: x", "c =2: y"]);
        tree.renumber(5);
        assert_eq!(tree.lines(), ["a =6: x", "c =7: y", "d/", "d/b =6: x"]);
        tree.plant(root.path()).unwrap();
        let ino = |name: &str| fs::metadata(root.path().join(name)).unwrap().ino();
        assert_eq!((ino("a") == ino("d/b"), ino("a") == ino("c")), (true, false));
        let mut counts = BTreeMap::new();
        tree.count_names(&mut counts);
        assert_eq!(counts, BTreeMap::from([(6, 2), (7, 1)]));
    }

    #[test]
    fn bookkeeping_is_not_read_but_whiteouts_are() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path(), &[".wh..wh.draft/x: ", ".wh..wh.plnk/", ".wh.gone: ", "d/.wh..wh..opq:"]).unwrap();
        assert_eq!(read_lines(root.path()).unwrap(), [".wh.gone: ", "d/", "d/.wh..wh..opq: "]);
    }
}
