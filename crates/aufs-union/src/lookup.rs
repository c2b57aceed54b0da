//! Finds what a directory shows under a name, and makes it a node.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use aufs_host::listing;
use parking_lot::MutexGuard;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::attr::Attr;
use crate::branch::BranchIndex;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::facts::{HeldAt, HeldList, shown};
use crate::index::Index;
use crate::marker;
use crate::names::{self, BranchName};
use crate::node::{DirState, Node};
use crate::resolve::{Held, HeldEntry, Shown};
use crate::spot::{Name, Names, Spot};
use crate::union::Union;

/// A node and its attributes.
#[derive(Debug, Clone)]
pub struct Found {
    /// The node.
    pub node: Arc<Node>,
    /// Its attributes at this moment.
    pub attr: Attr,
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Until the verdict is certain.
    Verdict,
    /// Through all branches, to know what lies below too.
    Bottom,
}

/// Lookups in a directory after which its index is built, by the number of branches that have it.
fn probes_before_index(branch_count: usize) -> u32 {
    if branch_count < 4 { 16 } else { 4 }
}

impl Union {
    /// Returns what `dir` shows under `name`, none when it shows nothing.
    ///
    /// # Errors
    ///
    /// `EPERM` for a reserved name, `ENAMETOOLONG`, `ENOTDIR`; else what the branches report.
    pub fn lookup(&self, dir: &Arc<Node>, name: &OsStr) -> Result<Option<Found>, UnionError> {
        self.find(dir, name).during("look up", name)
    }

    fn find(&self, dir: &Arc<Node>, name: &OsStr) -> Outcome<Option<Found>> {
        names::check(name)?;
        let mut state = dir.lock_dir()?;
        self.find_locked(dir, &mut state, name)
    }

    pub(crate) fn find_locked(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
    ) -> Outcome<Option<Found>> {
        if !self.revalidate
            && let Some(node) = state.index.child(name)
        {
            self.tally.known_names.increment();
            let attr = self.read_attributes(&node)?;
            return Ok(Some(Found { node, attr }));
        }
        let held = self.held(dir, state, name, Reach::Verdict)?;
        self.adopt(dir, state, name, shown(&held)).map(Some).or_else(|kind| match kind {
            UnionErrorKind::NotFound => Ok(None),
            kind => Err(kind),
        })
    }

    /// Returns the attributes of `node`.
    ///
    /// # Errors
    ///
    /// What the branch reports.
    pub fn attributes(&self, node: &Arc<Node>) -> Result<Attr, UnionError> {
        self.read_attributes(node).during_on("stat", node)
    }

    pub(crate) fn read_attributes(&self, node: &Arc<Node>) -> Outcome<Attr> {
        let stat = self.on_entry(node, |_, entry| Ok(entry.stat()?))?;
        Ok(self.attr_of(node, &stat))
    }

    /// A directory on several branches counts no links, as nobody could without reading them all.
    pub(crate) fn attr_of(&self, node: &Node, stat: &Stat) -> Attr {
        let mut attr = Attr::of(stat, node.ino());
        if node.file_type() == FileType::Directory && node.spot.read().held.is_none() {
            attr.nlink = 1;
        }
        attr
    }

    /// Returns what the branches hold under `name`, from the index where there is one.
    pub(crate) fn held(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
        reach: Reach,
    ) -> Outcome<HeldList> {
        if state.gone {
            return Err(UnionErrorKind::NotFound);
        }
        if self.revalidate {
            self.tally.probes.increment();
            return self.probe(dir, &state.branches, name, reach);
        }
        if !state.is_indexed {
            state.probes += 1;
            if state.probes <= probes_before_index(state.branches.len()) {
                self.tally.probes.increment();
                return self.probe(dir, &state.branches, name, reach);
            }
        }
        self.tally.index_hits.increment();
        Ok(HeldList::from_slice(self.index(dir, state)?.get(name)))
    }

