//! Random histories through the mount: a union against a directory that got the same calls.
//!
//! What the kernel caches for us must never show. `model.rs` of aufs-union does
//! the same without a mount.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aufs_testkit::history::{Failure, check, check_threads};
use aufs_testkit::host_calls::HostCalls;
use aufs_testkit::model::{cases, histories, histories_beside, side_by_side, stacks};
use aufs_testkit::mounted::{Mounted, Mounter};
use aufs_testkit::needs::{Need, missing};
use nix::mount::{MntFlags, umount2};
use proptest::prelude::{ProptestConfig, TestCaseError, proptest};
use proptest::test_runner::FileFailurePersistence;

/// Calls of one history.
const CALLS: usize = 40;

/// Every way in which data travels, and the one in which the kernel caches nothing.
const OPTIONS: [&str; 4] = ["", "data=noopen", "data=cached", "udba=reval"];

/// A process that another test forks holds our open files until it executes, and a mount with open files is busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn config(default_cases: u32) -> ProptestConfig {
    // What failed once is tried first, always.
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuse_model.regressions");
    ProptestConfig {
        cases: cases(default_cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::default()
    }
}

/// Runs `play` on a fresh mount for each set of options, where mounts can be had.
fn in_each_way(play: impl Fn(&Path, &str) -> Result<(), Failure>) -> Result<(), TestCaseError> {
    if let Some(reason) = missing(&[Need::Root, Need::Fuse]).map_err(TestCaseError::fail)? {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for options in OPTIONS {
        let scratch = tempfile::tempdir()?;
        let _mounted = Detached(scratch.path().join("u"));
        play(scratch.path(), options)
            .map_err(|failure| TestCaseError::fail(format!("[{options}] {failure}")))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn fuse_root_a_mount_behaves_as_a_plain_directory(branches in stacks(), history in histories(CALLS)) {
        in_each_way(|scratch, options| {
            check(scratch, &branches, &history, |calls, text| mounted(calls, text, options))
        })?;
    }
}

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn fuse_root_threads_beside_each_other_behave_as_on_a_plain_directory(
        stacks in proptest::collection::vec(stacks(), 4),
        histories in histories_beside(["t0/", "t1/", "t2/", "t3/"], CALLS),
    ) {
        let branches = side_by_side(stacks);
        in_each_way(|scratch, options| {
            let union = |calls, text| mounted(calls, text, options);
            check_threads(scratch, &branches, &histories, true, union, Mounted::clone)
        })?;
    }

    #[test]
    fn fuse_root_threads_on_the_same_names_leave_what_a_later_mount_shows(
        branches in stacks(),
        histories in histories_beside(["", "", "", ""], CALLS),
    ) {
        in_each_way(|scratch, options| {
            let union = |calls, text| mounted(calls, text, options);
            check_threads(scratch, &branches, &histories, false, union, Mounted::clone)
        })?;
    }
}

/// Takes down what a failed case left mounted, before its directory goes.
#[derive(Debug)]
struct Detached(PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}

fn mounted(calls: HostCalls, options: String, extra_options: &str) -> Mounted {
    let mounter = Mounter::aufs(env!("CARGO_BIN_EXE_aufs"), extra_options);
    Mounted::new(calls, mounter, options, false)
}
