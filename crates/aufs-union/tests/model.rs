//! Random histories: the union against a plain directory that got the same calls.
//!
//! The plain directory starts as the flattened stack, by the testkit's own
//! reference of the merge rules.

use std::path::Path;

use aufs_testkit::compare::compare_trees;
use aufs_testkit::direct::Direct;
use aufs_testkit::dump::{Since, dump};
use aufs_testkit::host_calls::HostCalls;
use aufs_testkit::model::{Branch, histories, merge, stacks};
use aufs_testkit::mounted::Mounted;
use aufs_testkit::op::Op;
use aufs_testkit::replay::call;
use aufs_testkit::scenario::Tree;
use aufs_testkit::subject::Subject;
use aufs_testkit::tree::Item;
use proptest::prelude::{ProptestConfig, TestCaseError, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseResult;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_union_behaves_as_a_plain_directory(branches in stacks(), history in histories()) {
        let scratch = tempfile::tempdir()?;
        play(scratch.path(), &branches, &history)?;
    }
}

/// Random histories found this: a skipped file's branch may still hide what lies below.
#[test]
fn a_whiteout_beside_a_skipped_file_counts() -> TestCaseResult {
    let branch = |lines: &[&str]| Branch { tree: Item::from_lines(lines), honors_whiteouts: true };
    let branches = [branch(&["d/a: top"]), branch(&["d: skipped", ".wh.d:"]), branch(&["d/b: hidden"])];
    let scratch = tempfile::tempdir()?;
    play(scratch.path(), &branches, &[Op::Lsr { path: ".".to_owned() }])
}

fn play(scratch: &Path, branches: &[Branch], history: &[Op]) -> TestCaseResult {
    // Opening a union clears the mask of the process, for every thread and at any time.
    rustix::process::umask(rustix::fs::Mode::empty());
    let calls = HostCalls { branches: scratch.join("b"), mountpoint: scratch.join("u") };
    let mut options = "br".to_owned();
    for (n, branch) in branches.iter().enumerate() {
        let root = calls.branches.join(n.to_string());
        branch.tree.plant(&root).map_err(told)?;
        let perm = match (n, branch.honors_whiteouts) {
            (0, _) => "rw",
            (_, true) => "ro+wh",
            (_, false) => "ro",
        };
        options.push_str(&format!(":{}={perm}", root.display()));
    }
    let plain_root = scratch.join("plain");
    merge(branches).plant(&plain_root).map_err(told)?;

    let mut plain = Mounted::plain(plain_root);
    let mut union = Direct::new(calls, options, false);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    union.mount().map_err(told)?;
    union.set_caller(Some((uid, gid))).map_err(told)?;
    union.umask(rustix::fs::Mode::empty());
    let below = lower_branches(&mut union, branches.len())?;

    for (n, op) in history.iter().enumerate() {
        let got = call(&mut union, op, &Since::default()).map_err(told)?;
        if got.err.as_deref() == Some("EXDEV") {
            prop_assert!(matches!(op, Op::Rename { .. } | Op::Renameat2 { .. }), "{op:?} gave EXDEV");
            continue; // A directory with entries below: aufs leaves the work to mv.
        }
        let wanted = call(&mut plain, op, &Since::default()).map_err(told)?;
        prop_assert_eq!(wanted, got, "call {} {:?}", n, op);
    }
    let shown = shown(&mut union)?;
    same("after the history", &self::shown(&mut plain)?, &shown)?;
    for (wanted, got) in below.iter().zip(&lower_branches(&mut union, branches.len())?) {
        same("a lower branch", wanted, got)?;
    }
    union.unmount(0).map_err(told)?;
    union.set_caller(None).map_err(told)?;
    union.mount().map_err(told)?;
    same("after opening it again", &shown, &self::shown(&mut union)?)
}

/// The whole tree, with the times that calls have set.
fn shown<S: Subject>(subject: &mut S) -> Result<Tree, TestCaseError> {
    let mut tree = dump(subject, ".", &Since { start_ns: i128::MAX, exe_digest: None }).map_err(told)?;
    for entry in &mut tree.entries {
        // Both sides made their entries at their own moment, and a copy-up into
        // a directory moves its time, as on kernel aufs.
        let is_dir = entry.kind.as_deref() == Some("dir");
        entry.mtime.take_if(|time| is_dir || time.is_string());
    }
    Ok(tree)
}

fn lower_branches(union: &mut Direct, count: usize) -> Result<Vec<Tree>, TestCaseError> {
    let since = Since { start_ns: i128::MAX, exe_digest: None };
    (1..count).map(|n| dump(union, &format!("@{n}"), &since).map_err(told)).collect()
}

fn same(what: &str, wanted: &Tree, got: &Tree) -> TestCaseResult {
    let mut found = Vec::new();
    compare_trees(what, wanted, got, &mut found);
    prop_assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

fn told<E: std::fmt::Debug>(error: E) -> TestCaseError {
    TestCaseError::fail(format!("{error:?}"))
}
