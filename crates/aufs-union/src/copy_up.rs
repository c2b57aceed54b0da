//! Copies entries to the writable branch before they change.
//!
//! A copy is a draft first and gets its bytes, owner, attributes, mode and
//! times out of sight; one step publishes it. The long part holds no lock but
//! the node's own, so that nobody else waits for a large file.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aufs_host::copy::{Abandoned, CopyMethod};
use aufs_host::entry::Entry;
use rustix::fs::{self, FileType, OFlags, Stat};
use rustix::io::{self, Errno};
use tracing::debug;

use crate::attr::SetAttr;
use crate::change::{self, Applied, IsMember};
use crate::copy_draft::Copy;
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
    pub(crate) fn of(self, len_bytes: u64) -> u64 {
        match self {
            Self::All => len_bytes,
            Self::First(count) => len_bytes.min(count),
        }
    }
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
pub(crate) const ATTEMPTS: usize = 64;

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

    pub(crate) fn report_copy(
        &self,
        node: &Node,
        len_bytes: u64,
        method: Option<CopyMethod>,
        phases: CopyUpPhases,
    ) {
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
