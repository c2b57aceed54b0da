//! The branches of a union in order, each under a key that stays its own while others come and go.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::branch::{BranchIndex, BranchSpec};

/// One branch, opened.
#[derive(Debug)]
pub(crate) struct Branch {
    /// As the user named it; of several `rw` branches only the first is written.
    pub(crate) spec: BranchSpec,
    pub(crate) root: Arc<OwnedFd>,
    pub(crate) honors_whiteouts: bool,
    pub(crate) device: u64,
    /// Inode number of the root, which says with the device whether two branches are one directory.
    pub(crate) root_ino: u64,
    /// Whether the last file that was copied up from here shares its blocks with the copy.
    pub(crate) shares_blocks: AtomicBool,
}

impl Branch {
    /// Whether both lead to one directory.
    pub(crate) fn is_same_directory(&self, other: &Self) -> bool {
        (self.device, self.root_ino) == (other.device, other.root_ino)
    }
}

/// The branches, topmost first.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    entries: Vec<(BranchIndex, Branch)>,
    /// Keys of removed branches, sorted: what still carries one must never take another branch for its own.
    retired: Vec<BranchIndex>,
}

/// Where the first key of a stack lies: as many may come above it as below.
const MIDDLE: u32 = 1 << 31;
/// Room between neighbours that come and go at the ends; halved 16 times by those that come between.
const ROOM: u32 = 1 << 16;

impl Stack {
    /// Returns the keys of a new stack of so many branches; at most 2^15 on each side of the middle find room.
    pub(crate) fn first_keys(count: usize) -> impl Iterator<Item = BranchIndex> {
        let above = u32::try_from(count / 2).unwrap_or(u32::MAX);
        let first = MIDDLE.saturating_sub(above.saturating_mul(ROOM / 2));
        (0_u32..).map(move |at| BranchIndex(first.saturating_add(at.saturating_mul(ROOM / 2)))).take(count)
    }

    pub(crate) fn get(&self, key: BranchIndex) -> Option<&Branch> {
        let at = self.entries.binary_search_by_key(&key, |it| it.0).ok()?;
        self.entries.get(at).map(|it| &it.1)
    }

    pub(crate) fn get_mut(&mut self, key: BranchIndex) -> Option<&mut Branch> {
        let at = self.entries.binary_search_by_key(&key, |it| it.0).ok()?;
        self.entries.get_mut(at).map(|it| &mut it.1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BranchIndex, &Branch)> {
        self.entries.iter().map(|(key, branch)| (*key, branch))
    }

    /// Returns the branches below `key`.
    pub(crate) fn below(&self, key: BranchIndex) -> impl Iterator<Item = (BranchIndex, &Branch)> {
        self.iter().filter(move |it| key < it.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the key of the branch that was named by `path`.
    pub(crate) fn find(&self, path: &Path) -> Option<BranchIndex> {
        self.iter().find(|(_, branch)| branch.spec.path == path).map(|it| it.0)
    }

    pub(crate) fn insert(&mut self, key: BranchIndex, branch: Branch) {
        let at = self.entries.partition_point(|it| it.0 < key);
        self.entries.insert(at, (key, branch));
    }

    /// Takes a branch out; its key is never used again.
    pub(crate) fn remove(&mut self, key: BranchIndex) {
        if let Ok(at) = self.entries.binary_search_by_key(&key, |it| it.0) {
            self.entries.remove(at);
            let at = self.retired.partition_point(|it| *it < key);
            self.retired.insert(at, key);
        }
    }

    /// Returns a key for a branch that is to lie at `position`; none when no number is left there.
    pub(crate) fn key_at(&self, position: usize) -> Option<BranchIndex> {
        let key = |at: usize| self.entries.get(at).map(|it| it.0.0);
        let above = position.checked_sub(1).and_then(key);
        let below = key(position);
        // At the ends only so much is taken that others find room beyond.
        let (low, high) = match (above, below) {
            (Some(above), Some(below)) => (above, below),
            (Some(above), None) => (above, above.saturating_add(2 * ROOM)),
            (None, Some(below)) => (below.saturating_sub(2 * ROOM), below),
            (None, None) => (MIDDLE - ROOM, MIDDLE + ROOM),
        };
        let taken = self.retired.iter().map(|it| it.0).filter(|it| low < *it && *it < high);
        let mut ends = vec![low];
        ends.extend(taken);
        ends.push(high);
        let gap = ends.windows(2).max_by_key(|it| it[1] - it[0])?;
        let middle = gap[0] + (gap[1] - gap[0]) / 2;
        (gap[0] < middle).then_some(BranchIndex(middle))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::branch::BranchPerm;

    fn branch(name: u32) -> Branch {
        let perm = BranchPerm::ReadOnly { whiteouts: false };
        let spec = BranchSpec { path: name.to_string().into(), perm };
        let root = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        Branch {
            spec,
            root,
            honors_whiteouts: false,
            device: 0,
            root_ino: 0,
            shares_blocks: AtomicBool::new(false),
        }
    }

    proptest! {
        #[test]
        fn keys_are_in_order_and_never_come_back(steps in proptest::collection::vec((0..3_u8, 0..9_usize), 0..60)) {
            let mut stack = Stack::default();
            let mut model: Vec<u32> = (0..5).collect();
            let mut used: Vec<_> = Stack::first_keys(5).collect();
            for (key, name) in used.iter().zip(0..) {
                stack.insert(*key, branch(name));
            }
            for (name, (kind, at)) in (5..).zip(steps) {
                let at = at.min(model.len());
                if kind == 0 && at < model.len() {
                    stack.remove(stack.find(Path::new(&model.remove(at).to_string())).unwrap());
                } else if let Some(key) = stack.key_at(at) {
                    prop_assert!(!used.contains(&key));
                    used.push(key);
                    stack.insert(key, branch(name));
                    model.insert(at, name);
                }
            }
            let names: Vec<_> = stack.iter().map(|it| it.1.spec.path.to_string_lossy().into_owned()).collect();
            prop_assert_eq!(names, model.iter().map(u32::to_string).collect::<Vec<_>>());
        }
    }

    #[test]
    fn branches_may_come_and_go_at_one_place_for_ever_and_pile_up_at_the_ends() {
        let mut stack = Stack::default();
        for (key, name) in Stack::first_keys(2).zip(0..) {
            stack.insert(key, branch(name));
        }
        for position in [0, 1, 2] {
            for round in 0..300 {
                let key = stack.key_at(position).unwrap();
                stack.insert(key, branch(1000 + round));
                stack.remove(key);
            }
        }
        for name in 10..300 {
            let position = if name % 2 == 0 { 0 } else { stack.len() };
            stack.insert(stack.key_at(position).unwrap(), branch(name));
        }
        assert_eq!(
            Stack::first_keys(65_535).map(|it| it.0).collect::<std::collections::BTreeSet<_>>().len(),
            65_535
        );
    }
}
