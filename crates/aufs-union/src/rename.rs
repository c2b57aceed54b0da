//! Moves entries within the union.
//!
//! What moves is brought to the writable branch first, in place. Then the old
//! name gets its whiteout, if something below would show, and one rename(2)
//! publishes the move: in one branch a name beats its marker, so each step
//! before and after leaves the tree as it was or as it is to be.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::MutexGuard;
use rustix::fs::{self, FileType, RenameFlags};

use crate::branch::BranchIndex;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::facts::{HeldList, entry_at, has_marker, shown, would_merge_below};
use crate::file_name::FileName;
use crate::gather::Reach;
use crate::marker;
use crate::names;
use crate::node::{DirState, Node};
use crate::remove::removal;
use crate::resolve::{HeldEntry, Shown};
use crate::spot::Name;
use crate::union::Union;

/// What a rename does when the new name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as `rename(2)`.
    Replace,
    /// Refuse (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap both (`RENAME_EXCHANGE`).
    Exchange,
}

/// One end of a rename.
#[derive(Debug, Clone, Copy)]
struct End<'a> {
    dir: &'a Arc<Node>,
    name: &'a OsStr,
}

/// The locked states of one or two directories.
struct Locked<'a> {
    from: MutexGuard<'a, DirState>,
    /// None when both names lie in one directory.
    to: Option<MutexGuard<'a, DirState>>,
}

impl<'a> Locked<'a> {
    fn to(&mut self) -> &mut MutexGuard<'a, DirState> {
        self.to.as_mut().unwrap_or(&mut self.from)
    }
}

impl Union {
    /// Moves `name` of `dir` to `new_name` of `new_dir`.
    ///
    /// # Errors
    ///
    /// - `EXDEV`: a directory that shows entries of lower branches; move it piece by piece, as `mv` does.
    /// - `ENOENT`, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EINVAL` as `renameat2(2)`.
    /// - `EPERM`, `ENAMETOOLONG`: a name is reserved or too long.
    /// - `EROFS`: no writable branch at or above; else what the writable branch reports.
    pub fn rename(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        new_dir: &Arc<Node>,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), UnionError> {
        let (from, to) = (End { dir, name }, End { dir: new_dir, name: new_name });
        self.rename_ends(from, to, mode).during("rename", name)
    }

    fn rename_ends(&self, from: End<'_>, to: End<'_>, mode: RenameMode) -> Outcome<()> {
        names::check(from.name)?;
        names::check(to.name)?;
        self.writable()?;
        // Only moves between directories can change which is above which.
        let _moving = (!Arc::ptr_eq(from.dir, to.dir)).then(|| self.moving.lock());
        for _ in 0..64 {
            let source = self.lookup_end(from)?.ok_or(UnionErrorKind::NotFound)?;
            let target = self.lookup_end(to)?;
            if !self.may_rename(from, to, &source, target.as_ref(), mode)? {
                return Ok(());
            }
            self.prepare(from, &source)?;
            match (&target, mode) {
                (Some(target), RenameMode::Exchange) => self.prepare(to, target)?,
                _ => self.ensure_dir_up(to.dir).map(drop)?,
            }
            let done = match (&target, mode) {
                (Some(target), RenameMode::Exchange) => self.exchange(from, to, &source, target)?,
                _ => self.move_over(from, to, &source, target.as_ref())?,
            };
            if done {
                return Ok(());
            }
        }
        Err(UnionErrorKind::Stale)
    }

    fn lookup_end(&self, end: End<'_>) -> Outcome<Option<Arc<Node>>> {
        let mut state = end.dir.lock_dir()?;
        if !self.revalidate
            && let Some(node) = state.index.child(end.name)
        {
            return Ok(Some(node));
        }
        Ok(self.find_locked(end.dir, &mut state, end.name)?.map(|it| it.node))
    }

