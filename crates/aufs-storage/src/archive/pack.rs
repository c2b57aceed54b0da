//! Packs a branch as a layer.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::vec;

use aufs_host::entry::Entry as HostEntry;
use aufs_host::{errno_of, listing, xattr};
use aufs_union::names::{BranchName, whiteout_of};
use rustix::fs::{self, FileType, OFlags, Stat};
use rustix::io::{self, Errno};
use tar::EntryType;

use super::error::{ArchiveError, ArchiveErrorKind, Outcome, host};
use super::name::join;
use super::parents::open_beneath;
use super::write::{Entry, Writer};
use crate::changes::{Change, ChangeKind};

/// How much of a file is read at once.
const BUFFER_LEN_BYTES: usize = 512 << 10;

/// How many handles on directories are kept on the way down.
const KEPT_MAX: usize = 32;

/// Attribute that makes a program's file give it capabilities, and length of its second revision in bytes.
///
/// Source: `include/uapi/linux/capability.h`.
const CAPABILITY: &str = "security.capability";
const CAPABILITY_2_LEN_BYTES: usize = 20;

/// How [`pack`] packs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackOptions {
    /// Which extended attributes come along.
    pub xattrs: KeptXattrs,
}

/// Which extended attributes of files and directories come along; the others are this host's own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptXattrs {
    /// `security.capability` alone, as Docker and containerd do.
    Capability,
    /// Also `security.ima` and `user.*`, less `user.overlay.*`, as containers/storage does.
    #[default]
    User,
}

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
    let mut packing = Packing::new(root, out, options);
    packing.all()?;
    packing.end()
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
    let mut packing = Packing::new(root, out, options);
    // A directory comes before what is in it, and of that whiteouts come first, as the OCI wants it.
    let mut changes: Vec<&Change> = changes.iter().collect();
    changes.sort_by_key(|it| {
        let (directory, name) = it.place();
        (directory, it.kind != ChangeKind::Delete, name)
    });
    for change in changes {
        packing.change(change).map_err(|kind| kind.during("pack", change.path.clone()))?;
    }
    packing.end()
}

/// A directory on the way down.
struct Level {
    path: Vec<u8>,
    handle: Option<OwnedFd>,
    names: vec::IntoIter<OsString>,
}

