//! What a change of the branches would do to each node that is known; changes nothing itself.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use aufs_host::entry::Entry;
use aufs_host::listing;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::branch::BranchIndex;
use crate::error::Outcome;
use crate::file_name::FileName;
use crate::marker;
use crate::names::BranchName;
use crate::node::Node;
use crate::resolve::{Held, HeldEntry, Merge, Shown};
use crate::restack::{RestackError, Target};
use crate::union::Union;

/// A directory that stays.
#[derive(Debug)]
pub(crate) struct KeptDir {
    pub(crate) dir: Arc<Node>,
    /// Its branches afterwards.
    pub(crate) branches: Vec<BranchIndex>,
    /// What the host calls its topmost part then.
    pub(crate) host: (u64, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Directories that stay.
    pub(crate) dirs: Vec<KeptDir>,
    /// Files that keep their names.
    pub(crate) files: Vec<Arc<Node>>,
    /// Names that lead elsewhere, or nowhere, by directory; with the node they led to.
    pub(crate) lost: Vec<(Arc<Node>, FileName, Arc<Node>)>,
    /// Nodes that have no name left.
    pub(crate) losing: Vec<Arc<Node>>,
    /// Directories that stay, with the names of which something else may have been told.
    pub(crate) stale: Vec<(Arc<Node>, Vec<OsString>)>,
}

impl Plan {
    /// Goes through all nodes that are known and may be affected.
    ///
    /// # Errors
    ///
    /// What the branches report.
    pub(crate) fn make(union: &Union, target: &Target) -> Result<Self, RestackError> {
        let mut plan = Self::default();
        let mut todo = vec![(Arc::clone(&union.root), union.root_branches(target)?)];
        while let Some((dir, branches)) = todo.pop() {
            let visited = plan.visit(union, target, &dir, branches, &mut todo);
            visited.map_err(|kind| RestackError::of(kind, Path::new(&dir.path_for_messages())))?;
        }
        plan.count_names(target);
        Ok(plan)
    }

    fn visit(
        &mut self,
        union: &Union,
        target: &Target,
        dir: &Arc<Node>,
        branches: Vec<BranchIndex>,
        todo: &mut Vec<(Arc<Node>, Vec<BranchIndex>)>,
    ) -> Outcome<()> {
        let (before, is_cut, children) = {
            let state = dir.lock_dir()?;
            (state.branches.clone(), state.is_cut, state.index.children())
        };
        let is_same = if is_cut { before == branches } else { before.starts_with(&branches) };
        let is_changed = |it: &BranchIndex| *it == target.changed || target.reopened.contains(it);
        if is_same && !before.iter().any(is_changed) {
            return Ok(()); // Nothing in here or below sees the change.
        }
        let mut stale = union.names_of_others(target, dir, &before, &branches)?;
        for (name, child) in children {
            let is_dir = child.file_type() == FileType::Directory;
            match union.resolve_anew(target, dir, &branches, &name)? {
                Shown::Dir(merged) if is_dir => {
                    stale.remove(&*name);
                    todo.push((child, merged));
                }
                Shown::File(branch) if !is_dir && stays(target, dir, &name, &child, branch) => {
                    stale.remove(&*name);
                    self.files.push(child);
                }
                _ => {
                    stale.insert(name.to_os_string());
                    self.lose(dir, name, child);
                }
            }
        }
        let top = branches.first().copied().ok_or(crate::error::UnionErrorKind::NotFound)?;
        let stat = Entry::Held(union.dir_handle(dir, top)?.as_fd()).stat()?;
        self.dirs.push(KeptDir { dir: Arc::clone(dir), branches, host: (stat.st_dev, stat.st_ino) });
        self.stale.push((Arc::clone(dir), stale.into_iter().collect()));
        Ok(())
    }

