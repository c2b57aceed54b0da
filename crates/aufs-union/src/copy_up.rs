//! Copies entries to the writable branch before they change.
//!
//! A copy is a draft first and gets its bytes, owner, attributes, mode and
//! times out of sight; one step publishes it. The long part holds no lock but
//! the node's own, so that nobody else waits for a large file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aufs_host::copy::{Abandoned, CopyMethod, CopyPlan, copy_data};
use aufs_host::draft::{Draft, Special};
use aufs_host::entry::Entry;
use aufs_host::xattr;
use rustix::fs::{self, FileType, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{self, Errno};
use tracing::{debug, warn};

use crate::attr::SetAttr;
use crate::branch::BranchIndex;
use crate::change::{self, Applied, IsMember};
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::file::refuse_other_types;
use crate::node::Node;
use crate::pseudo_link::Origin;
use crate::report::{Change, CopyUpPhases, CopyUpReport, Stopwatch};
use crate::spot::Name;
use crate::union::Union;

/// How much of a regular file a copy must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Every byte.
    All,
    /// The first so many bytes; the rest is about to be cut off.
    First(u64),
}

impl Keep {
    /// Returns how many of `len_bytes` are kept.
    fn of(self, len_bytes: u64) -> u64 {
        match self {
            Self::All => len_bytes,
            Self::First(count) => len_bytes.min(count),
        }
    }
}

/// A copy out of sight.
#[derive(Debug)]
struct Copy<'a> {
    draft: Draft<'a>,
    /// The draft as it was made, before it got its attributes; its number stays.
    made: Stat,
    has_xattrs: bool,
    /// What was put up for its names on lower branches, until the node has it.
    pseudo_link: Option<(OsString, Origin)>,
}

/// A regular file that was copied up just now.
#[derive(Debug)]
pub struct CopiedFile {
    /// The copy, open for reading and writing; none where it lost its last name meanwhile.
    pub file: Option<File>,
    /// Whether it has extended attributes.
    pub has_xattrs: bool,
}

/// Attempts against an entry that others keep moving.
const ATTEMPTS: usize = 64;

impl Union {
    /// Makes `node` writable by copying it to the writable branch; true when a copy was made.
    ///
    /// Missing parent directories are copied up first, without their contents.
    /// A node without a name is copied to a file without one.
    ///
    /// # Errors
    ///
    /// The union shows the same tree after any error.
    ///
    /// - `EROFS`: each branch at or above the entry is read-only.
    /// - `ENOSPC`, `EDQUOT`: the writable branch is full.
    /// - `EPERM`, `EOPNOTSUPP`: an owner or attribute could not be kept, or the entry is immutable.
    /// - else what the branches report.
    pub fn copy_up(&self, node: &Arc<Node>, keep: Keep) -> Result<bool, UnionError> {
        self.copy_node_up(node, keep).during_on("copy up", node)
    }

    /// As [`Union::copy_up`], for anything but a directory; returns the copy when one was made.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`]; `EINTR` when `is_abandoned` said between two steps of a long copy that nobody wants it.
    pub fn copy_file_up(
        &self,
        node: &Arc<Node>,
        keep: Keep,
        is_abandoned: Abandoned<'_>,
    ) -> Result<Option<CopiedFile>, UnionError> {
        self.make_copy(node, keep, is_abandoned, |_| Ok(())).during_on("copy up", node)
    }

    /// As [`Union::copy_file_up`], to cut all bytes off; a copy that is made is empty, and without the
    /// set-id bits that `ends_set_id` takes, before it shows.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_file_up`].
    pub fn copy_file_up_empty(
        &self,
        node: &Arc<Node>,
        ends_set_id: Option<IsMember<'_>>,
        is_abandoned: Abandoned<'_>,
    ) -> Result<Option<CopiedFile>, UnionError> {
        let change = SetAttr { len_bytes: Some(0), ..SetAttr::default() };
        self.copy_changed(node, &change, ends_set_id, is_abandoned).during_on("copy up", node)
    }

    /// As [`Union::copy_file_up`]; a copy that is made has the change before it shows.
    pub(crate) fn copy_changed(
        &self,
        node: &Arc<Node>,
        change: &SetAttr,
        ends_set_id: Option<IsMember<'_>>,
        is_abandoned: Abandoned<'_>,
    ) -> Outcome<Option<CopiedFile>> {
        let keep = change.len_bytes.map_or(Keep::All, Keep::First);
        let apply = |draft: Entry<'_>| change::apply(draft, change, ends_set_id, Applied::ToDraft);
        self.make_copy(node, keep, is_abandoned, apply)
    }