    /// Whether there is anything to do.
    fn may_rename(
        &self,
        from: End<'_>,
        to: End<'_>,
        source: &Arc<Node>,
        target: Option<&Arc<Node>>,
        mode: RenameMode,
    ) -> Outcome<bool> {
        // Neither may lie in the other, and a directory that is locked as an end is locked once.
        if is_at_or_above(source, to.dir) {
            return Err(UnionErrorKind::Invalid);
        }
        if target.is_some_and(|it| is_at_or_above(it, from.dir)) {
            let is_swap = mode == RenameMode::Exchange;
            return Err(if is_swap { UnionErrorKind::Invalid } else { UnionErrorKind::NotEmpty });
        }
        let is_dir = |node: &Arc<Node>| node.file_type() == FileType::Directory;
        match (target, mode) {
            (None, RenameMode::Exchange) => return Err(UnionErrorKind::NotFound),
            (Some(_), RenameMode::NoReplace) => return Err(UnionErrorKind::Exists),
            (Some(target), _) if Arc::ptr_eq(source, target) => return Ok(false),
            (Some(target), RenameMode::Replace) => match (is_dir(source), is_dir(target)) {
                (true, false) => return Err(UnionErrorKind::NotDirectory),
                (false, true) => return Err(UnionErrorKind::IsDirectory),
                (true, true) => {
                    let mut inside = target.lock_dir()?;
                    if !self.is_empty_locked(target, &mut inside)? {
                        return Err(UnionErrorKind::NotEmpty);
                    }
                }
                (false, false) => (),
            },
            _ => (),
        }
        Ok(true)
    }

    /// Brings what moves to the writable branch, under its present name.
    fn prepare(&self, end: End<'_>, node: &Arc<Node>) -> Outcome<()> {
        if node.file_type() == FileType::Directory {
            self.refuse_lower_entries(node)?;
            self.ensure_dir_up(node)?;
            return Ok(());
        }
        self.ensure_name_up(node, end.dir, end.name)
    }

    /// A directory moves in one step only when lower branches contribute nothing to it.
    fn refuse_lower_entries(&self, node: &Arc<Node>) -> Outcome<()> {
        let target = self.writable()?.index;
        let mut state = node.lock_dir()?;
        if state.branches == [target] {
            return Ok(());
        }
        let shows_lower = self.index(node, &mut state)?.any(|held| match shown(held) {
            Shown::Nothing => false,
            Shown::File(branch) => branch != target,
            Shown::Dir(branches) => branches.iter().any(|it| *it != target),
        });
        if shows_lower { Err(UnionErrorKind::CrossBranch) } else { Ok(()) }
    }

    /// Locks both directories, the upper one in the tree first.
    fn lock_both<'a>(&self, from: End<'a>, to: End<'a>) -> Outcome<Locked<'a>> {
        if Arc::ptr_eq(from.dir, to.dir) {
            return Ok(Locked { from: from.dir.lock_dir()?, to: None });
        }
        let to_first =
            is_above(to.dir, from.dir) || (!is_above(from.dir, to.dir) && to.dir.id() < from.dir.id());
        if to_first {
            let upper = to.dir.lock_dir()?;
            return Ok(Locked { from: from.dir.lock_dir()?, to: Some(upper) });
        }
        let lower = from.dir.lock_dir()?;
        Ok(Locked { from: lower, to: Some(to.dir.lock_dir()?) })
    }

    /// Moves `source` to a name that is free or may be replaced; false when something changed meanwhile.
    fn move_over(
        &self,
        from: End<'_>,
        to: End<'_>,
        source: &Arc<Node>,
        target: Option<&Arc<Node>>,
    ) -> Outcome<bool> {
        let writable = self.writable()?.index;
        let mut locked = self.lock_both(from, to)?;
        let old_held = self.held(from.dir, &mut locked.from, from.name, Reach::Bottom)?;
        let new_held = self.held(to.dir, locked.to(), to.name, Reach::Bottom)?;
        let is_dir = source.file_type() == FileType::Directory;
        if !self.is_ready(&locked.from, from, source, &old_held)
            || !locked.to().branches.contains(&writable)
            || locked.to().index.child(to.name).map(|it| it.id()) != target.map(|it| it.id())
            || (target.is_none() && shown(&new_held) != Shown::Nothing)
        {
            return Ok(false);
        }
        let parents = (self.dir_handle(from.dir, writable)?, self.dir_handle(to.dir, writable)?);
        let was_held = target.is_some_and(|it| it.spot.read().held().is_some());
        let new_name = locked.to().index.shared_name(to.name);
        let own = Name { dir: Arc::clone(to.dir), name: new_name.clone(), branch: writable };
        let moved =
            self.publish_move(&mut locked, (from, to), source, target, &parents, (&old_held, &new_held), own);
        let replaced_nlink = match moved {
            Ok(nlink) => nlink,
            Err(kind) => {
                // Both names stay, so the replaced entry is to be found by its own again.
                if let Some(target) = target.filter(|_| !was_held) {
                    target.spot.write().held = None;
                }
                if removal(&old_held, writable).needs_marker {
                    Self::drop_marker(&mut locked.from, &parents.0, from.name, writable);
                }
                return Err(kind);
            }
        };
        self.after_move(&mut locked, from, to, &new_name, source, target)?;
        if let Some(target) = target.filter(|_| !is_dir) {
            self.lost_name(target, replaced_nlink);
        }
        // An empty directory may have left one when it was replaced.
        if has_marker(&new_held, writable) || (is_dir && target.is_some()) {
            Self::drop_marker(locked.to(), &parents.1, to.name, writable);
        }
        Ok(true)
    }

