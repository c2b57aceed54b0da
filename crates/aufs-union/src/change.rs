//! Changes of attributes, and what else hangs on a node: extended attributes, link targets, sizes.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use aufs_host::xattr;
use rustix::fs::{self, FileType, OFlags, Stat, StatVfs, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tracing::warn;

use crate::attr::{Attr, SetAttr, SetTime};
use crate::copy_up::Keep;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::file::OpenFile;
use crate::names::NAME_LEN_MAX;
use crate::node::Node;
use crate::union::Union;

/// Whether a writer is one of the group that is asked for.
pub type IsMember<'a> = &'a dyn Fn(u32) -> bool;

impl Union {
    /// Changes attributes, after copying the entry up, and returns the new ones.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`], and what chmod, chown, truncate, utimensat report. A lower entry is then as it was.
    pub fn set_attributes(&self, node: &Arc<Node>, change: &SetAttr) -> Result<Attr, UnionError> {
        self.set_attributes_through(node, None, change, None)
    }

    /// As [`Union::set_attributes`], by the descriptor of `open` where that is open on the right file;
    /// with `ends_set_id` set-id bits go first, as by [`Union::clear_set_id`].
    ///
    /// # Errors
    ///
    /// As [`Union::set_attributes`].
    pub fn set_attributes_through(
        &self,
        node: &Arc<Node>,
        open: Option<&OpenFile>,
        change: &SetAttr,
        ends_set_id: Option<IsMember<'_>>,
    ) -> Result<Attr, UnionError> {
        self.change(node, open, change, ends_set_id).during_on("change attributes of", node)
    }

    fn change(
        &self,
        node: &Arc<Node>,
        open: Option<&OpenFile>,
        change: &SetAttr,
        ends_set_id: Option<IsMember<'_>>,
    ) -> Outcome<Attr> {
        let is_dir = node.file_type() == FileType::Directory;
        let is_copied = if is_dir {
            self.copy_node_up(node, Keep::All)?;
            false
        } else {
            self.copy_changed(node, change, ends_set_id, &|| false)?.is_some()
        };
        if change.len_bytes.is_some() {
            node.diverge();
        }
        if is_copied {
            let stat = self.on_entry(node, |_, entry| Ok(stat_changed(entry)?))?;
            return self.own_attr(node, &stat);
        }
        let by_entry = |entry: Entry<'_>| -> Outcome<Stat> {
            apply(entry, change, ends_set_id, Applied::InPlace)?;
            Ok(stat_changed(entry)?)
        };
        // Bytes that are written back meanwhile must not give back what this takes away.
        let _copying = (!is_dir).then(|| node.copying.lock());
        let stat = match open.and_then(|it| it.ready_to_change(node)) {
            Some(file) => by_entry(Entry::Open(file.as_fd()))?,
            None => self.on_entry(node, |_, entry| match change.len_bytes {
                // What has to be opened anyway serves the other changes too.
                Some(_) => {
                    let file = self.with_room(|| entry.open(OFlags::WRONLY | OFlags::NONBLOCK))?;
                    by_entry(Entry::Open(file.as_fd()))
                }
                None => by_entry(entry),
            })?,
        };
        if is_dir {
            node.lock_dir()?.passes_group = None;
        }
        self.own_attr(node, &stat)
    }

    /// Clears the set-id bits of a file, after copying it up, as a write by an ordinary user does.
    ///
    /// The group's bit stays where the group may not execute, for it means locking there, but only
    /// for members: `is_member` says whether the writer is one.
    /// Source: `setattr_should_drop_suidgid` in `fs/attr.c` of Linux.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`], and what `chmod(2)` reports.
    pub fn clear_set_id(
        &self,
        node: &Arc<Node>,
        keep: Keep,
        is_member: IsMember<'_>,
    ) -> Result<(), UnionError> {
        self.copy_node_up(node, keep)
            .and_then(|_| self.on_entry(node, |_, entry| clear_set_id(entry, is_member).map(drop)))
            .during_on("clear set-id bits of", node)
    }

    /// Clears the set-group-id bit, as a change of the access ACL by somebody outside the group does.
    ///
    /// # Errors
    ///
    /// What `chmod(2)` reports.
    pub fn clear_set_group_id(&self, node: &Arc<Node>) -> Result<(), UnionError> {
        self.on_entry(node, |_, entry| Ok(entry.chmod(entry.stat()?.st_mode & !0o2000)?))
            .during("clear the set-group-id bit of", &node.path_for_messages())
    }

    /// Reads the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the node is none.
    pub fn read_link(&self, node: &Arc<Node>) -> Result<OsString, UnionError> {
        self.on_entry(node, |_, entry| Ok(entry.read_link()?)).during_on("read link", node)
    }

    /// Returns an extended attribute, none when it is not set.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the branch has none, or the union shows none (`no_xattrs`); else what `getxattr(2)` reports.
    pub fn xattr(&self, node: &Arc<Node>, name: &OsStr) -> Result<Option<Vec<u8>>, UnionError> {
        self.offer_xattrs()
            .and_then(|()| self.on_entry(node, |_, entry| Ok(xattr::get(entry, name)?)))
            .during("read attribute", name)
    }

    /// Returns the names of the extended attributes.
    ///
    /// # Errors
    ///
    /// What `listxattr(2)` reports.
    pub fn xattr_names(&self, node: &Arc<Node>) -> Result<Vec<OsString>, UnionError> {
        self.offer_xattrs()
            .and_then(|()| self.on_entry(node, |_, entry| Ok(xattr::list(entry)?)))
            .during_on("list attributes of", node)
    }

    /// Sets an extended attribute, after copying the entry up.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`], and what `setxattr(2)` reports.
    pub fn set_xattr(
        &self,
        node: &Arc<Node>,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), UnionError> {
        self.offer_xattrs()
            .and_then(|()| self.copy_node_up(node, Keep::All))
            .and_then(|_| self.change_xattr(node, name, |entry| Ok(xattr::set(entry, name, value, flags)?)))
            .during("set attribute", name)
    }

    /// Removes an extended attribute, after copying the entry up.
    ///
    /// # Errors
    ///
    /// `ENODATA` when it is not set; else as [`Union::set_xattr`].
    pub fn remove_xattr(&self, node: &Arc<Node>, name: &OsStr) -> Result<(), UnionError> {
        self.offer_xattrs()
            .and_then(|()| self.copy_node_up(node, Keep::All))
            .and_then(|_| self.change_xattr(node, name, |entry| Ok(xattr::remove(entry, name)?)))
            .during("remove attribute", name)
    }

    fn offer_xattrs(&self) -> Outcome<()> {
        if self.no_xattrs { Err(Errno::OPNOTSUPP.into()) } else { Ok(()) }
    }

    fn change_xattr(
        &self,
        node: &Arc<Node>,
        name: &OsStr,
        change: impl FnOnce(Entry<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        if node.file_type() != FileType::Directory || name != "system.posix_acl_default" {
            let _copying = node.copying.lock(); // As for attributes.
            return self.on_entry(node, |_, entry| change(entry));
        }
        // Under the lock, since who creates here passes on to new directories what is known.
        let mut state = node.lock_dir()?;
        state.default_acl = None;
        self.on_entry(node, |_, entry| change(entry))
    }

    /// Returns the sizes of the file system that takes the writes, or of the top branch without one.
    ///
    /// # Errors
    ///
    /// What `fstatvfs(3)` reports.
    pub fn stat_fs(&self) -> Result<StatVfs, UnionError> {
        let key = self.writable_branch().or(self.branches.iter().next().map(|it| it.0));
        let branch = key.and_then(|it| self.branches.get(it)).ok_or(UnionErrorKind::Stale);
        let sizes = branch.and_then(|it| Ok(fs::fstatvfs(it.root.as_fd())?));
        let mut sizes = sizes.during("stat", OsStr::new("/"))?;
        sizes.f_namemax = NAME_LEN_MAX as u64;
        Ok(sizes)
    }

    /// Flushes a directory of the writable branch to its disk; elsewhere there is nothing to flush.
    ///
    /// # Errors
    ///
    /// What `fsync(2)` reports.
    pub fn sync_directory(&self, node: &Arc<Node>) -> Result<(), UnionError> {
        let flush = || -> Outcome<()> {
            if Some(node.branch()) == self.writable_branch() {
                let dir = self.on_entry(node, |_, entry| {
                    Ok(self.with_room(|| entry.open(OFlags::RDONLY | OFlags::DIRECTORY))?)
                })?;
                fs::fsync(&dir)?;
            }
            Ok(())
        };
        flush().during_on("sync", node)
    }
}

/// What a change is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// A draft, which goes if that fails.
    ToDraft,
    /// An entry that is shown: bytes that were cut off are lost.
    InPlace,
}

