//! Every golden scenario through the mount: `aufs mount`, system calls, `aufs umount`.
//!
//! `golden.rs` of aufs-union runs the same scenarios without a mount.

use std::process::ExitCode;

use aufs_testkit::isolate::Target;
use aufs_testkit::mounted::Mounter;
use aufs_testkit::needs::Need;
use aufs_testkit::trials::{self, Suite};

fn main() -> ExitCode {
    // Without passthrough the default is `data=cached`, which has a suite of its own.
    let mut by_default = suite("fuse", "");
    by_default.needs.push(Need::Passthrough);
    trials::main(&[by_default, suite("fuse-cached", "data=cached")])
}

fn suite(subject: &'static str, extra_options: &str) -> Suite {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let program = env!("CARGO_BIN_EXE_aufs");
    let mounter = Mounter::Command {
        mount: words(&[program, "mount", "-o", "{options}", "{mountpoint}"]),
        unmount: words(&[program, "umount", "{mountpoint}"]),
        extra_options: extra_options.to_owned(),
    };
    Suite { subject, target: Target::Mounted(mounter), needs: vec![Need::Root, Need::Fuse], may_pass: false }
}
