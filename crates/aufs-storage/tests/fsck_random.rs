//! Data roots damaged at random: a repair takes nothing good, and a second finds nothing to do.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod kit;

use std::fs;

use aufs_storage::fsck::{Outcome, fsck};
use kit::damage::{Bed, LOOK, REPAIR, left, state};
use kit::skip;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What happens to an object, and by which number of the sorted list it is chosen.
#[derive(Debug, Clone)]
enum Damage {
    Remove(usize),
    Rename(usize, &'static str),
    Garbage(usize, Vec<u8>),
    Link(usize),
    File(usize),
    Swap(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0_usize..1000;
    let name = prop_oneof![Just("x"), Just("x.json"), Just("x-removing"), Just("a b"), Just("2147483647.1")];
    prop_oneof![
        3 => at.clone().prop_map(Damage::Remove),
        2 => (at.clone(), name).prop_map(|(at, name)| Damage::Rename(at, name)),
        3 => (at.clone(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, it)| Damage::Garbage(at, it)),
        1 => at.clone().prop_map(Damage::Link),
        1 => at.clone().prop_map(Damage::File),
        2 => (at.clone(), at).prop_map(|(at, other)| Damage::Swap(at, other)),
    ]
}

impl Damage {
    fn apply(&self, bed: &Bed) {
        let objects = bed.objects();
        let pick = |at: &usize| bed.at(&objects[at % objects.len()]);
        match self {
            Self::Remove(at) => bed.remove(pick(at)),
            Self::Rename(at, name) => {
                let path = pick(at);
                let to = path.with_file_name(name);
                if !to.exists() {
                    fs::rename(path, to).unwrap();
                }
            }
            Self::Garbage(at, bytes) => {
                let path = pick(at);
                if path.is_file() {
                    fs::write(path, bytes).unwrap();
                }
            }
            Self::Link(at) => bed.replace_by_link(&pick(at)),
            Self::File(at) => {
                let path = pick(at);
                bed.remove(&path);
                fs::write(path, "").unwrap();
            }
            Self::Swap(at, other) => {
                let (path, other) = (pick(at), pick(other));
                let is_within = path.starts_with(&other) || other.starts_with(&path);
                if !is_within {
                    renameat_with(CWD, path, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        }
    }
}

#[test]
fn root_whatever_is_damaged_nothing_good_goes() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    healthy.saved();
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let run = runner.run(&prop::collection::vec(damage(), 1..5), |damages| {
        let bed = healthy.copy();
        damages.iter().for_each(|it| it.apply(&bed));
        let before = state(&bed.root());
        let Ok(report) = fsck(&bed.root(), LOOK) else {
            // Without aufs/ there is no data root.
            prop_assert!(!bed.at("aufs").exists());
            return Ok(());
        };
        prop_assert!(before == state(&bed.root()), "looking changed something");
        let good = bed.good();
        let repaired = fsck(&bed.root(), REPAIR).unwrap();
        prop_assert_eq!(report.findings.is_empty(), repaired.findings.is_empty());
        let after = state(&bed.root());
        for path in &good {
            let (was, is) = (before.get(path), after.get(path));
            prop_assert!(was == is, "{}: {was:?} is {is:?} now; {repaired:#?}", path.display());
        }
        let again = fsck(&bed.root(), REPAIR).unwrap();
        prop_assert!(after == state(&bed.root()), "a second repair changed something: {again:#?}");
        prop_assert!(again.findings.iter().all(|it| it.1 != Outcome::Repaired), "{again:#?}");
        prop_assert_eq!(left(&again), left(&repaired));
        Ok(())
    });
    run.unwrap();
}
