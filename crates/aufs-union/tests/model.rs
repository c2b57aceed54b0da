//! Random histories on plain directories: the union against a directory that got the same calls.
//!
//! `fuse_model.rs` of aufs-cli does the same through the mount.

use std::path::Path;

use aufs_testkit::direct::Direct;
use aufs_testkit::history::{Failure, check, check_threads};
use aufs_testkit::model::{Branch, cases, histories, histories_beside, side_by_side, stacks};
use aufs_testkit::op::Op;
use aufs_testkit::tree::Item;
use proptest::prelude::{ProptestConfig, TestCaseError, proptest};
use proptest::test_runner::FileFailurePersistence;

/// Calls of one history.
const CALLS: usize = 40;

fn config(default_cases: u32) -> ProptestConfig {
    // What failed once is tried first, always.
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model.regressions");
    ProptestConfig {
        cases: cases(default_cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn a_union_behaves_as_a_plain_directory(branches in stacks(), history in histories(CALLS)) {
        let scratch = tempfile::tempdir()?;
        play(scratch.path(), &branches, &history)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }
}

proptest! {
    #![proptest_config(config(50))]

    #[test]
    fn threads_beside_each_other_behave_as_on_a_plain_directory(
        stacks in proptest::collection::vec(stacks(), 4),
        histories in histories_beside(["t0/", "t1/", "t2/", "t3/"], CALLS),
    ) {
        let scratch = tempfile::tempdir()?;
        play_threads(scratch.path(), &side_by_side(stacks), &histories, true)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }

    #[test]
    fn threads_on_the_same_names_leave_what_a_later_union_shows(
        branches in stacks(),
        histories in histories_beside(["", "", "", ""], CALLS),
    ) {
        let scratch = tempfile::tempdir()?;
        play_threads(scratch.path(), &branches, &histories, false)
            .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    }
}

/// Random histories found this: a skipped file's branch may still hide what lies below.
#[test]
fn a_whiteout_beside_a_skipped_file_counts() -> Result<(), Failure> {
    let branch = |lines: &[&str]| Branch { tree: Item::from_lines(lines), honors_whiteouts: true };
    let branches = [branch(&["d/a: top"]), branch(&["d: skipped", ".wh.d:"]), branch(&["d/b: hidden"])];
    let scratch = tempfile::tempdir().unwrap();
    play(scratch.path(), &branches, &[Op::Lsr { path: ".".to_owned() }])
}

/// Random histories found this: the moved directory must not merge with one that a file hid no longer.
#[test]
fn a_directory_moved_over_another_shows_nothing_from_below() -> Result<(), Failure> {
    let branch = |lines: &[&str]| Branch { tree: Item::from_lines(lines), honors_whiteouts: false };
    let branches = [branch(&["d/a/"]), branch(&["d: skipped"]), branch(&["b/", "d/a: below"])];
    let scratch = tempfile::tempdir().unwrap();
    let history =
        [Op::Rmdir { path: "d/a".to_owned() }, Op::Rename { src: "b".to_owned(), dst: "d".to_owned() }];
    play(scratch.path(), &branches, &history)
}

fn play(scratch: &Path, branches: &[Branch], history: &[Op]) -> Result<(), Failure> {
    check(scratch, branches, history, |calls, options| Direct::new(calls, options, false))
}
fn play_threads(
    scratch: &Path,
    branches: &[Branch],
    histories: &[Vec<Op>],
    disjoint: bool,
) -> Result<(), Failure> {
    let union = |calls, options| Direct::new(calls, options, false);
    check_threads(scratch, branches, histories, disjoint, union, Direct::beside)
}
