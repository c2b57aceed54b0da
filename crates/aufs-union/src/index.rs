//! What the branches hold in one directory, read once and then kept.
//!
//! The index keeps facts, not verdicts: which branch holds an entry or a
//! marker under each name. What that shows is for [`crate::resolve`] to say.
//! With it, neither a hit nor a miss costs a system call per branch.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::FileType;
use smallvec::SmallVec;

use crate::branch::BranchIndex;
use crate::resolve::{Held, HeldEntry, Shown, resolve};

/// What one branch holds under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldAt {
    pub(crate) branch: BranchIndex,
    pub(crate) held: Held,
    /// Type of the entry, `Unknown` when there is none.
    pub(crate) file_type: FileType,
    /// Inode number programs see for the entry.
    pub(crate) ino: u64,
}

/// Facts of all branches about one name, topmost first.
pub(crate) type HeldList = SmallVec<[HeldAt; 2]>;

/// Returns what `held` shows.
pub(crate) fn shown(held: &[HeldAt]) -> Shown {
    resolve(held.iter().map(|it| (it.branch, it.held)))
}

/// Returns what the branches below `branch` would show alone.
pub(crate) fn shown_below(held: &[HeldAt], branch: BranchIndex) -> Shown {
    resolve(held.iter().filter(|it| branch < it.branch).map(|it| (it.branch, it.held)))
}

/// Whether a directory on `branch` would merge with one below.
///
/// Not the same as showing one below alone: a directory lets the merge look past files.
pub(crate) fn would_merge_below(held: &[HeldAt], branch: BranchIndex) -> bool {
    let dir = Held { entry: HeldEntry::Dir, hides_below: false };
    let below = held.iter().filter(|it| branch < it.branch).map(|it| (it.branch, it.held));
    matches!(resolve(std::iter::once((branch, dir)).chain(below)), Shown::Dir(merged) if 1 < merged.len())
}

/// Whether `branch` holds a whiteout of the name.
pub(crate) fn has_marker(held: &[HeldAt], branch: BranchIndex) -> bool {
    held.iter().any(|it| it.branch == branch && it.held.hides_below)
}

/// Returns the entry `branch` holds.
pub(crate) fn entry_at(held: &[HeldAt], branch: BranchIndex) -> HeldEntry {
    held.iter().find(|it| it.branch == branch).map(|it| it.held.entry).unwrap_or_default()
}

/// The facts of one directory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: HashMap<Arc<OsStr>, Slot>,
    /// Names in the order of their offsets, which never change while a name stays.
    order: BTreeMap<u64, Arc<OsStr>>,
    next_offset: u64,
}

#[derive(Debug)]
struct Slot {
    offset: u64,
    held: HeldList,
}

/// First offset of an entry; what is below is for `.` and `..`.
pub(crate) const FIRST_OFFSET: u64 = 3;

impl Index {
    /// Returns the facts about `name`.
    pub(crate) fn get(&self, name: &OsStr) -> &[HeldAt] {
        self.slots.get(name).map(|it| it.held.as_slice()).unwrap_or_default()
    }

    /// Notes an entry of `branch`.
    pub(crate) fn put_entry(&mut self, name: &OsStr, branch: BranchIndex, file_type: FileType, ino: u64) {
        let entry = if file_type == FileType::Directory { HeldEntry::Dir } else { HeldEntry::File };
        let at = self.slot(name, branch);
        at.held.entry = entry;
        at.file_type = file_type;
        at.ino = ino;
    }

    /// Notes a whiteout of `branch`.
    pub(crate) fn put_marker(&mut self, name: &OsStr, branch: BranchIndex) {
        self.slot(name, branch).held.hides_below = true;
    }

    /// Notes that `branch` holds no entry any more.
    pub(crate) fn take_entry(&mut self, name: &OsStr, branch: BranchIndex) {
        self.amend(name, branch, |held| held.entry = HeldEntry::Nothing);
    }

    /// Notes that `branch` holds no whiteout any more.
    pub(crate) fn take_marker(&mut self, name: &OsStr, branch: BranchIndex) {
        self.amend(name, branch, |held| held.hides_below = false);
    }

    /// Forgets what the branches other than `branch` hold.
    pub(crate) fn keep_only(&mut self, branch: BranchIndex) {
        self.slots.retain(|_, slot| {
            slot.held.retain(|it| it.branch == branch);
            !slot.held.is_empty()
        });
        let slots = &self.slots;
        self.order.retain(|_, name| slots.contains_key(name));
    }

