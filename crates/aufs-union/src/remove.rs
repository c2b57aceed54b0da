//! Removes entries: whiteouts for what lies below, real removal for what lies on the writable branch.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aufs_host::entry::{Entry, Removability};
use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;
use tracing::warn;

use crate::branch::BranchIndex;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::facts::{HeldList, entry_at, has_marker, shown, shown_below};
use crate::gather::Reach;
use crate::marker;
use crate::names;
use crate::node::{DirState, Node};
use crate::resolve::{HeldEntry, Shown};
use crate::spot::{Name, Spot};
use crate::union::Union;

/// What has to happen on the writable branch so that a name disappears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Something below would show: a whiteout is needed.
    pub(crate) needs_marker: bool,
    /// The writable branch holds the entry itself.
    pub(crate) has_entry: bool,
}

/// Judges what removing a name takes; pure.
pub(crate) fn removal(held: &HeldList, target: BranchIndex) -> Removal {
    Removal {
        needs_marker: shown_below(held, target) != Shown::Nothing && !has_marker(held, target),
        has_entry: entry_at(held, target) != HeldEntry::Nothing,
    }
}

impl Union {
    /// Removes the name of anything but a directory.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EISDIR`, `EPERM` for a reserved name or an immutable file;
    /// `EROFS`: no writable branch at or above; else what the writable branch reports.
    pub fn unlink(&self, dir: &Arc<Node>, name: &OsStr) -> Result<(), UnionError> {
        self.remove(dir, name, false).during("unlink", name)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `ENOTEMPTY`, `ENOTDIR`; else as [`Union::unlink`].
    pub fn rmdir(&self, dir: &Arc<Node>, name: &OsStr) -> Result<(), UnionError> {
        self.remove(dir, name, true).during("remove directory", name)
    }

    fn remove(&self, dir: &Arc<Node>, name: &OsStr, wants_dir: bool) -> Outcome<()> {
        names::check(name)?;
        loop {
            if let Some(done) = self.try_remove(dir, name, wants_dir)? {
                return Ok(done);
            }
            self.ensure_dir_up(dir)?;
        }
    }

    /// None when the directory has to be copied up first.
    fn try_remove(&self, dir: &Arc<Node>, name: &OsStr, wants_dir: bool) -> Outcome<Option<()>> {
        let mut state = dir.lock_dir()?;
        let gathered = self.gather(dir, &mut state, name, Reach::Bottom)?;
        let top = match shown(&gathered.held) {
            Shown::Nothing => return Err(UnionErrorKind::NotFound),
            Shown::File(_) if wants_dir => return Err(UnionErrorKind::NotDirectory),
            Shown::Dir(_) if !wants_dir => return Err(UnionErrorKind::IsDirectory),
            Shown::File(branch) => branch,
            Shown::Dir(branches) => *branches.first().ok_or(UnionErrorKind::NotFound)?,
        };
        let target = self.writable()?.index;
        if top < target {
            return Err(UnionErrorKind::NoWritableBranch);
        }
        let node = self.node_locked(dir, &mut state, name, &gathered)?;
        let removal = removal(&gathered.held, target);
        if wants_dir {
            let mut inside = node.lock_dir()?;
            if !self.is_empty_locked(&node, &mut inside)? {
                return Err(UnionErrorKind::NotEmpty);
            }
            if removal.needs_marker && !state.branches.contains(&target) {
                return Ok(None);
            }
            self.refuse_immutable(&node)?;
            self.detach_directory(dir, &mut state, name, &node, &mut inside, removal)?;
            return Ok(Some(()));
        }
        let host_nlink = self.refuse_immutable(&node)?;
        if removal.needs_marker && !state.branches.contains(&target) {
            return Ok(None);
        }
        let parent = self.dir_handle(dir, target)?;
        self.detach_file(dir, &mut state, &parent, name, &node, removal)?;
        self.lost_name(&node, host_nlink);
        Ok(Some(()))
    }

    /// A host refuses to change an immutable or append-only file, but would gladly write its copy or whiteout.
    ///
    /// Returns how many names a lower entry has where it lies.
    pub(crate) fn refuse_immutable(&self, node: &Arc<Node>) -> Outcome<u32> {
        if self.writable_branch() == Some(node.branch()) {
            return Ok(1); // The host itself refuses, and counts.
        }
        self.on_entry(node, |_, entry| {
            let Removability { is_immutable, nlink } = entry.removability()?;
            if is_immutable { Err(UnionErrorKind::Branch(Errno::PERM)) } else { Ok(nlink) }
        })
    }

    /// Notes that `node` lost a name; with the last one its pseudo-link goes too.
    pub(crate) fn lost_name(&self, node: &Arc<Node>, host_nlink: u32) {
        if let Some((name, _)) = self.note_lost_link(node, host_nlink).and_then(|it| it.pseudo_link)
            && let Err(error) = self.remove_pseudo_link(&name)
        {
            warn!(?name, %error, "a pseudo-link without a file stays until the next mount");
        }
    }

    pub(crate) fn put_marker_for(
        &self,
        state: &mut parking_lot::MutexGuard<'_, DirState>,
        parent: &OwnedFd,
        name: &OsStr,
        removal: Removal,
    ) -> Outcome<()> {
        if removal.needs_marker {
            let target = self.writable()?.index;
            marker::put_whiteout(&self.branch(target)?.root, parent, name)?;
            Self::note(state, |index| index.put_marker(name, target));
        }
        Ok(())
    }

    /// Removes a file's name; whoever has the file open keeps it.
    fn detach_file(
        &self,
        dir: &Arc<Node>,
        state: &mut parking_lot::MutexGuard<'_, DirState>,
        parent: &OwnedFd,
        name: &OsStr,
        node: &Arc<Node>,
        removal: Removal,
    ) -> Outcome<()> {
        let target = self.writable()?.index;
        {
            let mut spot = node.spot.write();
            let was_held = spot.held.is_some();
            // Before the whiteout, after which there is no way back where nothing else is to be removed.
            self.keep_bytes(&mut spot, dir, name)?;
            let removed = self.put_marker_for(state, parent, name, removal).and_then(|()| {
                if removal.has_entry {
                    fs::unlinkat(parent, name, AtFlags::empty())?;
                }
                Ok(())
            });
            if let Err(kind) = removed {
                if !was_held {
                    spot.held = None;
                }
                if removal.needs_marker {
                    Self::drop_marker(state, parent, name, target);
                }
                return Err(kind);
            }
            spot.forget_name(dir, name);
        }
        state.index.disown(name);
        Self::note(state, |index| index.take_entry(name, target));
        Ok(())
    }

    /// Holds the file of `node` before the last name that leads to its bytes goes.
    pub(crate) fn keep_bytes(&self, spot: &mut Spot, dir: &Arc<Node>, name: &OsStr) -> Outcome<()> {
        let is_going = |it: &Name| it.is(dir, name);
        let leads = |it: &&Name| it.branch == spot.branch;
        if spot.held.is_some() || spot.names.iter().filter(leads).any(|it| !is_going(it)) {
            return Ok(());
        }
        let Some(last) = spot.names.iter().find(leads).cloned() else { return Ok(()) };
        let holder = self.dir_handle(&last.dir, last.branch)?;
        let held = self.with_room(|| Entry::At(holder.as_fd(), &last.name).open(OFlags::PATH))?;
        spot.held = Some(Arc::new(OwnedFd::from(held)));
        Ok(())
    }

    /// Removes a directory of the writable branch that shows nothing; markers in it go first.
    fn remove_part(&self, parent: &OwnedFd, name: &OsStr, part: &OwnedFd) -> Outcome<()> {
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                marker::clear(part)?;
                Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes an empty directory's name, and its part of the writable branch.
    pub(crate) fn detach_directory(
        &self,
        dir: &Arc<Node>,
        state: &mut parking_lot::MutexGuard<'_, DirState>,
        name: &OsStr,
        node: &Arc<Node>,
        inside: &mut DirState,
        removal: Removal,
    ) -> Outcome<()> {
        let target = self.writable()?.index;
        let held = self.dir_handle(node, node.branch())?;
        if removal.needs_marker || removal.has_entry {
            let parent = self.dir_handle(dir, target)?;
            // With the marker beside it the directory goes on hiding what lies
            // below while its own markers are removed.
            self.put_marker_for(state, &parent, name, removal)?;
            if removal.has_entry {
                self.remove_part(&parent, name, &*self.dir_handle(node, target)?)?;
            }
        }
        {
            let mut spot = node.spot.write();
            spot.held = Some(held);
            spot.names.clear();
        }
        inside.remove();
        state.index.disown(name);
        Self::note(state, |index| index.take_entry(name, target));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;
    use crate::facts::HeldAt;
    use crate::resolve::Held;

    #[test]
    fn a_whiteout_is_left_only_where_something_would_show() {
        let at = |branch, entry, hides_below| HeldAt {
            branch: BranchIndex(branch),
            held: Held { entry, hides_below },
            file_type: FileType::Unknown,
            ino: 0,
        };
        let (none, file) = (HeldEntry::Nothing, HeldEntry::File);
        for (case, held, needs_marker, has_entry) in [
            ("only on the writable branch", vec![at(0, file, false)], false, true),
            ("only below", vec![at(1, file, false)], true, false),
            ("on both", vec![at(0, file, false), at(2, file, false)], true, true),
            (
                "below, but whited out there",
                vec![at(0, file, false), at(1, none, true), at(2, file, false)],
                false,
                true,
            ),
            ("beside its own marker", vec![at(0, file, true), at(1, file, false)], false, true),
        ] {
            let held = HeldList::from_vec(held);
            assert_eq!(removal(&held, BranchIndex(0)), Removal { needs_marker, has_entry }, "{case}");
        }
    }
}
