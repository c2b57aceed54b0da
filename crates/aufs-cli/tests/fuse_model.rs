//! Random histories through the mount: a union against a directory that got the same calls.
//!
//! What the kernel caches for us must never show. `model.rs` of aufs-union does
//! the same without a mount.

use std::path::{Path, PathBuf};

use aufs_testkit::history::{Failure, check};
use aufs_testkit::host_calls::HostCalls;
use aufs_testkit::model::{Branch, histories, stacks};
use aufs_testkit::mounted::{Mounted, Mounter};
use aufs_testkit::needs::{Need, missing};
use aufs_testkit::op::Op;
use nix::mount::{MntFlags, umount2};
use proptest::prelude::{ProptestConfig, TestCaseError, proptest};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuse_root_a_mount_behaves_as_a_plain_directory(branches in stacks(), history in histories()) {
        let needs = [Need::Root, Need::Fuse];
        if let Some(reason) = missing(&needs).map_err(TestCaseError::fail)? {
            eprintln!("skipped: {reason}");
            return Ok(());
        }
        for extra_options in ["", "data=noopen", "data=cached"] {
            let scratch = tempfile::tempdir()?;
            let _mounted = Detached(scratch.path().join("u"));
            play(scratch.path(), &branches, &history, extra_options)
                .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        }
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

fn play(scratch: &Path, branches: &[Branch], history: &[Op], extra_options: &str) -> Result<(), Failure> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let program = env!("CARGO_BIN_EXE_aufs");
    let mounter = Mounter::Command {
        mount: words(&[program, "mount", "-o", "{options}", "{mountpoint}"]),
        unmount: words(&[program, "umount", "{mountpoint}"]),
        extra_options: extra_options.to_owned(),
    };
    check(scratch, branches, history, |calls: HostCalls, options| {
        Mounted::new(calls, mounter, options, false)
    })
}