/// Applies `change`, after the set-id bits are gone that `ends_set_id` takes: changed bytes never run with them.
pub(crate) fn apply(
    entry: Entry<'_>,
    change: &SetAttr,
    ends_set_id: Option<IsMember<'_>>,
    applied: Applied,
) -> Outcome<()> {
    let before = ends_set_id.map_or(Ok(None), |is_member| clear_set_id(entry, is_member))?;
    let done = apply_parts(entry, change, applied);
    if let (Err(_), Some(mode)) = (&done, before)
        && let Err(errno) = entry.chmod(mode)
    {
        warn!(%errno, "set-id bits stay cleared, though the change failed that ends them");
    }
    done
}

/// Applies `change`: owner first, as it clears set-id bits; length late, as there is no way back;
/// times last, as the others move them.
fn apply_parts(entry: Entry<'_>, change: &SetAttr, applied: Applied) -> Outcome<()> {
    if change.uid.is_some() || change.gid.is_some() {
        entry.chown(change.uid, change.gid)?;
    }
    if let Some(mode) = change.mode {
        entry.chmod(mode)?;
    }
    if let Some(len_bytes) = change.len_bytes {
        entry.truncate(len_bytes)?;
    }
    if change.atime.is_some() || change.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec_of(change.atime),
            last_modification: timespec_of(change.mtime),
        };
        match entry.set_times(&times) {
            Err(errno) if change.len_bytes.is_some() && applied == Applied::InPlace => {
                warn!(%errno, "a file that was cut has the time of now, not the one that was asked for");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Clears set-id bits; returns the mode there was, if it had any that go.
fn clear_set_id(entry: Entry<'_>, is_member: IsMember<'_>) -> Outcome<Option<u32>> {
    let stat = entry.stat()?;
    let kept = without_set_id(stat.st_mode, || is_member(stat.st_gid));
    if kept == stat.st_mode {
        return Ok(None);
    }
    entry.chmod(kept)?;
    Ok(Some(stat.st_mode))
}

/// Asks for attributes after a change, twice if need be: the change is made, so an error would be wrong.
fn stat_changed(entry: Entry<'_>) -> rustix::io::Result<Stat> {
    entry.stat().or_else(|_| entry.stat())
}

/// Returns `mode` as a write by an ordinary user leaves it; asks about the group only where that matters.
fn without_set_id(mode: u32, is_member: impl FnOnce() -> bool) -> u32 {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2000;
    const GROUP_EXECUTE: u32 = 0o010;
    let means_locking = mode & (SET_GID | GROUP_EXECUTE) == SET_GID;
    let group = if means_locking && is_member() { 0 } else { SET_GID };
    mode & !(SET_UID | group)
}

fn timespec_of(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        Some(SetTime::At(time)) => time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_go_unless_they_mean_locking() {
        for (mode, of_member, of_other) in [
            (0o755, 0o755, 0o755),
            (0o4755, 0o755, 0o755),
            (0o2755, 0o755, 0o755),
            (0o2644, 0o2644, 0o644),
            (0o6644, 0o2644, 0o644),
            (0o6710, 0o710, 0o710),
            (0o1777, 0o1777, 0o1777),
        ] {
            assert_eq!(without_set_id(mode, || true), of_member, "{mode:o}");
            assert_eq!(without_set_id(mode, || false), of_other, "{mode:o}");
        }
    }
}