    /// Moves on the branch; returns how many names a replaced file had on a lower one.
    #[expect(clippy::too_many_arguments, reason = "both ends of a move, as found under their locks")]
    fn publish_move(
        &self,
        locked: &mut Locked<'_>,
        (from, to): (End<'_>, End<'_>),
        source: &Arc<Node>,
        target: Option<&Arc<Node>>,
        (old_parent, new_parent): &(Arc<OwnedFd>, Arc<OwnedFd>),
        (old_held, new_held): (&HeldList, &HeldList),
        own: Name,
    ) -> Outcome<u32> {
        let writable = self.writable()?.index;
        let root = &self.branch(writable)?.root;
        let mut replaced_nlink = 1;
        if source.file_type() == FileType::Directory {
            self.refuse_lower_entries(source)?;
            // At its new place nothing below may shine through.
            if self.would_merge(new_held, writable) || self.always_opaque {
                marker::put_opaque(root, &*self.dir_handle(source, writable)?)?;
            }
            if let Some(target) = target {
                self.empty_target(target, locked.to(), to, new_parent, new_held)?;
            }
        } else if let Some(target) = target {
            replaced_nlink = self.hold_before_replacing(target, to)?;
        }
        self.put_marker_for(&mut locked.from, old_parent, from.name, removal(old_held, writable))?;
        let mut spot = source.spot.write();
        fs::renameat(old_parent, from.name, new_parent, to.name)?;
        spot.forget_name(from.dir, from.name);
        spot.names.push(own);
        Ok(replaced_nlink)
    }

    fn after_move(
        &self,
        locked: &mut Locked<'_>,
        from: End<'_>,
        to: End<'_>,
        new_name: &FileName,
        source: &Arc<Node>,
        target: Option<&Arc<Node>>,
    ) -> Outcome<()> {
        let writable = self.writable()?.index;
        if locked.to.is_none() {
            Self::note(&mut locked.from, |index| index.take_place(from.name, new_name));
        }
        locked.from.index.disown(from.name);
        Self::note(&mut locked.from, |index| index.take_entry(from.name, writable));
        if let Some(target) = target {
            target.spot.write().forget_name(to.dir, to.name);
            locked.to().index.disown(to.name);
            if target.file_type() == FileType::Directory {
                let mut inside = target.lock_dir()?;
                inside.remove();
            }
        }
        locked.to().index.adopt(new_name, source);
        let (file_type, ino) = (source.file_type(), source.ino());
        Self::note(locked.to(), |index| index.put_entry(to.name, writable, file_type, ino));
        if file_type == FileType::Directory {
            let mut inside = source.lock_dir()?;
            inside.branches = vec![writable];
            Self::note(&mut inside, |index| index.keep_only(writable));
            source.spot.write().branch = writable;
        }
        Ok(())
    }

    /// Whether the entry still is `source`, on the writable branch.
    fn is_ready(&self, state: &DirState, end: End<'_>, source: &Arc<Node>, held: &HeldList) -> bool {
        let Some(writable) = self.writable_branch() else { return false };
        let is_same =
            self.revalidate || state.index.child(end.name).is_some_and(|it| Arc::ptr_eq(&it, source));
        is_same && entry_at(held, writable) != HeldEntry::Nothing && source.branch() == writable
    }

    /// Whether a directory of the writable branch under this name would merge with one below.
    fn would_merge(&self, held: &HeldList, writable: BranchIndex) -> bool {
        would_merge_below(held, writable) || has_marker(held, writable)
    }

