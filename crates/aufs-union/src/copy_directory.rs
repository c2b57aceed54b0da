//! Copies directories up: each by itself, without what is in it, from the topmost that is missing down.

use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use rustix::fs::FileType;

use crate::branch::BranchIndex;
use crate::copy_up::ATTEMPTS;
use crate::error::{Outcome, UnionErrorKind};
use crate::node::Node;
use crate::report::{CopyUpPhases, Stopwatch};
use crate::spot::Name;
use crate::union::Union;

impl Union {
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
    pub(crate) fn copy_removed_directory(&self, dir: &Arc<Node>) -> Outcome<bool> {
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
}
