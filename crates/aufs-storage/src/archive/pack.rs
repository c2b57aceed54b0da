//! Packs a branch as a layer.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::vec;

use aufs_host::entry::Entry as HostEntry;
use aufs_host::{errno_of, listing};
use aufs_union::names::{BranchName, whiteout_of};
use rustix::fs::{self, FileType, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use tar::EntryType;

use super::error::{ArchiveError, ArchiveErrorKind, Outcome, host};
use super::form::Form;
use super::holes;
use super::kept_xattrs::{Attribute, kept_xattrs};
use super::name::join;
use super::options::{Holes, PackOptions};
use super::parents::open_beneath;
use super::sparse::{self, Extent};
use super::write::{Entry, Writer, entry_of, marker};
use crate::changes::{Change, ChangeKind};

/// How much of a file is read at once.
const BUFFER_LEN_BYTES: usize = 512 << 10;

/// How many handles on directories are kept on the way down.
const KEPT_MAX: usize = 32;

/// What [`pack`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Entries of the archive.
    pub entries: u64,
    /// Length of the archive.
    pub archive_bytes: u64,
    /// Sockets, which no archive can have.
    pub skipped_sockets: u64,
    /// Names left out since they are aufs's bookkeeping, or say nothing.
    pub skipped_bookkeeping: u64,
    /// Entries that went away while the branch was packed.
    pub vanished: u64,
}

/// Packs what the directory `root` holds, a branch, as an uncompressed layer.
///
/// Entries come in lexical order, a directory before what it holds and its whiteouts before other names; the same tree
/// gives the same bytes. Times are whole seconds, owners are numbers, files of one inode are hard links, holes are
/// zeros. Whiteouts and opaque markers become empty files that look all alike, whatever they are in the branch; a
/// whiteout that an entry beside it beats is left out, and so is every other name that aufs keeps for itself.
///
/// # Errors
///
/// The first thing that cannot be read, so that no layer is shorter than its branch; the archive is then incomplete and
/// has no end. What vanishes meanwhile is not in the layer.
pub fn pack(root: BorrowedFd<'_>, out: impl Write, options: &PackOptions) -> Result<Packed, ArchiveError> {
    let mut packing = Packing::new(root, b"", out, options);
    packing.all()?;
    packing.finish()
}

/// Packs what `changes` tell of the tree `root`, as [`pack`] does a branch: what they delete becomes whiteouts.
///
/// # Errors
///
/// As [`pack`].
pub fn pack_changes(
    root: BorrowedFd<'_>,
    changes: &[Change],
    out: impl Write,
    options: &PackOptions,
) -> Result<Packed, ArchiveError> {
    let mut packing = Packing::new(root, b"", out, options);
    // A directory comes before what is in it, and of that whiteouts come first, as the OCI wants it.
    let mut changes: Vec<&Change> = changes.iter().collect();
    changes.sort_by_key(|it| {
        let (directory, name) = it.place();
        (directory, it.kind != ChangeKind::Delete, name)
    });
    for change in changes {
        packing.change(change).map_err(|kind| kind.during("pack", change.path.clone()))?;
    }
    packing.finish()
}

/// Packs the entry that `handle` holds, an `O_PATH` one, under the path `name`, a directory with all that it holds.
///
/// Without a name a directory is called `./`, and what it holds by its names.
///
/// # Errors
///
/// As [`pack`].
pub(crate) fn pack_entry(
    handle: BorrowedFd<'_>,
    name: &[u8],
    out: impl Write,
    options: &PackOptions,
) -> Result<Packed, ArchiveError> {
    let mut packing = Packing::new(handle, name, out, options);
    let top = packing.top().map_err(|kind| kind.during("pack", path_of(name)))?;
    if top == FileType::Directory {
        packing.all()?;
    }
    packing.finish()
}

fn path_of(path: &[u8]) -> OsString {
    OsString::from_vec(path.to_vec())
}

/// A directory on the way down.
struct Level {
    /// In the archive.
    path: Vec<u8>,
    handle: Option<OwnedFd>,
    names: vec::IntoIter<OsString>,
}

