//! The control: kernel overlayfs must be as it was recorded.
//!
//! A difference here is a fault of the replayer, not of a union.

use std::process::ExitCode;

use aufs_testkit::isolate::Target;
use aufs_testkit::mounted::Mounter;
use aufs_testkit::needs::Need;
use aufs_testkit::trials::{self, Suite};

fn main() -> ExitCode {
    trials::main(&[Suite {
        subject: "overlayfs",
        target: Target::Mounted(Mounter::Overlay),
        needs: vec![Need::Root, Need::Overlay],
        // The recordings are of kernel 6.1; newer ones differ in what the list says.
        may_pass: true,
    }])
}
