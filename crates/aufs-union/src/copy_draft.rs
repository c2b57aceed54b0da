//! Copies out of sight: drafts that get all of their original but its name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;

use aufs_host::copy::{Abandoned, CopyMethod, CopyPlan, copy_data};
use aufs_host::draft::{Draft, Special};
use aufs_host::entry::Entry;
use aufs_host::xattr;
use rustix::fs::{self, FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use tracing::warn;

use crate::copy_up::Keep;
use crate::error::{Outcome, UnionErrorKind};
use crate::pseudo_link::Origin;
use crate::report::{CopyUpPhases, Stopwatch};
use crate::union::Union;

/// A copy out of sight.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    pub(crate) draft: Draft<'a>,
    /// The draft as it was made, before it got its attributes; its number stays.
    pub(crate) made: Stat,
    pub(crate) has_xattrs: bool,
    /// What was put up for its names on lower branches, until the node has it.
    pub(crate) pseudo_link: Option<(OsString, Origin)>,
}

impl Union {
    /// Builds a copy of `source`, which is no regular file, whole but for its name.
    pub(crate) fn draft_of(&self, source: Entry<'_>) -> Outcome<(Copy<'_>, Stat)> {
        let stat = source.stat()?;
        let dir = self.writable()?.drafts.as_fd();
        let draft = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Err(UnionErrorKind::Stale), // It changed its type while we looked.
            FileType::Symlink => Draft::special(dir, Special::Symlink(&source.read_link()?), 0)?,
            FileType::Directory => Draft::special(dir, Special::Directory, stat.st_mode)?,
            other => Draft::special(dir, Special::Node(other, stat.st_rdev), stat.st_mode)?,
        };
        let made = draft.entry().stat()?;
        let has_xattrs = self.copy_attributes(source, &stat, draft.entry(), &made)?;
        Ok((Copy { draft, made, has_xattrs, pseudo_link: None }, stat))
    }

    /// As [`Union::draft_of`], for a regular file.
    pub(crate) fn draft_of_file(
        &self,
        (source, stat): (&File, &Stat),
        keep: Keep,
        is_abandoned: Abandoned<'_>,
        stopwatch: &mut Stopwatch,
        phases: &mut CopyUpPhases,
    ) -> Outcome<(Copy<'_>, CopyMethod)> {
        let drafts = self.writable()?.drafts.as_fd();
        let draft = self.with_room(|| Draft::file(drafts, stat.st_mode))?;
        let target = draft.as_file().ok_or(UnionErrorKind::Invalid)?;
        let made = fs::fstat(target)?;
        let method = self.copy_bytes((source, stat), (target, &made), keep, is_abandoned)?;
        phases.data_ns = stopwatch.lap_ns();
        let has_xattrs = self.copy_attributes(Entry::Open(source.as_fd()), stat, draft.entry(), &made)?;
        phases.attributes_ns = stopwatch.lap_ns();
        Ok((Copy { draft, made, has_xattrs, pseudo_link: None }, method))
    }

    /// Copies the bytes that are to be kept, without asking for what is known not to work between the two.
    fn copy_bytes(
        &self,
        (source, stat): (&File, &Stat),
        (target, made): (&File, &Stat),
        keep: Keep,
        is_abandoned: Abandoned<'_>,
    ) -> Outcome<CopyMethod> {
        const BLOCK_LEN_BYTES: u64 = 512;
        let (whole, devices) = (stat.st_size.cast_unsigned(), (stat.st_dev, made.st_dev));
        let len_bytes = keep.of(whole);
        let try_reflink = len_bytes == whole && self.without_reflinks.with(&devices, |()| ()).is_none();
        let may_have_holes = stat.st_blocks.cast_unsigned() * BLOCK_LEN_BYTES < whole;
        let plan = CopyPlan { len_bytes, try_reflink, may_have_holes };
        let copied = copy_data(source, target, plan, is_abandoned)?;
        if copied.never_reflinks {
            self.without_reflinks.insert(devices, ());
        }
        Ok(copied.method)
    }

    /// Gives `target` the owner, attributes, mode and times of `source`.
    ///
    /// chown clears set-id bits and file capabilities, and both it and
    /// attributes move times; hence this order. `made` is what `target` was at first.
    /// Returns whether there are extended attributes.
    fn copy_attributes(
        &self,
        source: Entry<'_>,
        stat: &Stat,
        target: Entry<'_>,
        made: &Stat,
    ) -> Outcome<bool> {
        if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
            target.chown(Some(stat.st_uid), Some(stat.st_gid))?;
        }
        let keeps_all = self.writable()?.keeps_all_xattrs;
        let mut has_xattrs = false;
        if !self.no_xattrs {
            has_xattrs = xattr::copy_all(source, target, |name, errno| {
                let may_skip = may_skip_xattr(keeps_all, name, errno);
                if may_skip {
                    warn!(?name, %errno, "an attribute cannot be kept without privilege");
                }
                may_skip
            })?;
        }
        // A draft starts without the bits that chown and writing clear, so where they are wanted this differs.
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink && made.st_mode != stat.st_mode {
            target.chmod(stat.st_mode)?;
        }
        target.set_times(&times_of(stat))?;
        Ok(has_xattrs)
    }
}

/// Whether failing to keep `name` is acceptable: only what an unprivileged server may not set.
fn may_skip_xattr(keeps_all: bool, name: &OsStr, errno: Errno) -> bool {
    !keeps_all
        && matches!(errno, Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS)
        && (xattr::in_namespace(name, "security.") || xattr::in_namespace(name, "trusted."))
}

fn times_of(stat: &Stat) -> Timestamps {
    let time =
        |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos.try_into().unwrap_or_default() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unprivileged_servers_lose_privileged_attributes() {
        for (keeps_all, name, errno, expected) in [
            (true, "security.selinux", Errno::PERM, false),
            (false, "security.selinux", Errno::PERM, true),
            (false, "trusted.x", Errno::OPNOTSUPP, true),
            (false, "user.x", Errno::OPNOTSUPP, false),
            (false, "system.posix_acl_access", Errno::PERM, false),
            (false, "security.selinux", Errno::NOSPC, false),
        ] {
            let skipped = may_skip_xattr(keeps_all, OsStr::new(name), errno);
            assert_eq!(skipped, expected, "{name} {errno:?} {keeps_all}");
        }
    }
}
