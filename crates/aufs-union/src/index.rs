//! The names of one directory: what the branches hold under each, and which node it is.
//!
//! The facts about names are read once and then kept: which branch holds an
//! entry or a marker. What that shows is for [`crate::resolve`] to say. With
//! them, neither a hit nor a miss costs a system call per branch. Before they
//! are read, there are only the names of known nodes here.
//!
//! A slot's place in the list is in the order of its offset, which never
//! changes while the name stays; the table leads from a name to its slot.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use rustix::fs::FileType;

use crate::branch::BranchIndex;
use crate::facts::{Facts, HeldAt, shown};
use crate::file_name::FileName;
use crate::node::Node;
use crate::resolve::{Held, HeldEntry, Shown};

/// The names of one directory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Vec<Slot>,
    /// Positions in `slots`, by name.
    table: HashTable<u32>,
    hasher: RandomState,
    next_offset: u64,
}

/// One name; without one it is a slot whose name went.
#[derive(Debug)]
struct Slot {
    name: Option<FileName>,
    offset: u64,
    facts: Facts,
    /// The node known under the name, if anybody still uses it.
    child: Weak<Node>,
}

const _: () = assert!(size_of::<Slot>() == 40);

impl Slot {
    fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.child.strong_count() == 0
    }
}

/// First offset of an entry; what is below is for `.` and `..`.
pub(crate) const FIRST_OFFSET: u64 = 3;

/// Slots without a name that are kept before the list is put together anew.
const DEAD_SLOTS_MAX: usize = 64;

impl Index {
    /// Returns the facts about `name`.
    pub(crate) fn get(&self, name: &OsStr) -> &[HeldAt] {
        self.position(name).map(|at| self.slots[at].facts.as_slice()).unwrap_or_default()
    }

    /// Returns the node known under `name`, if anybody still uses it.
    pub(crate) fn child(&self, name: &OsStr) -> Option<Arc<Node>> {
        self.position(name).and_then(|at| self.slots[at].child.upgrade())
    }

    /// Returns `name` as it is kept here, or to be kept here.
    pub(crate) fn shared_name(&self, name: &OsStr) -> FileName {
        self.position(name).and_then(|at| self.slots[at].name.clone()).unwrap_or_else(|| name.into())
    }

    /// Notes that `node` is known under `name`.
    pub(crate) fn adopt(&mut self, name: &FileName, node: &Arc<Node>) {
        let at = self.position_or_new(name, || name.clone());
        self.slots[at].child = Arc::downgrade(node);
    }

    /// Makes `to`, which shows nothing yet, take the place of `from` in listings.
    ///
    /// Who renames what it is listing would else meet each entry again under its new name, without an end.
    pub(crate) fn take_place(&mut self, from: &OsStr, to: &FileName) {
        const NEITHER: u32 = u32::MAX;
        let Some(old) = self.position(from) else { return };
        let new = self.position_or_new(to, || to.clone());
        if old == new || shown(self.slots[new].facts.as_slice()) != Shown::Nothing {
            return;
        }
        self.slots.swap(old, new);
        let places = (self.slots[old].offset, self.slots[new].offset);
        (self.slots[new].offset, self.slots[old].offset) = places;
        let (from_hash, to_hash) = (self.hasher.hash_one(from), self.hasher.hash_one(&**to));
        let (old, new) = (old as u32, new as u32);
        // In three steps, as the two may look alike to the table.
        for (hash, is, becomes) in [(from_hash, old, NEITHER), (to_hash, new, old), (from_hash, NEITHER, new)]
        {
            if let Some(at) = self.table.find_mut(hash, |at| *at == is) {
                *at = becomes;
            }
        }
    }

    /// Forgets which node `name` is.
    pub(crate) fn disown(&mut self, name: &OsStr) -> Option<Arc<Node>> {
        let at = self.position(name)?;
        let child = std::mem::take(&mut self.slots[at].child).upgrade();
        self.drop_if_empty(at);
        child
    }

    /// Forgets the node of `name` if nobody uses it any more.
    pub(crate) fn disown_dropped(&mut self, name: &OsStr) {
        if let Some(at) = self.position(name)
            && self.slots[at].child.strong_count() == 0
        {
            self.slots[at].child = Weak::new();
            self.drop_if_empty(at);
        }
    }

    /// Notes an entry of `branch`.
    pub(crate) fn put_entry(&mut self, name: &OsStr, branch: BranchIndex, file_type: FileType, ino: u64) {
        let entry = if file_type == FileType::Directory { HeldEntry::Dir } else { HeldEntry::File };
        let fact = self.fact(name, branch);
        fact.held.entry = entry;
        fact.file_type = file_type;
        fact.ino = ino;
    }

    /// Notes a whiteout of `branch`.
    pub(crate) fn put_marker(&mut self, name: &OsStr, branch: BranchIndex) {
        self.fact(name, branch).held.hides_below = true;
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
        self.keep_facts(|it| it.branch == branch);
    }

    /// Forgets what the branches hold, but not which nodes are known.
    pub(crate) fn clear_facts(&mut self) {
        self.keep_facts(|_| false);
    }

    /// As [`Index::clear_facts`], but names keep their offsets until [`Index::shrink`], for who reads the facts anew.
    pub(crate) fn forget_facts(&mut self) {
        for slot in &mut self.slots {
            slot.facts = Facts::default();
        }
    }

    /// Returns the nodes that are known here, with their names.
    pub(crate) fn children(&self) -> Vec<(FileName, Arc<Node>)> {
        self.slots.iter().filter_map(|it| Some((it.name.clone()?, it.child.upgrade()?))).collect()
    }

