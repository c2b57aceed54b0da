//! Entries of every type, to be planted where a branch ought to hold something else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::Strategy;
use proptest::sample::select;
use rustix::fs::{CWD, FileType, Mode};

use crate::error::KitError;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    EmptyFile,
    Text,
    EmptyDir,
    /// A directory with a file, a directory, a whiteout and an opaque marker.
    FullDir,
    /// A symlink to a file outside every branch.
    LinkToFile,
    /// A symlink to a directory outside every branch.
    LinkToDir,
    /// A symlink to a name outside every branch that is free.
    LinkToNothing,
    /// A symlink to itself.
    Circle,
    Fifo,
    Socket,
    /// `/dev/null` by another name; only for root.
    Device,
}

impl Kind {
    /// All that this process can make.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::EmptyFile,
            Self::Text,
            Self::EmptyDir,
            Self::FullDir,
            Self::LinkToFile,
            Self::LinkToDir,
            Self::LinkToNothing,
            Self::Circle,
            Self::Fifo,
            Self::Socket,
        ];
        if rustix::process::geteuid().is_root() {
            all.push(Self::Device);
        }
        all
    }

    /// The type that `stat(2)` says.
    pub fn file_type(self) -> FileType {
        match self {
            Self::EmptyFile | Self::Text => FileType::RegularFile,
            Self::EmptyDir | Self::FullDir => FileType::Directory,
            Self::LinkToFile | Self::LinkToDir | Self::LinkToNothing | Self::Circle => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::Device => FileType::CharacterDevice,
        }
    }

    /// Makes the entry at `path`, which must be free.
    ///
    /// # Errors
    ///
    /// What the host refused.
    pub fn plant(self, path: &Path, outside: &Outside) -> Result<(), KitError> {
        let node = |file_type, device| -> std::io::Result<()> {
            Ok(rustix::fs::mknodat(CWD, path, file_type, Mode::RUSR | Mode::WUSR, device)?)
        };
        let made = match self {
            Self::EmptyFile => fs::write(path, ""),
            Self::Text => fs::write(path, "not empty"),
            Self::EmptyDir => fs::create_dir(path),
            Self::FullDir => fill(path),
            Self::LinkToFile => symlink(outside.root.join("file"), path),
            Self::LinkToDir => symlink(outside.root.join("dir"), path),
            Self::LinkToNothing => symlink(outside.root.join("nothing"), path),
            Self::Circle => symlink(path.file_name().unwrap_or_default(), path),
            Self::Fifo => node(FileType::Fifo, 0),
            Self::Socket => node(FileType::Socket, 0),
            Self::Device => node(FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        };
        made.map_err(KitError::at("plant", path))
    }
}

fn fill(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path.join("sub/deep"))?;
    for name in ["file", ".wh.hidden", ".wh..wh..opq", "sub/.wh.file"] {
        fs::write(path.join(name), "inside")?;
    }
    Ok(())
}

/// Directories of a branch to plant in; some are markers, or bookkeeping.
const DIRS: [&str; 7] = ["", "d", "d/e", "e", ".wh.d", "d/.wh.e", ".wh..wh.plnk"];

/// Names that users may see.
pub const SHOWN: [&str; 6] = ["a", "b", "d", "e", "file", "sub"];
/// Names that they may not.
pub const RESERVED: [&str; 12] = [
    ".wh.a",
    ".wh.b",
    ".wh.d",
    ".wh.e",
    ".wh..wh..opq",
    ".wh.",
    ".wh..wh.",
    ".wh..wh.aufs",
    ".wh..wh.plnk",
    ".wh..wh.orph",
    ".wh..wh.draft",
    ".wh..wh.a.12ab",
];

/// One entry to plant: its directory in the branch, its name and what it is.
pub type Planted = (&'static str, &'static str, Kind);

/// Anything under any name.
pub fn planted() -> impl Strategy<Value = Planted> {
    let names: Vec<&'static str> = SHOWN.iter().chain(&RESERVED).chain(&SHOWN).copied().collect();
    (select(&DIRS[..]), select(names), select(Kind::all()))
}

/// Plants an entry in the branch at `root`, in the place of what is there if it `replaces`; in the way of
/// another, or where the way leads out of the branch, it is left out.
///
/// # Errors
///
/// What the host refused.
pub fn plant_in(
    root: &Path,
    (dir, name, kind): Planted,
    replaces: bool,
    outside: &Outside,
) -> Result<(), KitError> {
    let mut path = root.to_owned();
    for part in dir.split('/').filter(|it| !it.is_empty()) {
        path.push(part);
        // A link is not followed, nor made a directory.
        match fs::symlink_metadata(&path) {
            Ok(stat) if !stat.is_dir() => return Ok(()),
            Ok(_) => (),
            Err(_) => fs::create_dir(&path).map_err(KitError::at("mkdir", &path))?,
        }
    }
    let dir = path;
    let path = dir.join(name);
    match fs::symlink_metadata(&path) {
        Err(_) => return kind.plant(&path, outside),
        Ok(_) if !replaces => return Ok(()),
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
    }
    .map_err(KitError::at("remove", &path))?;
    kind.plant(&path, outside)
}

/// Files outside every branch, which links lead to and nobody may touch.
#[derive(Debug)]
pub struct Outside {
    root: PathBuf,
    before: BTreeMap<PathBuf, Facts>,
}

impl Outside {
    /// Makes them at `root`.
    ///
    /// # Errors
    ///
    /// What the host refused.
    pub fn new(root: &Path) -> Result<Self, KitError> {
        fs::create_dir(root).and_then(|()| fill(&root.join("dir"))).map_err(KitError::at("plant", root))?;
        fs::write(root.join("file"), "outside").map_err(KitError::at("plant", root))?;
        Ok(Self { root: root.to_owned(), before: snapshot(root)? })
    }

    /// Whether nothing changed.
    ///
    /// # Errors
    ///
    /// What the host refused.
    pub fn is_untouched(&self) -> Result<bool, KitError> {
        Ok(snapshot(&self.root)? == self.before)
    }
}

/// Type and permissions, owner, number of names, length, time of modification, device; and bytes or target.
pub type Facts = (u32, u32, u64, u64, (i64, i64), u64, Vec<u8>);

/// Everything at and below `root`, and nothing that links there lead to; opens no FIFO or device.
///
/// # Errors
///
/// What the host refused.
pub fn snapshot(root: &Path) -> Result<BTreeMap<PathBuf, Facts>, KitError> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let stat = fs::symlink_metadata(&path).map_err(KitError::at("stat", &path))?;
        let kind = stat.file_type();
        let mut bytes = Vec::new();
        if kind.is_dir() {
            for entry in fs::read_dir(&path).map_err(KitError::at("list", &path))? {
                left.push(entry.map_err(KitError::at("list", &path))?.path());
            }
        } else if kind.is_file() {
            bytes = fs::read(&path).map_err(KitError::at("read", &path))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(KitError::at("read link", &path))?;
            bytes = target.into_os_string().into_encoded_bytes();
        }
        let (len_bytes, time) = (stat.size(), (stat.mtime(), stat.mtime_nsec()));
        let facts = (stat.mode(), stat.uid(), stat.nlink(), len_bytes, time, stat.rdev(), bytes);
        found.insert(path, facts);
    }
    Ok(found)
}
