//! What the branches hold under one name, and what follows from it; pure.

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

/// As [`HeldList`], as small as can be for the one fact that most names have.
#[derive(Debug, Default)]
pub(crate) struct Facts(Option<Known>);

#[derive(Debug)]
enum Known {
    One(HeldAt),
    #[expect(clippy::box_collection, reason = "a pointer keeps the common variant, and so every slot, small")]
    Many(Box<Vec<HeldAt>>),
}

const _: () = assert!(size_of::<Facts>() == 16);

impl Facts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn as_slice(&self) -> &[HeldAt] {
        match &self.0 {
            None => &[],
            Some(Known::One(fact)) => std::slice::from_ref(fact),
            Some(Known::Many(facts)) => facts,
        }
    }

    /// Returns the fact about `branch`, an empty one if there was none.
    pub(crate) fn at(&mut self, branch: BranchIndex) -> &mut HeldAt {
        let empty = HeldAt { branch, held: Held::default(), file_type: FileType::Unknown, ino: 0 };
        let known = self.0.get_or_insert(Known::One(empty));
        if let Known::One(only) = known
            && only.branch != branch
        {
            *known = Known::Many(Box::new(vec![*only]));
        }
        match known {
            Known::One(fact) => fact,
            Known::Many(facts) => {
                let position = facts.partition_point(|it| it.branch < branch);
                if facts.get(position).is_none_or(|it| it.branch != branch) {
                    facts.insert(position, empty);
                }
                &mut facts[position]
            }
        }
    }

    /// Drops the facts that `is_kept` refuses.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&HeldAt) -> bool) {
        match &mut self.0 {
            Some(Known::One(fact)) if !is_kept(fact) => self.0 = None,
            None | Some(Known::One(_)) => (),
            Some(Known::Many(facts)) => {
                facts.retain(is_kept);
                if facts.len() < 2 {
                    self.0 = facts.first().copied().map(Known::One);
                }
            }
        }
    }
}

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