struct Packing<'a, W> {
    root: BorrowedFd<'a>,
    /// What the root is called in the archive; empty where only what it holds has names.
    name: &'a [u8],
    options: &'a PackOptions,
    writer: Writer<W>,
    /// First path of each file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Packing<'a, W> {
    fn new(root: BorrowedFd<'a>, name: &'a [u8], out: W, options: &'a PackOptions) -> Self {
        Self {
            root,
            name,
            options,
            writer: Writer::new(out),
            links: HashMap::new(),
            packed: Packed::default(),
            buffer: vec![0; BUFFER_LEN_BYTES],
        }
    }

    fn finish(mut self) -> Result<Packed, ArchiveError> {
        self.writer.end().map_err(|error| ArchiveErrorKind::Write(error).during("pack", ""))?;
        Ok(Packed { archive_bytes: self.writer.count, ..self.packed })
    }

    /// Writes one entry alone.
    fn change(&mut self, change: &Change) -> Outcome<()> {
        let (path, name) = change.place();
        if change.kind == ChangeKind::Delete {
            return self.header(&marker(&join(path, &whiteout_of(name))));
        }
        let mut level = Level { path: path.to_vec(), handle: None, names: Vec::new().into_iter() };
        self.entry(&mut level, name, &join(path, name)).map(drop)
    }

    /// Writes the entry of the root itself.
    fn top(&mut self) -> Outcome<FileType> {
        let entry = HostEntry::Held(self.root);
        let file_type = FileType::from_raw_mode(entry.stat().map_err(host("fstat"))?.st_mode);
        match file_type {
            FileType::Directory => {
                let path = if self.name.is_empty() { b"." } else { self.name };
                self.directory(self.root, OsStr::new(""), path).map(drop)?;
            }
            _ => self.other(entry, self.name)?,
        }
        Ok(file_type)
    }

    fn all(&mut self) -> Result<(), ArchiveError> {
        let during = |path: &[u8]| {
            let path = path_of(path);
            move |kind: ArchiveErrorKind| kind.during("pack", path)
        };
        let top = self.open(self.root, OsStr::new(""));
        let top = top.and_then(|handle| self.level(self.name.to_vec(), handle));
        let mut levels = vec![top.map_err(during(self.name))?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let entered = self.entry(level, &name, &path).map_err(during(&path))?;
            if let Some(handle) = entered {
                let level = self.level(path.clone(), handle).map_err(during(&path))?;
                levels.push(level);
                // Deep trees must not use descriptors up; those far up are opened again on the way back.
                if let Some(at) = levels.len().checked_sub(KEPT_MAX + 1) {
                    levels[at].handle = None;
                }
            }
        }
        Ok(())
    }

    /// Opens a directory to read it.
    fn open(&self, dir: BorrowedFd<'_>, path: &OsStr) -> Outcome<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        open_beneath(dir, path, flags, self.options.form).map_err(host("openat2"))
    }

    /// What a name stands for: in a tree, always itself.
    fn kind_of<'n>(&self, name: &'n OsStr) -> BranchName<'n> {
        match self.options.form {
            Form::Branch => BranchName::of(name),
            Form::Tree => BranchName::Plain(name),
        }
    }

    /// Lists a directory: names in order, markers first.
    fn level(&mut self, path: Vec<u8>, handle: OwnedFd) -> Outcome<Level> {
        let names = listing::read(&handle, |entry| entry.name.to_owned()).map_err(host("getdents64"))?;
        let names: BTreeSet<OsString> = names.into_iter().collect();
        let (mut markers, mut others) = (Vec::new(), Vec::new());
        for name in &names {
            let is_kept = match self.kind_of(name) {
                BranchName::Plain(_) => {
                    others.push(name.clone());
                    continue;
                }
                BranchName::Opaque => true,
                BranchName::Whiteout(victim) => victim != "." && victim != ".." && !names.contains(victim),
                BranchName::Reserved => false,
            };
            if is_kept {
                markers.push(name.clone());
            } else {
                self.packed.skipped_bookkeeping += 1;
            }
        }
        markers.append(&mut others);
        Ok(Level { path, handle: Some(handle), names: markers.into_iter() })
    }

    /// Writes one entry; a directory is returned to be entered.
    fn entry(&mut self, level: &mut Level, name: &OsStr, path: &[u8]) -> Outcome<Option<OwnedFd>> {
        let handle = match level.handle.take() {
            Some(handle) => handle,
            None => {
                // The name is the archive's; below it paths are those of the root.
                let below = level.path.get(self.name.len()..).unwrap_or_default();
                let below = below.strip_prefix(b"/").unwrap_or(below);
                self.open(self.root, OsStr::from_bytes(below))?
            }
        };
        let outcome = self.entry_of(handle.as_fd(), name, path);
        level.handle = Some(handle);
        match outcome {
            Err(ArchiveErrorKind::Host { errno: Errno::NOENT, .. }) => {
                self.packed.vanished += 1;
                Ok(None)
            }
            other => other,
        }
    }

    fn entry_of(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Outcome<Option<OwnedFd>> {
        if !matches!(self.kind_of(name), BranchName::Plain(_)) {
            return self.header(&marker(path)).map(|()| None);
        }
        let entry = HostEntry::At(parent, name);
        let stat = entry.stat().map_err(host("newfstatat"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(parent, name, path).map(Some),
            _ => self.other(entry, path).map(|()| None),
        }
    }

    /// Writes an entry that is no directory.
    fn other(&mut self, entry: HostEntry<'_>, path: &[u8]) -> Outcome<()> {
        let stat = entry.stat().map_err(host("newfstatat"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(entry, path),
            FileType::Symlink => {
                let target = entry.read_link().map_err(host("readlinkat"))?;
                self.node(path, &stat, EntryType::Symlink, target.as_bytes())
            }
            FileType::Fifo => self.node(path, &stat, EntryType::Fifo, b""),
            FileType::CharacterDevice => self.node(path, &stat, EntryType::Char, b""),
            FileType::BlockDevice => self.node(path, &stat, EntryType::Block, b""),
            FileType::Socket => {
                self.packed.skipped_sockets += 1;
                Ok(())
            }
            FileType::Directory | FileType::Unknown => Err(ArchiveErrorKind::Changed),
        }
    }

    fn header(&mut self, entry: &Entry<'_>) -> Outcome<()> {
        self.packed.entries += 1;
        self.writer.header(entry).map_err(ArchiveErrorKind::Write)
    }

    /// Writes an entry without data.
    fn node(&mut self, path: &[u8], stat: &Stat, kind: EntryType, link: &[u8]) -> Outcome<()> {
        if self.is_linked(path, stat)? {
            return Ok(());
        }
        let mut entry = Entry { kind, link, ..entry_of(path, stat, &[]) };
        if matches!(kind, EntryType::Char | EntryType::Block) {
            entry.device = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
        }
        self.header(&entry)
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Outcome<OwnedFd> {
        let handle = self.open(parent, name)?;
        let stat = fs::fstat(&handle).map_err(host("fstat"))?;
        let xattrs = self.xattrs(handle.as_fd())?;
        let path = [path, b"/"].concat();
        self.header(&Entry { kind: EntryType::Directory, ..entry_of(&path, &stat, &xattrs) })?;
        Ok(handle)
    }

    fn file(&mut self, entry: HostEntry<'_>, path: &[u8]) -> Outcome<()> {
        // Without NONBLOCK a FIFO that took the file's place would never open.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match entry.open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => entry.open(flags),
            other => other,
        };
        let mut file = file.map_err(host("openat"))?;
        let stat = fs::fstat(&file).map_err(host("fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ArchiveErrorKind::Changed);
        }
        if self.is_linked(path, &stat)? {
            return Ok(());
        }
        let xattrs = self.xattrs(file.as_fd())?;
        let size = stat.st_size.cast_unsigned();
        let extents = if self.options.holes == Holes::Mapped { holes::data_of(&file, size)? } else { None };
        let Some(extents) = extents else {
            self.header(&Entry { size, ..entry_of(path, &stat, &xattrs) })?;
            self.data(&mut file, size)?;
            return self.writer.pad().map_err(ArchiveErrorKind::Write);
        };
        let map = sparse::print_map(&extents);
        let stored = map.len() as u64 + extents.iter().map(|it| it.len).sum::<u64>();
        let sparse_len = Some(size);
        self.header(&Entry { size: stored, sparse_len, ..entry_of(path, &stat, &xattrs) })?;
        self.writer.bytes(&map).map_err(ArchiveErrorKind::Write)?;
        for Extent { offset, len } in extents {
            fs::seek(&file, SeekFrom::Start(offset)).map_err(host("lseek"))?;
            self.data(&mut file, len)?;
        }
        self.writer.pad().map_err(ArchiveErrorKind::Write)
    }

    fn xattrs(&self, file: BorrowedFd<'_>) -> Outcome<Vec<Attribute>> {
        kept_xattrs(HostEntry::Open(file), self.options.xattrs).map_err(host("flistxattr"))
    }

    /// Writes a hard link where the file has been written under another name.
    fn is_linked(&mut self, path: &[u8], stat: &Stat) -> Outcome<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&identity).cloned() else {
            self.links.insert(identity, path.to_vec());
            return Ok(false);
        };
        self.header(&Entry { kind: EntryType::Link, link: &first, ..entry_of(path, stat, &[]) })?;
        Ok(true)
    }

    /// Writes the next `left` bytes of a file; one that has become shorter is an error.
    fn data(&mut self, file: &mut File, mut left: u64) -> Outcome<()> {
        while 0 < left {
            let room = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match file.read(&mut self.buffer[..room]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| host("read")(errno_of(error)))?,
            };
            if count == 0 {
                return Err(ArchiveErrorKind::Changed);
            }
            self.writer.bytes(&self.buffer[..count]).map_err(ArchiveErrorKind::Write)?;
            left -= count as u64;
        }
        Ok(())
    }
}
