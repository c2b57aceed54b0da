//! Every golden scenario on plain directories, without a mount.
//!
//! `golden_fuse.rs` of aufs-cli runs the same scenarios through the mount.

use std::process::ExitCode;

use aufs_testkit::isolate::Target;
use aufs_testkit::needs::Need;
use aufs_testkit::trials::{self, Suite};

fn main() -> ExitCode {
    trials::main(&[Suite {
        subject: "direct",
        target: Target::Direct,
        needs: vec![Need::Root],
        may_pass: false,
    }])
}
