//! Random histories on plain directories: the union against a directory that got the same calls.
//!
//! `fuse_model.rs` of aufs-cli does the same through the mount.

use std::path::Path;

use aufs_testkit::direct::Direct;
use aufs_testkit::history::{Failure, check};
use aufs_testkit::model::{Branch, histories, stacks};
use aufs_testkit::op::Op;
use aufs_testkit::tree::Item;
use proptest::prelude::{ProptestConfig, TestCaseError, proptest};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_union_behaves_as_a_plain_directory(branches in stacks(), history in histories()) {
        let scratch = tempfile::tempdir()?;
        play(scratch.path(), &branches, &history)
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
