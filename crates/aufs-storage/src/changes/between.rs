//! What differs between two trees as they are shown, neither of which need lie on the other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aufs_host::entry::Entry;
use aufs_union::names::BranchName;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::{Change, ChangeKind, Refusal, error, is_directory, is_same_time, names, open, refused, stat};
use crate::archive::{ArchiveError, KeptXattrs, join, kept_xattrs};

/// Returns what is other in the tree `new` than in `old`, sorted by path.
///
/// Types, modes, owners, devices, kept attributes and targets of links are compared, and of what is no directory
/// lengths and times, as Docker compares trees; contents are not read. Each directory above a change is named as changed, but
/// for the root, and of a directory whose place something else has taken only that.
///
/// # Errors
///
/// The first file or directory that cannot be read. What vanishes meanwhile is passed over.
pub fn between(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<Vec<Change>, ArchiveError> {
    let mut comparing = Comparing { old, new, found: BTreeMap::new() };
    let mut waiting = vec![(Vec::new(), true)];
    while let Some((path, is_in_both)) = waiting.pop() {
        match comparing.directory(&path, is_in_both, &mut waiting) {
            Ok(()) => (),
            Err(Refusal { errno: Errno::NOENT, .. }) if !path.is_empty() => (),
            Err(Refusal { call, errno }) => return Err(error("compare", &path, call, errno)),
        }
    }
    Ok(super::listed(comparing.found))
}

/// Returns the bytes of the files that `changes` add to the tree `root` or change in it, each file once.
///
/// # Errors
///
/// The first file that cannot be looked at. What vanishes meanwhile does not count.
pub fn size_of(root: BorrowedFd<'_>, changes: &[Change]) -> Result<u64, ArchiveError> {
    let (mut sum, mut seen) = (0, HashSet::new());
    for change in changes.iter().filter(|it| it.kind != ChangeKind::Delete) {
        let (directory, name) = change.place();
        let found = open(root, directory, OFlags::PATH).and_then(|handle| stat(handle.as_fd(), name));
        let found = match found {
            Ok(found) => found,
            Err(Refusal { errno: Errno::NOENT, .. }) => None,
            Err(Refusal { call, errno }) => return Err(error("size", directory, call, errno)),
        };
        if let Some(stat) = found.filter(|it| !is_directory(it))
            && (stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)))
        {
            sum += stat.st_size.cast_unsigned();
        }
    }
    Ok(sum)
}

struct Comparing<'a> {
    old: BorrowedFd<'a>,
    new: BorrowedFd<'a>,
    found: BTreeMap<Vec<u8>, ChangeKind>,
}

impl Comparing<'_> {
    /// Compares what one directory of the new tree holds; those in it are left to wait.
    fn directory(
        &mut self,
        path: &[u8],
        is_in_both: bool,
        waiting: &mut Vec<(Vec<u8>, bool)>,
    ) -> Result<(), Refusal> {
        let new = open(self.new, path, OFlags::RDONLY)?;
        let old = if is_in_both { Some(open(self.old, path, OFlags::RDONLY)?) } else { None };
        let held = plain_names(&new)?;
        for name in &held {
            let Some(now) = stat(new.as_fd(), name)? else { continue };
            let before = match &old {
                Some(old) => stat(old.as_fd(), name)?.map(|it| (it, old.as_fd())),
                None => None,
            };
            let path = join(path, name);
            let was_directory = before.as_ref().is_some_and(|(it, _)| is_directory(it));
            match before {
                None => super::report(&mut self.found, path.clone(), ChangeKind::Add),
                Some((before, old)) => {
                    if is_other(old, &before, new.as_fd(), &now, name)? {
                        super::report(&mut self.found, path.clone(), ChangeKind::Modify);
                    }
                }
            }
            if is_directory(&now) {
                waiting.push((path, was_directory));
            }
        }
        if let Some(old) = old {
            for name in plain_names(&old)?.difference(&held) {
                super::report(&mut self.found, join(path, name), ChangeKind::Delete);
            }
        }
        Ok(())
    }
}

/// The names of a tree; those of aufs itself show where a branch stands for a tree, as a base layer does.
fn plain_names(handle: &OwnedFd) -> Result<BTreeSet<OsString>, Refusal> {
    let mut names = names(handle)?;
    names.retain(|it| matches!(BranchName::of(it), BranchName::Plain(_)));
    Ok(names)
}

/// Whether an entry is another than `before`; the cheapest differences come first.
fn is_other(
    old: BorrowedFd<'_>,
    before: &Stat,
    new: BorrowedFd<'_>,
    now: &Stat,
    name: &OsStr,
) -> Result<bool, Refusal> {
    if (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino) {
        return Ok(false);
    }
    let what = |it: &Stat| (it.st_mode, it.st_uid, it.st_gid, it.st_rdev);
    if what(before) != what(now) {
        return Ok(true);
    }
    if !is_directory(now) && (before.st_size != now.st_size || !is_same_time(before, now)) {
        return Ok(true);
    }
    let (old, new) = (Entry::At(old, name), Entry::At(new, name));
    if FileType::from_raw_mode(now.st_mode) == FileType::Symlink {
        let target = |it: Entry<'_>| it.read_link().map_err(refused("readlinkat"));
        return Ok(target(old)? != target(new)?);
    }
    let attributes = |it| kept_xattrs(it, KeptXattrs::default()).map_err(refused("llistxattr"));
    Ok(attributes(old)? != attributes(new)?)
}
