//! What a branch changes of those below it, and how much it holds.
//!
//! [`changes`] judges by names and attributes alone, as `docker diff` does: of a directory that was copied up but not
//! changed it says nothing, and a file that was copied up counts as changed. Unlike Docker's driver it
//! compares with what the branches below *show*: a whiteout or an opaque directory among them hides what lies deeper, no link of
//! theirs is followed, and a directory that was removed and made anew reports what it lost. [`between`] compares any two trees.

mod between;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use aufs_host::entry::Entry;
use aufs_host::listing;
use aufs_union::names::{BranchName, OPAQUE, whiteout_of};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::{self, Errno};

use crate::archive::{ArchiveError, ArchiveErrorKind, Form, join, open_beneath, split};

pub use between::{between, size_of};

/// How an entry differs from what lies below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is there in both; Docker's number for it is 0.
    Modify,
    /// It is new; 1.
    Add,
    /// It is gone; 2.
    Delete,
}

/// One line of `docker diff`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The path in the union, from `/`.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

impl Change {
    /// Returns the path of the directory that the entry is in, without a leading slash, and its name.
    pub(crate) fn place(&self) -> (&[u8], &OsStr) {
        let path = self.path.as_os_str().as_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let (directory, name) = split(path);
        (directory, OsStr::from_bytes(name))
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modify => "C",
            Self::Add => "A",
            Self::Delete => "D",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path.display())
    }
}

/// Returns what the branch `rw` changes of `lowers`, topmost first, sorted by path.
///
/// Each directory above an addition or a deletion is named as changed, but for the root.
///
/// # Errors
///
/// The first file or directory that cannot be read. What vanishes meanwhile is passed over.
pub fn changes(rw: BorrowedFd<'_>, lowers: &[BorrowedFd<'_>]) -> Result<Vec<Change>, ArchiveError> {
    let mut comparing = Comparing { rw, lowers, found: BTreeMap::new() };
    let below = (0..lowers.len()).collect();
    let mut waiting = vec![Directory { path: Vec::new(), below, is_cut_off: false }];
    while let Some(mut directory) = waiting.pop() {
        // Opaque roots of lower branches cut the list as those of other directories do.
        let outcome = if directory.path.is_empty() { comparing.cut(&mut directory) } else { Ok(()) };
        match outcome.and_then(|()| comparing.directory(&directory, &mut waiting)) {
            Ok(()) | Err(Refusal { errno: Errno::NOENT, .. }) => (),
            Err(Refusal { call, errno }) => {
                return Err(error("changes", &directory.path, call, errno));
            }
        }
    }
    Ok(listed(comparing.found))
}

fn listed(found: BTreeMap<Vec<u8>, ChangeKind>) -> Vec<Change> {
    let change = |(path, kind): (Vec<u8>, ChangeKind)| Change {
        path: PathBuf::from(OsString::from_vec([b"/", path.as_slice()].concat())),
        kind,
    };
    found.into_iter().map(change).collect()
}

/// Notes a change, and with it the directories above.
fn report(found: &mut BTreeMap<Vec<u8>, ChangeKind>, path: Vec<u8>, kind: ChangeKind) {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        found.entry(path[..at].to_vec()).or_insert(ChangeKind::Modify);
    }
    found.insert(path, kind);
}

/// Returns the bytes that the files of a branch hold, as Docker's `DiffSize`.
///
/// That is the sum of their lengths, holes included; a file of several names counts once, a symbolic link as its
/// target, directories not at all, aufs's own files like others. What vanishes meanwhile does not count.
///
/// # Errors
///
/// The first file or directory that cannot be read.
pub fn size(root: BorrowedFd<'_>) -> Result<u64, ArchiveError> {
    let mut sum = 0;
    let mut seen = HashSet::new();
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        match sum_up(root, &path, &mut seen, &mut waiting) {
            Ok(bytes) => sum += bytes,
            Err(Refusal { errno: Errno::NOENT, .. }) if !path.is_empty() => (),
            Err(Refusal { call, errno }) => return Err(error("size", &path, call, errno)),
        }
    }
    Ok(sum)
}

/// A call that the host refused.
struct Refusal {
    call: &'static str,
    errno: Errno,
}

fn refused(call: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal { call, errno }
}

fn error(op: &'static str, path: &[u8], call: &'static str, errno: Errno) -> ArchiveError {
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    ArchiveError { op, path, kind: ArchiveErrorKind::Host { call, errno } }
}

/// Sums up the files of one directory.
fn sum_up(
    root: BorrowedFd<'_>,
    path: &[u8],
    seen: &mut HashSet<(u64, u64)>,
    waiting: &mut Vec<Vec<u8>>,
) -> Result<u64, Refusal> {
    let handle = open(root, path, OFlags::RDONLY)?;
    let mut sum = 0;
    for name in names(&handle)? {
        let Some(stat) = stat(handle.as_fd(), &name)? else { continue };
        if is_directory(&stat) {
            waiting.push(join(path, &name));
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum += stat.st_size.cast_unsigned();
        }
    }
    Ok(sum)
}

/// A directory of the branch that is still to be compared.
struct Directory {
    path: Vec<u8>,
    /// Which of the lower branches have this directory and are not hidden by one above them.
    below: Vec<usize>,
    /// Whether the branch hides what lies below, since this directory or one above it is opaque.
    is_cut_off: bool,
}

struct Comparing<'a> {
    rw: BorrowedFd<'a>,
    lowers: &'a [BorrowedFd<'a>],
    found: BTreeMap<Vec<u8>, ChangeKind>,
}