    /// Whether a copy of `node` will most likely share its blocks, and so take no time for its bytes.
    pub fn shares_blocks(&self, node: &Node) -> bool {
        self.branches.get(node.branch()).is_some_and(|it| it.shares_blocks.load(Ordering::Relaxed))
    }

    pub(crate) fn copy_node_up(&self, node: &Arc<Node>, keep: Keep) -> Outcome<bool> {
        if node.file_type() == FileType::Directory {
            return match self.ensure_dir_up(node) {
                Err(UnionErrorKind::NotFound) => self.copy_removed_directory(node),
                other => other,
            };
        }
        Ok(self.make_copy(node, keep, &|| false, |_| Ok(()))?.is_some())
    }

    /// Copies up what is no directory; `change` has the last word about the copy before it shows.
    fn make_copy(
        &self,
        node: &Arc<Node>,
        keep: Keep,
        is_abandoned: Abandoned<'_>,
        change: impl FnOnce(Entry<'_>) -> Outcome<()>,
    ) -> Outcome<Option<CopiedFile>> {
        let target = self.writable()?.index;
        if node.branch() == target {
            return Ok(None);
        }
        let _copying = node.copying.lock();
        let branch = node.branch();
        if branch == target {
            return Ok(None); // Another thread was faster.
        }
        if branch < target {
            return Err(UnionErrorKind::NoWritableBranch);
        }
        let mut phases = CopyUpPhases::default();
        let mut stopwatch = Stopwatch::start();
        self.refuse_immutable(node)?;
        let (mut copy, stat, method) = if node.file_type() == FileType::RegularFile {
            // Nobody who moves or removes the file is to wait for its bytes.
            let source = self.on_entry(node, |_, entry| Ok(self.with_room(|| open_source(entry))?))?;
            let stat = fs::fstat(&source)?;
            refuse_other_types(&stat)?;
            phases.open_source_ns = stopwatch.lap_ns();
            let (copy, method) =
                self.draft_of_file((&source, &stat), keep, is_abandoned, &mut stopwatch, &mut phases)?;
            let shares_blocks = method == CopyMethod::Reflink;
            self.branch(branch)?.shares_blocks.store(shares_blocks, Ordering::Relaxed);
            (copy, stat, Some(method))
        } else {
            let (copy, stat) = self.on_entry(node, |_, entry| self.draft_of(entry))?;
            phases.attributes_ns = stopwatch.lap_ns();
            (copy, stat, None)
        };
        change(copy.draft.entry())?;
        if let Some(file) = copy.draft.as_file().filter(|_| self.sync) {
            fs::fsync(file)?;
        }
        phases.attributes_ns += stopwatch.lap_ns();
        let len_bytes = if method.is_some() { keep.of(stat.st_size.cast_unsigned()) } else { 0 };
        let counted = self.own_link_count(node);
        let has_name = node.spot.read().primary().is_some();
        let has_others = u64::from(has_name) < counted.map_or(stat.st_nlink, u64::from);
        if has_others && (counted.is_some() || stat.st_nlink != 1) {
            let origin = Origin::of(&stat);
            let name = self.put_pseudo_link(copy.draft.entry(), &copy.made, origin)?;
            copy.pseudo_link = Some((name, origin));
        }
        let has_name = self.publish(node, &mut copy, &stat, &mut stopwatch, &mut phases);
        if let (Err(_), Some((name, _))) = (&has_name, &copy.pseudo_link) {
            self.remove_pseudo_link(name)?;
        }
        let has_name = has_name?;
        debug!(node = node.id(), len_bytes, "copied up");
        self.report_copy(node, len_bytes, method, phases);
        let (has_xattrs, file) = (copy.has_xattrs, copy.draft.into_published());
        Ok(Some(CopiedFile { file: file.filter(|_| has_name), has_xattrs }))
    }

    /// Makes the copy the node's own; false when the node has no name any more, and so neither has the copy.
    fn publish(
        &self,
        node: &Arc<Node>,
        copy: &mut Copy<'_>,
        origin: &Stat,
        stopwatch: &mut Stopwatch,
        phases: &mut CopyUpPhases,
    ) -> Outcome<bool> {
        for _ in 0..ATTEMPTS {
            let Some(name) = node.spot.read().primary().cloned() else {
                self.publish_nameless(node, copy)?;
                phases.publish_ns += stopwatch.lap_ns();
                return Ok(false);
            };
            self.ensure_dir_up(&name.dir)?;
            phases.parents_ns += stopwatch.lap_ns();
            let is_done = self.publish_copy(node, &name, copy, origin)?;
            phases.publish_ns += stopwatch.lap_ns();
            if is_done {
                self.attributes_changed(&name.dir);
                return Ok(true);
            }
        }
        Err(UnionErrorKind::Stale)
    }

    fn report_copy(&self, node: &Node, len_bytes: u64, method: Option<CopyMethod>, phases: CopyUpPhases) {
        let (node_id, file_type) = (node.id(), node.file_type());
        self.tell(Change::CopiedUp(CopyUpReport { node_id, file_type, len_bytes, method, phases }));
    }

    /// Gives the draft the node's name; false when the node went elsewhere meanwhile.
    fn publish_copy(
        &self,
        node: &Arc<Node>,
        name: &Name,
        copy: &mut Copy<'_>,
        origin: &Stat,
    ) -> Outcome<bool> {
        let target = self.writable()?.index;
        let mut state = name.dir.lock_dir()?;
        if state.gone || !state.branches.contains(&target) {
            return Ok(false);
        }
        let parent = self.dir_handle(&name.dir, target)?;
        let mut spot = node.spot.write();
        let Some(at) = spot.names.iter().position(|it| it.is(&name.dir, &name.name)) else {
            return Ok(false);
        };
        copy.draft.publish(&parent, &name.name)?;
        spot.names[at].branch = target;
        spot.branch = target;
        node.moved();
        Self::note(&mut state, |index| index.put_entry(&name.name, target, node.file_type(), node.ino()));
        self.origins.insert((copy.made.st_dev, copy.made.st_ino), node.ino());
        if let Some(pseudo_link) = copy.pseudo_link.take() {
            self.remember_linked(&copy.made, node);
            self.note_pseudo_link(node, u32::try_from(origin.st_nlink).unwrap_or(u32::MAX), pseudo_link);
        }
        Ok(true)
    }

    /// Keeps the copy of a file whose known names are all gone.
    fn publish_nameless(&self, node: &Arc<Node>, copy: &mut Copy<'_>) -> Outcome<()> {
        let target = self.writable()?.index;
        let file = copy.draft.keep()?;
        if let Some(pseudo_link) = copy.pseudo_link.take() {
            match self.own_link_count(node) {
                // A name that nobody asked for yet leads to the bytes too.
                Some(nlink) => {
                    self.remember_linked(&copy.made, node);
                    self.note_pseudo_link(node, nlink, pseudo_link);
                }
                None => self.remove_pseudo_link(&pseudo_link.0)?,
            }
        }
        let mut spot = node.spot.write();
        spot.held = Some(Arc::new(file));
        spot.branch = target;
        node.moved();
        Ok(())
    }

    /// Builds a copy of `source`, which is no regular file, whole but for its name.
    fn draft_of(&self, source: Entry<'_>) -> Outcome<(Copy<'_>, Stat)> {
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
    fn draft_of_file(
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

    /// Makes sure that the writable branch has the directory `dir`; true when it had not.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`]; `NotFound` when the directory was removed.
    pub(crate) fn ensure_dir_up(&self, dir: &Arc<Node>) -> Outcome<bool> {
        if self.is_dir_up(dir)? {
            return Ok(false);
        }
        // From the topmost that is missing down: trees may be deeper than a stack.
        let mut missing = vec![(Arc::clone(dir), Stopwatch::start())];
        let (mut attempts, mut is_copied) = (0, false);
        while let Some((at, stopwatch)) = missing.last_mut() {
            if self.is_dir_up(at)? {
                missing.pop();
                continue;
            }
            let name = at.spot.read().primary().cloned().ok_or(UnionErrorKind::NotFound)?;
            if !self.is_dir_up(&name.dir)? {
                missing.push((name.dir, Stopwatch::start()));
                continue;
            }
            let mut phases = CopyUpPhases { parents_ns: stopwatch.lap_ns(), ..CopyUpPhases::default() };
            if self.copy_directory_up(at, &name, self.writable()?.index, stopwatch, &mut phases)? {
                self.attributes_changed(&name.dir);
                self.attributes_changed(at);
                self.report_copy(at, 0, None, phases);
                is_copied |= Arc::ptr_eq(at, dir);
            } else {
                attempts += 1;
                if ATTEMPTS <= attempts {
                    return Err(UnionErrorKind::Stale);
                }
            }
        }
        Ok(is_copied)
    }

    /// Whether the writable branch has the directory `dir`; an error where it cannot get it.
    fn is_dir_up(&self, dir: &Arc<Node>) -> Outcome<bool> {
        let target = self.writable()?.index;
        let state = dir.lock_dir()?;
        if state.gone {
            return Err(UnionErrorKind::NotFound);
        }
        if state.branches.contains(&target) {
            return Ok(true);
        }
        // A read-only branch above would go on hiding what is put below it.
        if state.branches.first().is_some_and(|top| *top < target) {
            return Err(UnionErrorKind::NoWritableBranch);
        }
        Ok(false)
    }

    /// Gives a removed directory that somebody has open a copy without a name, which may change; true when one was made.
    fn copy_removed_directory(&self, dir: &Arc<Node>) -> Outcome<bool> {
        let target = self.writable()?.index;
        let state = dir.lock_dir()?;
        if !state.gone || dir.branch() < target {
            return Err(UnionErrorKind::NotFound);
        }
        if dir.branch() == target {
            return Ok(false);
        }
        let source = self.dir_handle(dir, dir.branch())?;
        let (copy, _) = self.draft_of(Entry::Held(source.as_fd()))?;
        let held = copy.draft.keep()?;
        let mut spot = dir.spot.write();
        spot.held = Some(Arc::new(held));
        spot.branch = target;
        dir.moved();
        Ok(true)
    }

    /// Copies the directory itself; false when it moved, or another thread was faster.
    fn copy_directory_up(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        target: BranchIndex,
        stopwatch: &mut Stopwatch,
        phases: &mut CopyUpPhases,
    ) -> Outcome<bool> {
        let mut above = name.dir.lock_dir()?;
        let mut state = dir.lock_dir()?;
        let is_in_place = dir.spot.read().is_named(&name.dir, &name.name).is_some();
        if above.gone || state.gone || !is_in_place || state.branches.contains(&target) {
            return Ok(false);
        }
        let source = self.dir_handle(dir, dir.branch())?;
        let parent = self.dir_handle(&name.dir, target)?;
        phases.open_source_ns = stopwatch.lap_ns();
        let (mut copy, _) = self.draft_of(Entry::Held(source.as_fd()))?;
        phases.attributes_ns = stopwatch.lap_ns();
        copy.draft.publish(&parent, &name.name)?;
        self.origins.insert((copy.made.st_dev, copy.made.st_ino), dir.ino());
        let at = state.branches.partition_point(|it| *it < target);
        state.branches.insert(at, target);
        {
            let mut spot = dir.spot.write();
            spot.branch = state.branches[0];
            let branch = spot.branch;
            for name in spot.names.iter_mut() {
                name.branch = branch;
            }
        }
        dir.moved();
        Self::note(&mut above, |index| index.put_entry(&name.name, target, FileType::Directory, dir.ino()));
        phases.publish_ns = stopwatch.lap_ns();
        Ok(true)
    }

    /// Makes sure that the writable branch holds `node` under just this name.
    ///
    /// A hard link of a lower branch may have been copied up under another name.
    pub(crate) fn ensure_name_up(&self, node: &Arc<Node>, dir: &Arc<Node>, name: &OsStr) -> Outcome<()> {
        let target = self.writable()?.index;
        self.copy_node_up(node, Keep::All)?;
        if node.file_type() == FileType::Directory {
            return Ok(());
        }
        match node.spot.read().is_named(dir, name) {
            None => return Err(UnionErrorKind::NotFound),
            Some(found) if found.branch == target => return Ok(()),
            Some(_) => (),
        }
        self.ensure_dir_up(dir)?;
        let mut state = dir.lock_dir()?;
        let parent = self.dir_handle(dir, target)?;
        let mut spot = node.spot.write();
        if spot.is_named(dir, name).is_none() {
            return Err(UnionErrorKind::NotFound);
        }
        match self.link_bytes(&spot, &parent, name) {
            Ok(()) | Err(UnionErrorKind::Branch(Errno::EXIST)) => spot.name_is_on(dir, name, target),
            Err(kind) => return Err(kind),
        }
        spot.held = None;
        Self::note(&mut state, |index| index.put_entry(name, target, node.file_type(), node.ino()));
        Ok(())
    }
}

/// Opens a file to copy it; only its owner may leave its time of access alone.
///
/// Waits for nobody, should it be a FIFO by now.
fn open_source(entry: Entry<'_>) -> io::Result<File> {
    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);
    match entry.open(FLAGS | OFlags::NOATIME) {
        Err(Errno::PERM) => entry.open(FLAGS),
        other => other,
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
