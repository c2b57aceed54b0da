//! Decides what a union shows, given what each branch holds.
//!
//! Pure: the caller reads the branches, this module only judges. Every rule of
//! precedence lives here and nowhere else.

use std::ops::ControlFlow;

use crate::branch::BranchIndex;

/// What one branch holds under a name.
///
/// The caller reports no markers of branches that do not honor them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The entry itself.
    pub entry: HeldEntry,
    /// Whether the branches below are hidden: by `.wh.NAME`, or by an opaque directory.
    pub hides_below: bool,
}

/// The entry one branch holds under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeldEntry {
    /// None.
    #[default]
    Nothing,
    /// Anything but a directory.
    File,
    /// A directory.
    Dir,
}

/// What the union shows under that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The name does not exist.
    Nothing,
    /// The file of this branch.
    File(BranchIndex),
    /// The merged directory of these branches, topmost first; never empty.
    Dir(Vec<BranchIndex>),
}

/// A merge in progress, fed from the top branch down.
#[derive(Debug, Clone, Default)]
pub struct Merge {
    file: Option<BranchIndex>,
    dirs: Vec<BranchIndex>,
}

impl Merge {
    /// Takes what the next branch holds; breaks when no branch below can matter.
    pub fn feed(&mut self, index: BranchIndex, held: Held) -> ControlFlow<()> {
        match held.entry {
            HeldEntry::Nothing => (),
            HeldEntry::File if self.dirs.is_empty() => {
                self.file = Some(index);
                return ControlFlow::Break(());
            }
            // aufs skips a file below a directory and merges on (`au_do_lookup`
            // in fs/aufs/dentry.c); overlayfs would stop here.
            HeldEntry::File => (),
            HeldEntry::Dir => self.dirs.push(index),
        }
        // In one branch the name beats its own whiteout, which hides only what
        // lies below; so does a layer that carries both.
        if held.hides_below { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the verdict.
    pub fn shown(self) -> Shown {
        match self.file {
            Some(index) => Shown::File(index),
            None if self.dirs.is_empty() => Shown::Nothing,
            None => Shown::Dir(self.dirs),
        }
    }
}

/// Merges `stack`, ordered from the top branch down, into one view.
pub fn resolve(stack: impl IntoIterator<Item = (BranchIndex, Held)>) -> Shown {
    let mut merge = Merge::default();
    for (index, held) in stack {
        if merge.feed(index, held).is_break() {
            break;
        }
    }
    merge.shown()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Held = Held { entry: HeldEntry::Nothing, hides_below: false };
    const WH: Held = Held { entry: HeldEntry::Nothing, hides_below: true };
    const FILE: Held = Held { entry: HeldEntry::File, hides_below: false };
    const DIR: Held = Held { entry: HeldEntry::Dir, hides_below: false };
    const OPQ: Held = Held { entry: HeldEntry::Dir, hides_below: true };

    fn indexed(stack: &[Held]) -> impl DoubleEndedIterator<Item = (BranchIndex, Held)> + '_ {
        stack.iter().enumerate().map(|(index, held)| (BranchIndex(index as u32), *held))
    }

    fn dir(indices: &[u32]) -> Shown {
        Shown::Dir(indices.iter().copied().map(BranchIndex).collect())
    }

    #[test]
    fn upper_branches_decide() {
        let file = |index| Shown::File(BranchIndex(index));
        let table: &[(&str, &[Held], Shown)] = &[
            ("no branches", &[], Shown::Nothing),
            ("only below", &[NONE, FILE], file(1)),
            ("top file wins", &[FILE, FILE], file(0)),
            ("whiteout hides", &[WH, FILE], Shown::Nothing),
            ("whiteout below is moot", &[FILE, WH], file(0)),
            ("directories merge", &[DIR, NONE, DIR], dir(&[0, 2])),
            ("opaque ends the merge", &[DIR, OPQ, DIR], dir(&[0, 1])),
            ("whiteout ends the merge", &[DIR, WH, DIR], dir(&[0])),
            ("file hides directory", &[FILE, DIR], file(0)),
            ("file below dir is skipped", &[DIR, FILE, DIR], dir(&[0, 2])),
            ("directory beside its whiteout", &[OPQ, FILE, DIR], dir(&[0])),
        ];
        for (case, stack, expected) in table {
            assert_eq!(resolve(indexed(stack)), *expected, "{case}");
        }
    }

    /// Paints from the bottom and never stops: a second way to the same answer.
    fn paint(stack: &[Held]) -> Shown {
        let mut shown = Shown::Nothing;
        let mut dirs = Vec::new();
        for (index, held) in indexed(stack).rev() {
            if held.hides_below {
                dirs.clear();
                shown = Shown::Nothing;
            }
            match held.entry {
                HeldEntry::Nothing => (),
                HeldEntry::File => shown = Shown::File(index), // `dirs` stays: aufs looks past files.
                HeldEntry::Dir => {
                    dirs.insert(0, index);
                    shown = Shown::Dir(dirs.clone());
                }
            }
        }
        shown
    }

    proptest! {
        #[test]
        fn reading_down_equals_painting_up(stack in proptest::collection::vec(0..6_u8, 0..8)) {
            let stack: Vec<Held> = stack.iter().map(|n| Held {
                entry: [HeldEntry::Nothing, HeldEntry::File, HeldEntry::Dir][usize::from(n % 3)],
                hides_below: 3 <= *n,
            }).collect();
            prop_assert_eq!(resolve(indexed(&stack)), paint(&stack));
        }
    }
}
