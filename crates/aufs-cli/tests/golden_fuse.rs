//! Every golden scenario through the mount: `aufs mount`, system calls, `aufs umount`.
//!
//! `golden.rs` of aufs-union runs the same scenarios without a mount.

use std::process::ExitCode;
use std::sync::OnceLock;

use aufs_host::fuse_probe::{FuseProbe, probe};
use aufs_host::private_child::Namespaces;
use aufs_testkit::isolate::Target;
use aufs_testkit::mounted::Mounter;
use aufs_testkit::needs::Need;
use aufs_testkit::trials::{self, Suite};

fn main() -> ExitCode {
    // Without passthrough the default is `data=noopen`, which has a suite of its own.
    let mut by_default = suite("fuse-passthrough", "");
    by_default.needs.push(Need::Other { name: "passthrough", missing: missing_passthrough });
    trials::main(&[by_default, suite("fuse-noopen", "data=noopen"), suite("fuse-cached", "data=cached")])
}

fn suite(subject: &'static str, extra_options: &str) -> Suite {
    let mounter = Mounter::aufs(env!("CARGO_BIN_EXE_aufs"), extra_options);
    Suite { subject, target: Target::Mounted(mounter), needs: vec![Need::Root, Need::Fuse], may_pass: false }
}

/// Why the kernel takes no backing file of FUSE; it is asked once.
fn missing_passthrough() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        match probe(Namespaces::Mount, scratch.path()) {
            Ok(FuseProbe { backing_open: Some(Ok(())), .. }) => Ok(()),
            Ok(answer) => Err(format!("{:?}", answer.backing_open)),
            Err(error) => Err(format!("{error:?}")),
        }
    };
    MISSING.get_or_init(|| ask().err().map(|why: String| format!("needs FUSE passthrough: {why}"))).clone()
}