    /// Asks each branch in turn.
    fn probe(
        &self,
        dir: &Arc<Node>,
        branches: &[BranchIndex],
        name: &OsStr,
        reach: Reach,
    ) -> Outcome<HeldList> {
        let mut list = HeldList::new();
        let mut merge = crate::resolve::Merge::default();
        for &branch in branches {
            let handle = self.dir_handle(dir, branch)?;
            let stat = match Entry::At(handle.as_fd(), name).stat() {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT | Errno::NAMETOOLONG) => None,
                Err(errno) => return Err(errno.into()),
            };
            let file_type = stat.map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode));
            let entry = match file_type {
                FileType::Unknown => HeldEntry::Nothing,
                FileType::Directory => HeldEntry::Dir,
                _ => HeldEntry::File,
            };
            // A file decides at once, unless a directory above it makes aufs look further down.
            let needs_marker = entry != HeldEntry::File
                || reach == Reach::Bottom
                || list.iter().any(|it| it.held.entry == HeldEntry::Dir);
            let hides_below = needs_marker
                && self.branches[branch.as_usize()].honors_whiteouts
                && marker::has_whiteout(&handle, name)?;
            let held = Held { entry, hides_below };
            if held != Held::default() {
                let ino = stat.map_or(0, |it| self.number(it.st_dev, it.st_ino));
                list.push(HeldAt { branch, held, file_type, ino });
            }
            if merge.feed(branch, held).is_break() && reach == Reach::Verdict {
                break;
            }
        }
        Ok(list)
    }

    /// Returns the index of `dir`, which is built now if there is none.
    pub(crate) fn index<'s>(&self, dir: &Arc<Node>, state: &'s mut DirState) -> Outcome<&'s mut Index> {
        if !state.is_indexed {
            if let Err(kind) = self.build_index(dir, &state.branches, &mut state.index) {
                state.index.clear_facts();
                return Err(kind);
            }
            state.is_indexed = true;
        }
        Ok(&mut state.index)
    }

    fn build_index(&self, dir: &Arc<Node>, branches: &[BranchIndex], index: &mut Index) -> Outcome<()> {
        self.tally.indexes_built.increment();
        for &at in branches {
            let branch = &self.branches[at.as_usize()];
            let handle = self.dir_handle(dir, at)?;
            let mut unknown = Vec::new();
            listing::read(&handle, |entry| match BranchName::of(entry.name) {
                BranchName::Plain(name) if names::check(name).is_ok() => {
                    let ino = self.number(branch.device, entry.ino);
                    index.put_entry(name, at, entry.file_type, ino);
                    if entry.file_type == FileType::Unknown {
                        unknown.push(name.to_owned());
                    }
                }
                BranchName::Whiteout(name) if branch.honors_whiteouts => index.put_marker(name, at),
                _ => (),
            })?;
            for name in unknown {
                let stat = Entry::At(handle.as_fd(), &name).stat()?;
                let ino = self.number(stat.st_dev, stat.st_ino);
                index.put_entry(&name, at, FileType::from_raw_mode(stat.st_mode), ino);
            }
        }
        index.shrink();
        Ok(())
    }

    /// Makes what is shown under `name` a node, or finds the node it is already.
    ///
    /// # Errors
    ///
    /// `NotFound` when nothing is shown.
    pub(crate) fn adopt(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
        shown: Shown,
    ) -> Outcome<Found> {
        let (branch, branches) = match shown {
            Shown::Nothing => return Err(UnionErrorKind::NotFound),
            Shown::File(branch) => (branch, Vec::new()),
            Shown::Dir(candidates) => {
                let branches = self.merged_branches(dir, name, candidates)?;
                (*branches.first().ok_or(UnionErrorKind::NotFound)?, branches)
            }
        };
        let parent = self.dir_handle(dir, branch)?;
        let stat = Entry::At(parent.as_fd(), name).stat()?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if (file_type == FileType::Directory) == branches.is_empty() {
            return Err(UnionErrorKind::Stale); // It changed its type while we looked.
        }
        if let Some(node) = self.revalidated(state, name, branch, &stat) {
            let attr = self.attr_of(&node, &stat);
            return Ok(Found { node, attr });
        }
        let shared_name = state.index.shared_name(name);
        let own = Name { dir: Arc::clone(dir), name: shared_name.clone(), branch };
        if file_type != FileType::Directory && stat.st_nlink != 1 {
            let known = self.linked.with(&(stat.st_dev, stat.st_ino), std::sync::Weak::upgrade).flatten();
            if let Some(node) = known {
                {
                    let mut spot = node.spot.write();
                    if branch == spot.branch {
                        spot.held = None; // This name leads to the bytes again.
                    }
                    if spot.is_named(dir, name).is_none() {
                        spot.names.push(own);
                    }
                }
                state.index.adopt(&shared_name, &node);
                let attr = self.read_attributes(&node)?;
                return Ok(Found { node, attr });
            }
        }
        let spot = Spot { branch, names: Names::One(own), held: None };
        let ino = self.number(stat.st_dev, stat.st_ino);
        let node = Arc::new(Node::new(self.next_id(), ino, file_type, spot, branches));
        if file_type != FileType::Directory && stat.st_nlink != 1 {
            self.remember_linked(&stat, &node);
        }
        state.index.adopt(&shared_name, &node);
        let attr = self.attr_of(&node, &stat);
        Ok(Found { node, attr })
    }

    /// Returns the node known under `name` when a fresh look at the branches says it is still that.
    fn revalidated(
        &self,
        state: &DirState,
        name: &OsStr,
        branch: BranchIndex,
        stat: &Stat,
    ) -> Option<Arc<Node>> {
        let node = state.index.child(name)?;
        let is_same = node.branch() == branch
            && node.ino() == self.number(stat.st_dev, stat.st_ino)
            && node.file_type() == FileType::from_raw_mode(stat.st_mode);
        is_same.then_some(node)
    }

    /// Drops the branches below an opaque directory.
    fn merged_branches(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        mut candidates: Vec<BranchIndex>,
    ) -> Outcome<Vec<BranchIndex>> {
        let last = candidates.len().saturating_sub(1);
        for at in 0..last {
            let branch = candidates[at];
            if self.branches[branch.as_usize()].honors_whiteouts {
                let parent = self.dir_handle(dir, branch)?;
                if marker::is_child_opaque(&parent, name)? {
                    candidates.truncate(at + 1);
                    break;
                }
            }
        }
        Ok(candidates)
    }

    /// Brings the index up to date, if the directory has one.
    pub(crate) fn note(state: &mut MutexGuard<'_, DirState>, change: impl FnOnce(&mut Index)) {
        if state.is_indexed {
            change(&mut state.index);
        }
    }
}
