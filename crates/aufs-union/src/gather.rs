//! Collects facts about names from the branches: by asking for one name, or by reading whole directories.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use aufs_host::listing;
use parking_lot::MutexGuard;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::branch::BranchIndex;
use crate::error::{Outcome, UnionErrorKind};
use crate::facts::{HeldAt, HeldList};
use crate::index::Index;
use crate::marker;
use crate::names::BranchName;
use crate::node::{DirState, Node};
use crate::resolve::{Held, HeldEntry, Merge};
use crate::stack::Branch;
use crate::union::Union;

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Until the verdict is certain.
    Verdict,
    /// Through all branches, to know what lies below too.
    Bottom,
}

/// What the branches hold under a name.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) held: HeldList,
    /// The topmost entry, where asking for the facts told more than those.
    pub(crate) top: Option<(BranchIndex, Stat)>,
}

/// Lookups in a directory after which its index is built, by the number of branches that have it.
///
/// Asking many branches for one name costs about as much as reading them all once.
fn probes_before_index(branch_count: usize) -> u32 {
    match branch_count {
        0..=3 => 16,
        4 => 4,
        _ => 0,
    }
}

impl Union {
    /// Returns what the branches hold under `name`, from the index where there is one.
    pub(crate) fn held(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
        reach: Reach,
    ) -> Outcome<HeldList> {
        Ok(self.gather(dir, state, name, reach)?.held)
    }

    /// As [`Union::held`], with what came along.
    pub(crate) fn gather(
        &self,
        dir: &Arc<Node>,
        state: &mut DirState,
        name: &OsStr,
        reach: Reach,
    ) -> Outcome<Gathered> {
        if state.gone {
            return Err(UnionErrorKind::NotFound);
        }
        if self.revalidate {
            self.merge_root_again(dir, state)?;
            return self.probe(dir, &state.branches, name, reach);
        }
        if !state.is_indexed {
            state.probes += 1;
            if state.probes <= probes_before_index(state.branches.len()) {
                self.cut_at_opaque(dir, state)?;
                return self.probe(dir, &state.branches, name, reach);
            }
        }
        match self.index(dir, state) {
            Ok(index) => {
                self.tally.index_hits.increment();
                Ok(Gathered { held: HeldList::from_slice(index.get(name)), top: None })
            }
            // A directory that may be searched but not read: names can still be asked for.
            Err(UnionErrorKind::Branch(Errno::ACCESS)) => {
                state.probes = 0;
                self.cut_at_opaque(dir, state)?;
                self.probe(dir, &state.branches, name, reach)
            }
            Err(kind) => Err(kind),
        }
    }

    /// Looks for opaque markers in the root, which nobody looks up: others may have put one there.
    pub(crate) fn merge_root_again(&self, dir: &Arc<Node>, state: &mut DirState) -> Outcome<()> {
        if dir.id() != Node::ROOT_ID {
            return Ok(());
        }
        let mut branches = Vec::new();
        for (key, branch) in self.branches.iter() {
            branches.push(key);
            if branch.honors_whiteouts && marker::is_opaque(&branch.root)? {
                break;
            }
        }
        if branches != state.branches {
            state.restack(branches);
        }
        Ok(())
    }

    /// Asks each branch in turn.
    fn probe(
        &self,
        dir: &Arc<Node>,
        branches: &[BranchIndex],
        name: &OsStr,
        reach: Reach,
    ) -> Outcome<Gathered> {
        self.tally.probes.increment();
        let mut gathered = Gathered::default();
        let mut merge = Merge::default();
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
                || gathered.held.iter().any(|it| it.held.entry == HeldEntry::Dir);
            let hides_below =
                needs_marker && self.branch(branch)?.honors_whiteouts && marker::has_whiteout(&handle, name)?;
            let held = Held { entry, hides_below };
            if held != Held::default() {
                let ino = stat.map_or(0, |it| self.number(it.st_dev, it.st_ino));
                gathered.held.push(HeldAt { branch, held, file_type, ino });
            }
            gathered.top = gathered.top.or(stat.map(|it| (branch, it)));
            if merge.feed(branch, held).is_break() && reach == Reach::Verdict {
                break;
            }
        }
        Ok(gathered)
    }

    /// Drops the branches below an opaque part of the directory, if nobody looked for one yet.
    fn cut_at_opaque(&self, dir: &Arc<Node>, state: &mut DirState) -> Outcome<()> {
        if state.is_cut {
            return Ok(());
        }
        let above_last = state.branches.len().saturating_sub(1);
        for at in 0..above_last {
            let branch = state.branches[at];
            if self.branch(branch)?.honors_whiteouts && marker::is_opaque(&*self.dir_handle(dir, branch)?)? {
                state.branches.truncate(at + 1);
                break;
            }
        }
        state.is_cut = true;
        Ok(())
    }

    /// Returns the index of `dir`, which is built now if there is none.
    pub(crate) fn index<'s>(&self, dir: &Arc<Node>, state: &'s mut DirState) -> Outcome<&'s mut Index> {
        if !state.is_indexed {
            if let Err(kind) = self.build_index(dir, state) {
                state.index.clear_facts();
                return Err(kind);
            }
            state.is_indexed = true;
        }
        Ok(&mut state.index)
    }

    fn build_index(&self, dir: &Arc<Node>, state: &mut DirState) -> Outcome<()> {
        self.tally.indexes_built.increment();
        let mut position = 0;
        while let Some(&branch) = state.branches.get(position) {
            position += 1;
            let is_opaque = self.read_part(dir, branch, &mut state.index)?;
            if is_opaque && !state.is_cut {
                state.branches.truncate(position);
            }
        }
        state.is_cut = true;
        state.index.shrink();
        Ok(())
    }

    /// Enters what `branch` holds in `dir`; true when its part hides those below.
    fn read_part(&self, dir: &Arc<Node>, branch: BranchIndex, index: &mut Index) -> Outcome<bool> {
        let Branch { device, honors_whiteouts, .. } = *self.branch(branch)?;
        let part = self.dir_part(dir, branch)?;
        let (mut is_opaque, mut shows_names) = (false, false);
        let mut unknown = Vec::new();
        let read = listing::visit(&part.fd, part.is_new, |entry| match BranchName::of(entry.name) {
            // Overlong names of lower branches are listed, so that nobody takes the directory for empty.
            BranchName::Plain(name) => {
                shows_names = true;
                index.put_entry(name, branch, entry.file_type, self.number(device, entry.ino));
                if entry.file_type == FileType::Unknown {
                    unknown.push(name.to_owned());
                }
            }
            BranchName::Whiteout(name) if honors_whiteouts => index.put_marker(name, branch),
            BranchName::Opaque if honors_whiteouts => is_opaque = true,
            _ => (),
        });
        match read {
            Err(Errno::NOENT) => return Ok(false), // Others removed it, so it holds nothing.
            other => other?,
        }
        for name in unknown {
            let stat = Entry::At(part.fd.as_fd(), &name).stat()?;
            let ino = self.number(stat.st_dev, stat.st_ino);
            index.put_entry(&name, branch, FileType::from_raw_mode(stat.st_mode), ino);
        }
        // Nobody will ask an empty part for anything.
        if part.is_new && shows_names {
            self.keep_handle(dir, branch, part.fd);
        }
        Ok(is_opaque)
    }

    /// Brings the index up to date, if the directory has one.
    pub(crate) fn note(state: &mut MutexGuard<'_, DirState>, change: impl FnOnce(&mut Index)) {
        if state.is_indexed {
            change(&mut state.index);
        }
    }
}
