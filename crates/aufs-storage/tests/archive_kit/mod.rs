//! Archives by the byte, and a place to unpack them beside which nothing may change.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aufs_storage::archive::{Applied, ApplyOptions, ArchiveError, PackOptions, Packed, apply, pack};

/// Length of a block, in bytes.
pub const BLOCK: usize = 512;

/// An archive that is being written, as wrong as a test wants it.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
    /// Whose all entries are, whatever their headers say.
    owner: Option<u32>,
}

/// A header that is being written.
#[derive(Debug, Clone)]
pub struct Raw {
    pub name: Vec<u8>,
    pub flag: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    /// What the size field says; the length of the data unless given.
    pub size: Option<u64>,
    pub device: (u32, u32),
    pub magic: [u8; 8],
    pub data: Vec<u8>,
}

impl Raw {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        let [uid, gid] = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
        Self {
            name: name.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            uid,
            gid,
            mtime: 1_000_000_000,
            size: None,
            device: (0, 0),
            magic: *b"ustar\x0000",
            data: Vec::new(),
        }
    }

    pub fn data(self, data: impl AsRef<[u8]>) -> Self {
        Self { data: data.as_ref().to_vec(), ..self }
    }

    pub fn link(self, link: impl AsRef<[u8]>) -> Self {
        Self { link: link.as_ref().to_vec(), ..self }
    }

    pub fn header(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, 0, &self.name[..self.name.len().min(100)]);
        put(&mut block, 100, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108, format!("{:07o}", self.uid).as_bytes());
        put(&mut block, 116, format!("{:07o}", self.gid).as_bytes());
        let size = self.size.unwrap_or(self.data.len() as u64);
        put(&mut block, 124, format!("{size:011o}").as_bytes());
        put(&mut block, 136, format!("{:011o}", self.mtime).as_bytes());
        block[156] = self.flag;
        put(&mut block, 157, &self.link[..self.link.len().min(100)]);
        put(&mut block, 257, &self.magic);
        put(&mut block, 329, format!("{:07o}", self.device.0).as_bytes());
        put(&mut block, 337, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

pub fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes the checksum into a header.
pub fn seal(block: &mut [u8; BLOCK]) {
    put(block, 148, b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// An archive all entries of which are root's, so that it is the same whoever writes it.
    pub fn of_root() -> Self {
        Self { owner: Some(0), ..Self::default() }
    }

    pub fn raw(mut self, raw: &Raw) -> Self {
        let [uid, gid] = [raw.uid, raw.gid].map(|it| self.owner.unwrap_or(it));
        self.bytes.extend_from_slice(&Raw { uid, gid, ..raw.clone() }.header());
        self.data(&raw.data)
    }

    /// Appends bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends data and its padding.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.raw(&Raw::new(b'0', name).data(data))
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(&Raw::new(b'5', name))
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(&Raw::new(b'2', name).link(target))
    }

    pub fn link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(&Raw::new(b'1', name).link(target))
    }

    pub fn fifo(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(&Raw::new(b'6', name))
    }

    pub fn device(self, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.raw(&Raw { device: (major, minor), ..Raw::new(b'3', name) })
    }

    /// Appends an extended header with these records.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.raw(&Raw::new(b'x', "PaxHeaders.0/x").data(bytes))
    }

    /// Appends a long name (`L`) or a long link target (`K`) of GNU.
    pub fn gnu_long(self, flag: u8, name: impl AsRef<[u8]>) -> Self {
        let raw = Raw { magic: *b"ustar  \0", ..Raw::new(flag, "././@LongLink") };
        self.raw(&raw.data([name.as_ref(), b"\0"].concat()))
    }

    /// Ends the archive.
    pub fn end(self) -> Vec<u8> {
        self.bytes(&[0; 2 * BLOCK]).bytes
    }

    /// What there is, without an end.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// One record of an extended header.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let len = (bare..).find(|len| bare + len.to_string().len() == *len).unwrap();
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A directory to unpack into, and a tree beside it that must stay as it is.
#[derive(Debug)]
pub struct Scene {
    scratch: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Scene {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::hard_link(outside.join("secret"), outside.join("dir/link")).unwrap();
        std::os::unix::fs::symlink("secret", outside.join("symlink")).unwrap();
        fs::create_dir(scratch.path().join("root")).unwrap();
        let before = facts(scratch.path(), true);
        Self { scratch, before }
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// The path of what must stay as it is.
    pub fn outside(&self) -> PathBuf {
        self.scratch.path().join("outside")
    }

    /// Unpacks `tar`, and checks that nothing beside changed, whatever came of it.
    pub fn apply_with(&self, tar: &[u8], options: &ApplyOptions) -> Result<Applied, ArchiveError> {
        let root = File::open(self.root()).unwrap();
        let outcome = apply(root.as_fd(), tar, options);
        self.check();
        outcome
    }

    /// Checks that nothing outside changed, and that nothing of an unpacking stays but its result.
    pub fn check(&self) {
        assert_eq!(facts(self.scratch.path(), true), self.before, "something outside changed");
        assert!(!self.root().join(".wh..wh.apply").exists(), "a directory was left behind");
    }

    pub fn apply(&self, tar: &[u8]) -> Result<Applied, ArchiveError> {
        self.apply_with(tar, &ApplyOptions::default())
    }

    pub fn pack(&self) -> (Packed, Vec<u8>) {
        pack_dir(&self.root())
    }

    /// The tree as lines; see [`lines`].
    pub fn lines(&self) -> Vec<String> {
        lines(&self.root())
    }
}

/// Packs a directory.
pub fn pack_dir(root: &Path) -> (Packed, Vec<u8>) {
    let mut tar = Vec::new();
    let root = File::open(root).unwrap();
    let packed = pack(root.as_fd(), &mut tar, &PackOptions::default()).unwrap();
    assert_eq!(packed.archive_bytes, tar.len() as u64);
    (packed, tar)
}

/// Unpacks into a fresh directory; the tree as lines, or the error with its causes.
pub fn outcome(tar: &[u8]) -> Result<Vec<String>, String> {
    let scene = Scene::new();
    match scene.apply(tar) {
        Ok(_) => Ok(scene.lines()),
        Err(error) => Err(chain(&error)),
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// All that is known of each entry below `top`: attributes, content, and inode; times of directories only without `root`.
pub fn facts(top: &Path, without_root: bool) -> BTreeMap<PathBuf, String> {
    let root = top.join("root");
    let facts = paths_below(top, |it| !without_root || it != root).into_iter().map(|path| {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let [mtime, ctime] = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
        let text = format!(
            "{:o} {}:{} {mtime:?} {ctime:?} {} {} {content:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.nlink()
        );
        (path, text)
    });
    facts.collect()
}

/// Every wanted path below a directory, but none below one that is not.
pub fn paths_below(top: &Path, is_wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if !is_wanted(&path) {
                continue;
            }
            if path.symlink_metadata().unwrap().is_dir() {
                waiting.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// Takes whiteouts away that an entry beside them beats, which no layer keeps.
pub fn without_moot_whiteouts(top: &Path) {
    for path in paths_below(top, |_| true) {
        if let Some(victim) = path.file_name().unwrap().to_str().and_then(|it| it.strip_prefix(".wh."))
            && path.with_file_name(victim).symlink_metadata().is_ok()
        {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// A tree as lines, sorted by path: `d/ 755`, `d/f 644: text`, `d/g =d/f`, `l -> target`, `p 644 fifo`, `c 644 1:3`.
///
/// Permission bits are shown of all but markers and symbolic links; bytes that are no text are escaped.
pub fn lines(top: &Path) -> Vec<String> {
    let name = |path: &Path| path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
    let found: BTreeMap<_, _> =
        paths_below(top, |_| true).into_iter().map(|path| (name(&path), path)).collect();
    let mut firsts: BTreeMap<u64, String> = BTreeMap::new();
    found.iter().map(|(name, path)| line(name, path, &mut firsts)).collect()
}

fn line(name: &[u8], path: &Path, firsts: &mut BTreeMap<u64, String>) -> String {
    let meta = path.symlink_metadata().unwrap();
    let name = name.escape_ascii().to_string();
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_dir() && 1 < meta.nlink() {
        if let Some(first) = firsts.get(&meta.ino()) {
            return format!("{name} ={first}");
        }
        firsts.insert(meta.ino(), name.clone());
    }
    let kind = meta.file_type();
    if kind.is_dir() {
        format!("{name}/ {mode:o}")
    } else if kind.is_symlink() {
        format!("{name} -> {}", fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii())
    } else if kind.is_fifo() {
        format!("{name} {mode:o} fifo")
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("{name} {mode:o} {}:{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()))
    } else {
        let content = if meta.len() < 1000 {
            fs::read(path).unwrap().escape_ascii().to_string()
        } else {
            format!("{} bytes", meta.len())
        };
        let is_marker = path.file_name().is_some_and(|it| it.as_bytes().starts_with(b".wh."));
        if is_marker {
            assert_eq!((mode, meta.len()), (0o444, 0), "{name}");
            name
        } else {
            format!("{name} {mode:o}: {content}")
        }
    }
}

/// A path of bytes.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