    fn keep_facts(&mut self, is_kept: impl Fn(&HeldAt) -> bool) {
        for slot in &mut self.slots {
            slot.facts.retain(&is_kept);
        }
        self.slots.retain(|it| !it.is_empty());
        self.build_table();
    }

    /// Calls `visit` for each shown entry from `offset` on, until it says to stop.
    pub(crate) fn visit_from(&self, offset: u64, mut visit: impl FnMut(u64, &OsStr, &HeldAt) -> bool) {
        let first = self.slots.partition_point(|it| it.offset < offset);
        for slot in &self.slots[first..] {
            let Some(name) = &slot.name else { continue };
            let held = slot.facts.as_slice();
            let top = match shown(held) {
                Shown::Nothing => continue,
                Shown::File(branch) => branch,
                Shown::Dir(branches) => match branches.first() {
                    Some(branch) => *branch,
                    None => continue,
                },
            };
            if let Some(at) = held.iter().find(|it| it.branch == top)
                && !visit(slot.offset, name, at)
            {
                return;
            }
        }
    }

    /// Whether the facts about any name satisfy `wanted`.
    pub(crate) fn any(&self, mut wanted: impl FnMut(&[HeldAt]) -> bool) -> bool {
        self.slots.iter().any(|slot| wanted(slot.facts.as_slice()))
    }

    /// Gives back what growing left over, and names of which nothing is known.
    pub(crate) fn shrink(&mut self) {
        if self.slots.iter().any(Slot::is_empty) {
            self.keep_facts(|_| true);
        }
        self.slots.shrink_to_fit();
    }

    fn fact(&mut self, name: &OsStr, branch: BranchIndex) -> &mut HeldAt {
        let at = self.position_or_new(name, || name.into());
        self.slots[at].facts.at(branch)
    }

    fn amend(&mut self, name: &OsStr, branch: BranchIndex, change: impl FnOnce(&mut Held)) {
        let Some(at) = self.position(name) else { return };
        let facts = &mut self.slots[at].facts;
        if facts.as_slice().iter().any(|it| it.branch == branch) {
            change(&mut facts.at(branch).held);
            facts.retain(|it| it.held != Held::default());
        }
        self.drop_if_empty(at);
    }

    fn position(&self, name: &OsStr) -> Option<usize> {
        self.hashed_position(self.hasher.hash_one(name), name)
    }

    fn hashed_position(&self, hash: u64, name: &OsStr) -> Option<usize> {
        self.table.find(hash, |at| is_named(&self.slots, *at, name)).map(|at| *at as usize)
    }

    fn position_or_new(&mut self, name: &OsStr, shared: impl FnOnce() -> FileName) -> usize {
        let hash = self.hasher.hash_one(name);
        if let Some(at) = self.hashed_position(hash, name) {
            return at;
        }
        if self.slots.len() == self.slots.capacity() {
            // Doubling would leave half of a large directory unused.
            self.slots.reserve_exact((self.slots.len() / 4).max(4));
        }
        let at = self.slots.len();
        let offset = self.next_offset.max(FIRST_OFFSET);
        self.next_offset = offset + 1;
        self.slots.push(Slot { name: Some(shared()), offset, facts: Facts::default(), child: Weak::new() });
        self.enter(hash, at);
        at
    }

    /// Makes the slot at `at` found by its name, which has this hash.
    fn enter(&mut self, hash: u64, at: usize) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |at: &u32| slots[*at as usize].name.as_deref().map_or(0, |it| hasher.hash_one(it));
        // A directory of 2^32 names would need more memory than machines have.
        let position = u32::try_from(at).unwrap_or(u32::MAX);
        self.table.insert_unique(hash, position, hash_of);
    }

    fn drop_if_empty(&mut self, at: usize) {
        if !self.slots[at].is_empty() {
            return;
        }
        if let Some(name) = self.slots[at].name.take() {
            let hash = self.hasher.hash_one(&*name);
            if let Ok(entry) = self.table.find_entry(hash, |it| *it as usize == at) {
                entry.remove();
            }
        }
        let dead = self.slots.len() - self.table.len();
        if DEAD_SLOTS_MAX.max(self.table.len()) < dead {
            self.slots.retain(|it| it.name.is_some());
            self.build_table();
        }
    }

    fn build_table(&mut self) {
        self.table = HashTable::with_capacity(self.slots.len());
        self.slots.shrink_to_fit();
        for at in 0..self.slots.len() {
            if let Some(name) = &self.slots[at].name {
                self.enter(self.hasher.hash_one(&**name), at);
            }
        }
    }
}

fn is_named(slots: &[Slot], at: u32, name: &OsStr) -> bool {
    slots[at as usize].name.as_deref().is_some_and(|it| it == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::shown_below;

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
    fn a_renamed_entry_keeps_its_place() {
        let mut index = Index::default();
        for n in 0..200 {
            index.put_entry(OsStr::new(&format!("f{n}")), RO, FileType::RegularFile, 1);
        }
        for n in 0..200 {
            let (from, to) = (format!("f{n}"), format!("moved{n}"));
            index.take_place(OsStr::new(&from), &FileName::from(OsStr::new(&to)));
            index.put_marker(OsStr::new(&from), RW);
            index.put_entry(OsStr::new(&to), RW, FileType::RegularFile, 1);
            assert_eq!(shown(index.get(OsStr::new(&to))), Shown::File(RW), "{to}");
            assert_eq!(shown(index.get(OsStr::new(&from))), Shown::Nothing, "{from}");
        }
        let expected: Vec<String> = (0..200).map(|n| format!("moved{n}")).collect();
        assert_eq!(names(&index, 0), expected);
        index.take_place(OsStr::new("moved7"), &FileName::from(OsStr::new("moved9")));
        assert_eq!(names(&index, 0), expected, "a name that shows keeps its own place");
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