impl Comparing<'_> {
    /// Leaves out what lies below the first lower branch in which the directory is opaque.
    fn cut(&self, directory: &mut Directory) -> Result<(), Refusal> {
        for at in 0..directory.below.len() {
            let handle = open(self.lowers[directory.below[at]], &directory.path, OFlags::PATH)?;
            if stat(handle.as_fd(), OsStr::new(OPAQUE))?.is_some() {
                directory.below.truncate(at + 1);
                break;
            }
        }
        Ok(())
    }

    /// Compares what one directory holds; those in it are left to wait.
    fn directory(&mut self, directory: &Directory, waiting: &mut Vec<Directory>) -> Result<(), Refusal> {
        let handle = open(self.rw, &directory.path, OFlags::RDONLY)?;
        let held = names(&handle)?;
        let is_cut_off = directory.is_cut_off || held.contains(OsStr::new(OPAQUE));
        // One handle for each lower branch, but never for more than one directory.
        let mut below = Vec::new();
        for index in &directory.below {
            below.push((*index, open(self.lowers[*index], &directory.path, OFlags::RDONLY)?));
        }
        if is_cut_off {
            for name in shown(&below)? {
                if !held.contains(&name) {
                    self.report(join(&directory.path, &name), ChangeKind::Delete);
                }
            }
        }
        for name in &held {
            match BranchName::of(name) {
                BranchName::Plain(_) => {
                    let Some(stat) = stat(handle.as_fd(), name)? else { continue };
                    let path = join(&directory.path, name);
                    self.compare(&path, &stat, first_shown(&below, name)?.as_ref());
                    if is_directory(&stat) {
                        waiting.push(Directory { path, below: merged(&below, name)?, is_cut_off });
                    }
                }
                BranchName::Whiteout(victim)
                    if !is_cut_off && victim != "." && victim != ".." && !held.contains(victim) =>
                {
                    self.report(join(&directory.path, victim), ChangeKind::Delete);
                }
                BranchName::Whiteout(_) | BranchName::Opaque | BranchName::Reserved => (),
            }
        }
        Ok(())
    }

    /// Compares an entry with what is shown below it.
    fn compare(&mut self, path: &[u8], stat: &Stat, below: Option<&Stat>) {
        match below {
            None => self.report(path.to_vec(), ChangeKind::Add),
            Some(below) if is_directory(stat) && is_directory(below) && is_same(stat, below) => (),
            Some(_) => {
                self.found.insert(path.to_vec(), ChangeKind::Modify);
            }
        }
    }

    fn report(&mut self, path: Vec<u8>, kind: ChangeKind) {
        report(&mut self.found, path, kind);
    }
}

/// The same directory of several branches, topmost first, by number of the branch.
type Below = [(usize, OwnedFd)];

/// What the branches show under `name`, all together.
fn first_shown(below: &Below, name: &OsStr) -> Result<Option<Stat>, Refusal> {
    for (_, handle) in below {
        // In one branch a name beats its whiteout.
        if let Some(stat) = stat(handle.as_fd(), name)? {
            return Ok(Some(stat));
        }
        if stat(handle.as_fd(), &whiteout_of(name))?.is_some() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Which branches have a directory `name` that merges with one above them.
fn merged(below: &Below, name: &OsStr) -> Result<Vec<usize>, Refusal> {
    let mut indices = Vec::new();
    for (index, handle) in below {
        match stat(handle.as_fd(), name)? {
            Some(found) if is_directory(&found) => {
                indices.push(*index);
                let directory = open(handle.as_fd(), name.as_bytes(), OFlags::PATH)?;
                if stat(directory.as_fd(), OsStr::new(OPAQUE))?.is_some() {
                    break;
                }
            }
            // Aufs passes over a file between directories, but not over a whiteout.
            Some(_) => (),
            None if stat(handle.as_fd(), &whiteout_of(name))?.is_some() => break,
            None => (),
        }
    }
    Ok(indices)
}

/// The names that the branches show, all together.
fn shown(below: &Below) -> Result<BTreeSet<OsString>, Refusal> {
    let mut shown = BTreeSet::new();
    let mut hidden: HashSet<OsString> = HashSet::new();
    for (_, handle) in below {
        let names = names(handle)?;
        let plain = |name: &&OsString| matches!(BranchName::of(name), BranchName::Plain(_));
        shown.extend(names.iter().filter(plain).filter(|it| !hidden.contains(*it)).cloned());
        for name in &names {
            if let BranchName::Whiteout(victim) = BranchName::of(name) {
                hidden.insert(victim.to_owned());
            }
        }
    }
    Ok(shown)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether a directory is as it was.
fn is_same(stat: &Stat, other: &Stat) -> bool {
    (stat.st_size, stat.st_mode) == (other.st_size, other.st_mode) && is_same_time(stat, other)
}

/// Whether two have been modified at the same time; a layer that came as an archive may have whole seconds.
fn is_same_time(stat: &Stat, other: &Stat) -> bool {
    let is_same_fraction =
        stat.st_mtime_nsec == other.st_mtime_nsec || stat.st_mtime_nsec == 0 || other.st_mtime_nsec == 0;
    stat.st_mtime == other.st_mtime && is_same_fraction
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Refusal> {
    let flags = flags | OFlags::DIRECTORY;
    open_beneath(root, OsStr::from_bytes(path), flags, Form::Branch).map_err(refused("openat2"))
}

fn names(handle: &OwnedFd) -> Result<BTreeSet<OsString>, Refusal> {
    let names: io::Result<Vec<OsString>> = listing::read(handle, |entry| entry.name.to_owned());
    Ok(names.map_err(refused("getdents64"))?.into_iter().collect())
}

/// The attributes of an entry, none when there is no such.
fn stat(handle: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Refusal> {
    match Entry::At(handle, name).stat() {
        Ok(stat) => Ok(Some(stat)),
        // A whiteout of a name that is as long as one can be cannot exist.
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(refused("newfstatat")(errno)),
    }
}