    /// Makes the writable branch's part of an empty merged directory truly empty, so that rename(2) replaces it.
    fn empty_target(
        &self,
        target: &Arc<Node>,
        state: &mut MutexGuard<'_, DirState>,
        to: End<'_>,
        parent: &Arc<OwnedFd>,
        held: &HeldList,
    ) -> Outcome<()> {
        let writable = self.writable()?.index;
        let mut inside = target.lock_dir()?;
        if !self.is_empty_locked(target, &mut inside)? {
            return Err(UnionErrorKind::NotEmpty);
        }
        let handle = self.dir_handle(target, target.branch())?;
        if inside.branches.contains(&writable) {
            // Its own whiteout hides what lies below while those inside go. Where nothing is beside it,
            // it would hide the directory before the other has its place.
            self.put_marker_for(state, parent, to.name, removal(held, writable))?;
            marker::clear(&*self.dir_handle(target, writable)?)?;
        }
        target.spot.write().held = Some(handle);
        Ok(())
    }

    /// Keeps the file that loses its name, for those who have it open and for its other names.
    ///
    /// Returns how many names it has on a lower branch.
    fn hold_before_replacing(&self, target: &Arc<Node>, to: End<'_>) -> Outcome<u32> {
        let host_nlink = self.refuse_immutable(target)?;
        self.keep_bytes(&mut target.spot.write(), to.dir, to.name)?;
        Ok(host_nlink)
    }

    /// Swaps two entries of the writable branch; false when something changed meanwhile.
    fn exchange(&self, from: End<'_>, to: End<'_>, source: &Arc<Node>, target: &Arc<Node>) -> Outcome<bool> {
        let writable = self.writable()?.index;
        let mut locked = self.lock_both(from, to)?;
        let old_held = self.held(from.dir, &mut locked.from, from.name, Reach::Bottom)?;
        let new_held = self.held(to.dir, locked.to(), to.name, Reach::Bottom)?;
        let is_ready = self.is_ready(&locked.from, from, source, &old_held);
        if !is_ready || !self.is_ready(locked.to(), to, target, &new_held) {
            return Ok(false);
        }
        let old_parent = self.dir_handle(from.dir, writable)?;
        let new_parent = self.dir_handle(to.dir, writable)?;
        let root = &self.branch(writable)?.root;
        for (node, held) in [(source, &new_held), (target, &old_held)] {
            if node.file_type() == FileType::Directory {
                self.refuse_lower_entries(node)?;
                if self.would_merge(held, writable) {
                    marker::put_opaque(root, &*self.dir_handle(node, writable)?)?;
                }
            }
        }
        let new_name = locked.to().index.shared_name(to.name);
        let old_name = locked.from.index.shared_name(from.name);
        {
            let mut spot = source.spot.write();
            fs::renameat_with(&old_parent, from.name, &new_parent, to.name, RenameFlags::EXCHANGE)?;
            spot.forget_name(from.dir, from.name);
            spot.names.push(Name { dir: Arc::clone(to.dir), name: new_name.clone(), branch: writable });
        }
        {
            let mut spot = target.spot.write();
            spot.forget_name(to.dir, to.name);
            spot.names.push(Name { dir: Arc::clone(from.dir), name: old_name.clone(), branch: writable });
        }
        locked.from.index.adopt(&old_name, target);
        locked.to().index.adopt(&new_name, source);
        Self::note(&mut locked.from, |index| {
            index.put_entry(from.name, writable, target.file_type(), target.ino());
        });
        Self::note(locked.to(), |index| index.put_entry(to.name, writable, source.file_type(), source.ino()));
        for node in [source, target] {
            if node.file_type() == FileType::Directory {
                let mut inside = node.lock_dir()?;
                inside.branches = vec![writable];
                Self::note(&mut inside, |index| index.keep_only(writable));
                node.spot.write().branch = writable;
            }
        }
        Ok(true)
    }
}

/// Whether `upper` is `lower` or lies above it.
fn is_at_or_above(upper: &Arc<Node>, lower: &Arc<Node>) -> bool {
    Arc::ptr_eq(upper, lower) || is_above(upper, lower)
}

/// Whether `upper` lies above `lower`.
fn is_above(upper: &Arc<Node>, lower: &Arc<Node>) -> bool {
    let mut at = lower.parent();
    while let Some(node) = at {
        if Arc::ptr_eq(upper, &node) {
            return true;
        }
        at = node.parent();
    }
    false
}