    /// Notes that a name leads to its node no more, and neither do those below.
    fn lose(&mut self, dir: &Arc<Node>, name: FileName, child: Arc<Node>) {
        let mut todo = vec![(Arc::clone(dir), name, child)];
        while let Some((dir, name, child)) = todo.pop() {
            if let Ok(state) = child.lock_dir() {
                let below = state.index.children().into_iter();
                todo.extend(below.map(|(name, node)| (Arc::clone(&child), name, node)));
            }
            self.lost.push((dir, name, child));
        }
    }

    /// Finds the nodes that lose their last name.
    fn count_names(&mut self, target: &Target) {
        let mut lost: HashMap<u64, (usize, &Arc<Node>)> = HashMap::new();
        for (_, _, node) in &self.lost {
            lost.entry(node.id()).or_insert((0, node)).0 += 1;
        }
        let is_losing = |(count, node): &(usize, &Arc<Node>)| {
            let spot = node.spot.read();
            let has_bytes_elsewhere = Some(spot.branch()) != target.removed;
            spot.names().len() <= *count || !has_bytes_elsewhere
        };
        self.losing = lost.into_values().filter(is_losing).map(|it| Arc::clone(it.1)).collect();
    }
}

/// Whether a file's name leads to the same bytes as before.
fn stays(target: &Target, dir: &Arc<Node>, name: &OsStr, child: &Arc<Node>, branch: BranchIndex) -> bool {
    let spot = child.spot.read();
    let is_there = spot.is_named(dir, name).is_some_and(|it| it.branch == branch);
    is_there && Some(spot.branch()) != target.removed
}

impl Union {
    fn root_branches(&self, target: &Target) -> Result<Vec<BranchIndex>, RestackError> {
        let mut shown = Vec::new();
        for (key, honors_whiteouts) in &target.branches {
            shown.push(*key);
            let Some(branch) = self.branches.get(*key) else { continue };
            let opaque = if *honors_whiteouts { marker::is_opaque(&branch.root) } else { Ok(false) };
            if opaque.map_err(|errno| RestackError::of(errno.into(), &branch.spec.path))? {
                break;
            }
        }
        Ok(shown)
    }

    /// Returns what `branches` of `dir` show under `name`, without any knowledge from before; opaque parts are cut.
    fn resolve_anew(
        &self,
        target: &Target,
        dir: &Arc<Node>,
        branches: &[BranchIndex],
        name: &OsStr,
    ) -> Outcome<Shown> {
        let mut merge = Merge::default();
        for &branch in branches {
            let handle = self.dir_handle(dir, branch)?;
            let entry = match Entry::At(handle.as_fd(), name).stat() {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => HeldEntry::Dir,
                Ok(_) => HeldEntry::File,
                Err(Errno::NOENT | Errno::NAMETOOLONG) => HeldEntry::Nothing,
                Err(errno) => return Err(errno.into()),
            };
            let hides_below = target.honors_whiteouts(branch)
                && (marker::has_whiteout(&handle, name)?
                    || entry == HeldEntry::Dir && marker::is_child_opaque(&handle, name)?);
            if merge.feed(branch, Held { entry, hides_below }).is_break() {
                break;
            }
        }
        Ok(merge.shown())
    }

    /// Returns the names that branches hold which come, go or change in `dir`, and those they hide.
    fn names_of_others(
        &self,
        target: &Target,
        dir: &Arc<Node>,
        before: &[BranchIndex],
        after: &[BranchIndex],
    ) -> Outcome<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        let both = before.iter().chain(after.iter().filter(|it| !before.contains(it)));
        for &branch in both {
            let is_other = before.contains(&branch) != after.contains(&branch);
            if !is_other && branch != target.changed {
                continue;
            }
            // A list from before may be too long, by what opaque parts hide.
            let Ok(handle) = self.dir_handle(dir, branch) else { continue };
            let read = listing::visit(&*handle, false, |entry| match BranchName::of(entry.name) {
                BranchName::Plain(name) | BranchName::Whiteout(name) => {
                    names.insert(name.to_owned());
                }
                _ => (),
            });
            match read {
                // What cannot be read is looked up name by name.
                Ok(()) | Err(Errno::ACCESS) => (),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(names)
    }
}