struct Packing<'a, W> {
    root: BorrowedFd<'a>,
    options: &'a PackOptions,
    writer: Writer<W>,
    /// First path of each file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Packing<'a, W> {
    fn new(root: BorrowedFd<'a>, out: W, options: &'a PackOptions) -> Self {
        let writer = Writer::new(out);
        let buffer = vec![0; BUFFER_LEN_BYTES];
        Self { root, options, writer, links: HashMap::new(), packed: Packed::default(), buffer }
    }

    fn end(mut self) -> Result<Packed, ArchiveError> {
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

    fn all(&mut self) -> Result<(), ArchiveError> {
        let during = |path: &[u8]| {
            let path = OsString::from_vec(path.to_vec());
            move |kind: ArchiveErrorKind| kind.during("pack", path)
        };
        let top = open_beneath(self.root, OsStr::new(""), OFlags::RDONLY | OFlags::DIRECTORY);
        let top = top.map_err(host("openat2")).and_then(|handle| self.level(Vec::new(), handle));
        let mut levels = vec![top.map_err(during(b""))?];
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

    /// Lists a directory: names in order, markers first.
    fn level(&mut self, path: Vec<u8>, handle: OwnedFd) -> Outcome<Level> {
        let names = listing::read(&handle, |entry| entry.name.to_owned()).map_err(host("getdents64"))?;
        let names: BTreeSet<OsString> = names.into_iter().collect();
        let (mut markers, mut others) = (Vec::new(), Vec::new());
        for name in &names {
            let is_kept = match BranchName::of(name) {
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
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                open_beneath(self.root, OsStr::from_bytes(&level.path), flags).map_err(host("openat2"))?
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
        if !matches!(BranchName::of(name), BranchName::Plain(_)) {
            return self.header(&marker(path)).map(|()| None);
        }
        let stat = HostEntry::At(parent, name).stat().map_err(host("newfstatat"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(parent, name, path).map(|()| None),
            FileType::Directory => self.directory(parent, name, path).map(Some),
            FileType::Symlink => {
                let target = HostEntry::At(parent, name).read_link().map_err(host("readlinkat"))?;
                self.node(path, &stat, EntryType::Symlink, target.as_bytes()).map(|()| None)
            }
            FileType::Fifo => self.node(path, &stat, EntryType::Fifo, b"").map(|()| None),
            FileType::CharacterDevice => self.node(path, &stat, EntryType::Char, b"").map(|()| None),
            FileType::BlockDevice => self.node(path, &stat, EntryType::Block, b"").map(|()| None),
            FileType::Socket => {
                self.packed.skipped_sockets += 1;
                Ok(None)
            }
            FileType::Unknown => Err(ArchiveErrorKind::Type(0)),
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
        let handle =
            open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(host("openat2"))?;
        let stat = fs::fstat(&handle).map_err(host("fstat"))?;
        let xattrs = self.xattrs(handle.as_fd())?;
        let path = [path, b"/"].concat();
        self.header(&Entry { kind: EntryType::Directory, ..entry_of(&path, &stat, &xattrs) })?;
        Ok(handle)
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Outcome<()> {
        // Without NONBLOCK a FIFO that took the file's place would never open.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match HostEntry::At(parent, name).open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => HostEntry::At(parent, name).open(flags),
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
        self.header(&Entry { size, ..entry_of(path, &stat, &xattrs) })?;
        self.data(&mut file, size)
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

    /// Writes the first `left` bytes of a file; one that has become shorter is an error.
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
        self.writer.pad().map_err(ArchiveErrorKind::Write)
    }

    fn xattrs(&self, file: BorrowedFd<'_>) -> Outcome<Vec<Attribute>> {
        kept_xattrs(HostEntry::Open(file), self.options.xattrs).map_err(host("flistxattr"))
    }
}

/// Name and value of an extended attribute.
type Attribute = (Vec<u8>, Vec<u8>);

/// Reads the attributes that come along, sorted by name.
pub(crate) fn kept_xattrs(entry: HostEntry<'_>, kept: KeptXattrs) -> io::Result<Vec<Attribute>> {
    let names = match xattr::list(entry) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.iter().filter(|it| is_kept(it, kept)) {
        let Some(mut value) = xattr::get(entry, name)? else { continue };
        if name == CAPABILITY {
            make_portable(&mut value);
        }
        found.push((name.as_bytes().to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn is_kept(name: &OsStr, kept: KeptXattrs) -> bool {
    let is_users = || xattr::in_namespace(name, "user.") && !xattr::in_namespace(name, "user.overlay.");
    name == CAPABILITY || (kept == KeptXattrs::User && (name == "security.ima" || is_users()))
}

/// Takes the user namespace out of a capability, which it holds for on this host alone.
fn make_portable(value: &mut Vec<u8>) {
    // Little-endian, the revision in the highest byte.
    if let Some(revision) = value.get_mut(3)
        && *revision == 3
    {
        *revision = 2;
        value.truncate(CAPABILITY_2_LEN_BYTES);
    }
}

/// A marker: its name says all there is to know.
fn marker(path: &[u8]) -> Entry<'_> {
    Entry {
        path,
        kind: EntryType::Regular,
        link: b"",
        mode: 0o444,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        device: (0, 0),
        xattrs: &[],
    }
}

fn entry_of<'a>(path: &'a [u8], stat: &Stat, xattrs: &'a [Attribute]) -> Entry<'a> {
    Entry {
        path,
        kind: EntryType::Regular,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        mtime: stat.st_mtime,
        device: (0, 0),
        xattrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_host_stay_behind() {
        use KeptXattrs::{Capability, User};
        for (name, by_docker, by_default) in [
            ("security.capability", true, true),
            ("security.ima", false, true),
            ("security.selinux", false, false),
            ("user.note", false, true),
            ("user.overlay.opaque", false, false),
            ("trusted.overlay.opaque", false, false),
            ("system.posix_acl_access", false, false),
        ] {
            let kept = [Capability, User].map(|it| is_kept(OsStr::new(name), it));
            assert_eq!(kept, [by_docker, by_default], "{name}");
        }
    }

    #[test]
    fn capabilities_lose_the_user_namespace() {
        let body = [7; 16];
        let mut third = [&[1, 0, 0, 3][..], &body, &1000_u32.to_le_bytes()].concat();
        let second = [&[1, 0, 0, 2][..], &body].concat();
        make_portable(&mut third);
        assert_eq!(third, second);
        make_portable(&mut third);
        assert_eq!(third, second);
        let mut odd = vec![1];
        make_portable(&mut odd);
        assert_eq!(odd, [1]);
    }
}
