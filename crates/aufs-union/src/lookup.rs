//! Finds what a directory shows under a name, and makes it a node.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use rustix::fs::{self, FileType, Stat, Timespec};

use crate::attr::Attr;
use crate::branch::BranchIndex;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::facts::shown;
use crate::gather::{Gathered, Reach};
use crate::marker;
use crate::names;
use crate::node::{DirState, Node};
use crate::resolve::Shown;
use crate::spot::{Name, Spot};
use crate::union::Union;

/// A node and its attributes.
#[derive(Debug, Clone)]
pub struct Found {
    /// The node.
    pub node: Arc<Node>,
    /// Its attributes at this moment.
    pub attr: Attr,
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
        if let Some(node) = self.known(&state, name) {
            drop(state); // Others need not wait for the host to answer.
            self.tally.known_names.increment();
            let attr = self.read_attributes(&node)?;
            return Ok(Some(Found { node, attr }));
        }
        self.find_locked(dir, &mut state, name)
    }

    /// Returns the node known under `name`, where branches do not change behind it.
    fn known(&self, state: &DirState, name: &OsStr) -> Option<Arc<Node>> {
        if self.revalidate { None } else { state.index.child(name) }
    }

    pub(crate) fn find_locked(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
    ) -> Outcome<Option<Found>> {
        if let Some(node) = self.known(state, name) {
            self.tally.known_names.increment();
            let attr = self.read_attributes(&node)?;
            return Ok(Some(Found { node, attr }));
        }
        let gathered = self.gather(dir, state, name, Reach::Verdict)?;
        self.adopt(dir, state, name, shown(&gathered.held), gathered.top).map(Some).or_else(|kind| match kind
        {
            UnionErrorKind::NotFound => Ok(None),
            kind => Err(kind),
        })
    }

    /// As [`Union::find_locked`], for who needs no attributes, with what was gathered about the name.
    pub(crate) fn node_locked(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
        gathered: &Gathered,
    ) -> Outcome<Arc<Node>> {
        match self.known(state, name) {
            Some(node) => Ok(node),
            None => Ok(self.adopt(dir, state, name, shown(&gathered.held), gathered.top)?.node),
        }
    }

    /// Returns the attributes of `node`.
    ///
    /// # Errors
    ///
    /// What the branch reports.
    pub fn attributes(&self, node: &Arc<Node>) -> Result<Attr, UnionError> {
        self.read_attributes(node).during_on("stat", node)
    }

    /// Returns the time the entry came to be on its branch, none where that does not know: a copy is as old as its copying.
    ///
    /// # Errors
    ///
    /// What the branch reports.
    pub fn birth_time(&self, node: &Arc<Node>) -> Result<Option<Timespec>, UnionError> {
        self.on_entry(node, |_, entry| Ok(entry.birth_time()?)).during_on("stat", node)
    }

    pub(crate) fn read_attributes(&self, node: &Arc<Node>) -> Outcome<Attr> {
        let stat = self.on_entry(node, |_, entry| Ok(entry.stat()?))?;
        self.own_attr(node, &stat)
    }

    /// As [`Union::attr_of`], unless others have put something of another type there, which is not the node.
    pub(crate) fn own_attr(&self, node: &Node, stat: &Stat) -> Outcome<Attr> {
        if FileType::from_raw_mode(stat.st_mode) != node.file_type() {
            return Err(UnionErrorKind::Stale);
        }
        Ok(self.attr_of(node, stat))
    }

    /// A directory on several branches counts no links, as nobody could without reading them all; nor does
    /// the root, which holds directories that nobody sees.
    pub(crate) fn attr_of(&self, node: &Node, stat: &Stat) -> Attr {
        let mut attr = Attr::of(stat, node.ino());
        if node.file_type() != FileType::Directory {
            attr.nlink = self.link_count(node, attr.nlink);
        } else if node.spot.read().held().is_none() && !node.is_on_one_branch() {
            attr.nlink = 1;
        }
        attr
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
        top: Option<(BranchIndex, Stat)>,
    ) -> Outcome<Found> {
        let mut is_cut = true;
        let (branch, branches) = match shown {
            Shown::Nothing => return Err(UnionErrorKind::NotFound),
            Shown::File(branch) => (branch, Vec::new()),
            Shown::Dir(candidates) => {
                is_cut = !self.may_cut_later(&candidates);
                let branches = if is_cut { self.merged_branches(dir, name, candidates)? } else { candidates };
                (*branches.first().ok_or(UnionErrorKind::NotFound)?, branches)
            }
        };
        let stat = match top {
            Some((at, stat)) if at == branch => stat,
            _ => Entry::At(self.dir_handle(dir, branch)?.as_fd(), name).stat()?,
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if (file_type == FileType::Directory) == branches.is_empty() {
            return Err(UnionErrorKind::Stale); // It changed its type while we looked.
        }
        if let Some(node) = self.revalidated(state, name, branch, &stat) {
            if file_type == FileType::Directory {
                self.merge_again(dir, name, &node, branches)?;
            }
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
        let spot = Spot { branch, names: vec![own], held: None };
        let ino = self.number(stat.st_dev, stat.st_ino);
        let node = Arc::new(Node::new(self.next_id(), ino, file_type, spot, branches));
        if file_type == FileType::Directory {
            node.lock_dir()?.is_cut = is_cut;
        }
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

    /// Makes a known directory show just the parts that a fresh look at the branches found.
    fn merge_again(
        &self,
        dir: &Arc<Node>,
        name: &OsStr,
        node: &Arc<Node>,
        branches: Vec<BranchIndex>,
    ) -> Outcome<()> {
        let mut inside = node.lock_dir()?;
        let mut replaced = Vec::new();
        for &branch in &branches {
            let Some(known) = node.handle(branch) else { continue };
            let (was, is) =
                (fs::fstat(&*known)?, Entry::At(self.dir_handle(dir, branch)?.as_fd(), name).stat()?);
            if (was.st_dev, was.st_ino) != (is.st_dev, is.st_ino) {
                replaced.push(branch);
            }
        }
        if inside.branches != branches || !replaced.is_empty() {
            node.keep_handles(|it| branches.contains(&it) && !replaced.contains(&it));
            inside.restack(branches);
        }
        Ok(())
    }

    /// Whether looking for opaque parts can wait until somebody looks into the directory.
    ///
    /// Its attributes are those of the topmost part either way; and so is the
    /// question whether it can be written to, if no branch above the writable one has it.
    fn may_cut_later(&self, candidates: &[BranchIndex]) -> bool {
        let is_below_writable = |top: &BranchIndex| self.writable_branch().is_none_or(|it| it <= *top);
        !self.revalidate && candidates.first().is_some_and(is_below_writable)
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
            if self.branch(branch)?.honors_whiteouts {
                let parent = self.dir_handle(dir, branch)?;
                if marker::is_child_opaque(&parent, name)? {
                    candidates.truncate(at + 1);
                    break;
                }
            }
        }
        Ok(candidates)
    }
}