    /// Calls `visit` for each shown entry from `offset` on, until it says to stop.
    pub(crate) fn visit_from(&self, offset: u64, mut visit: impl FnMut(u64, &OsStr, &HeldAt) -> bool) {
        for (offset, name) in self.order.range(offset.max(FIRST_OFFSET)..) {
            let held = self.get(name);
            let top = match shown(held) {
                Shown::Nothing => continue,
                Shown::File(branch) => branch,
                Shown::Dir(branches) => match branches.first() {
                    Some(branch) => *branch,
                    None => continue,
                },
            };
            if let Some(at) = held.iter().find(|it| it.branch == top)
                && !visit(*offset, name, at)
            {
                return;
            }
        }
    }

    /// Whether the facts about any name satisfy `wanted`.
    pub(crate) fn any(&self, mut wanted: impl FnMut(&[HeldAt]) -> bool) -> bool {
        self.slots.values().any(|slot| wanted(&slot.held))
    }

    fn slot(&mut self, name: &OsStr, branch: BranchIndex) -> &mut HeldAt {
        let key: Arc<OsStr> =
            self.slots.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| Arc::clone(key));
        let (order, next_offset) = (&mut self.order, &mut self.next_offset);
        let slot = self.slots.entry(key).or_insert_with_key(|key| {
            let offset = (*next_offset).max(FIRST_OFFSET);
            *next_offset = offset + 1;
            order.insert(offset, Arc::clone(key));
            Slot { offset, held: HeldList::new() }
        });
        let held = &mut slot.held;
        let at = held.iter().position(|it| branch <= it.branch).unwrap_or(held.len());
        if held.get(at).is_none_or(|it| it.branch != branch) {
            let empty = HeldAt { branch, held: Held::default(), file_type: FileType::Unknown, ino: 0 };
            held.insert(at, empty);
        }
        &mut held[at]
    }

    fn amend(&mut self, name: &OsStr, branch: BranchIndex, change: impl FnOnce(&mut Held)) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if let Some(at) = slot.held.iter().position(|it| it.branch == branch) {
            change(&mut slot.held[at].held);
            if slot.held[at].held == Held::default() {
                slot.held.remove(at);
            }
        }
        if slot.held.is_empty() {
            let offset = slot.offset;
            self.order.remove(&offset);
            self.slots.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: BranchIndex = BranchIndex(0);
    const RO: BranchIndex = BranchIndex(1);

    fn names(index: &Index, from: u64) -> Vec<String> {
        let mut names = Vec::new();
        index.visit_from(from, |_, name, _| {
            names.push(name.to_string_lossy().into_owned());
            true
        });
        names
    }

    #[test]
    fn offsets_stay_while_names_come_and_go() {
        let mut index = Index::default();
        for name in ["a", "b", "c", "d"] {
            index.put_entry(OsStr::new(name), RO, FileType::RegularFile, 1);
        }
        let mut after_b = 0;
        index.visit_from(0, |offset, name, _| {
            after_b = offset + 1;
            name != "b"
        });
        index.put_marker(OsStr::new("a"), RW);
        index.take_entry(OsStr::new("b"), RO);
        index.put_entry(OsStr::new("e"), RW, FileType::RegularFile, 2);
        assert_eq!(names(&index, after_b), ["c", "d", "e"]);
        assert_eq!(names(&index, 0), ["c", "d", "e"]);
        index.take_marker(OsStr::new("a"), RW);
        assert_eq!(names(&index, 0), ["a", "c", "d", "e"], "the whiteout alone hid it");
    }

    #[test]
    fn facts_stay_in_branch_order() {
        let mut index = Index::default();
        let name = OsStr::new("x");
        index.put_entry(name, RO, FileType::Directory, 1);
        index.put_entry(name, RW, FileType::Directory, 2);
        assert_eq!(shown(index.get(name)), Shown::Dir(vec![RW, RO]));
        index.put_marker(name, RW);
        assert_eq!(shown(index.get(name)), Shown::Dir(vec![RW]));
        assert_eq!(shown_below(index.get(name), RW), Shown::Dir(vec![RO]));
        index.keep_only(RO);
        assert_eq!(shown(index.get(name)), Shown::Dir(vec![RO]));
    }
}
