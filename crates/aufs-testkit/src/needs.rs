//! What a test needs of the machine, and what happens where it is missing.

use std::fmt;
use std::fs::OpenOptions;
use std::sync::OnceLock;

use aufs_host::fuse_probe::{FuseProbe, probe};
use aufs_host::private_child::Namespaces;

/// Something that not every machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To be root, with all its rights.
    Root,
    /// `/dev/fuse`, openable.
    Fuse,
    /// A kernel that reads and writes backing files of FUSE itself.
    Passthrough,
    /// Overlayfs in the kernel.
    Overlay,
}

impl Need {
    /// Its name in the environment variable `REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Fuse => "fuse",
            Self::Passthrough => "passthrough",
            Self::Overlay => "overlay",
        }
    }

    /// Why the machine does not offer it.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::Fuse => OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/fuse")
                .err()
                .map(|error| format!("needs /dev/fuse: {error}")),
            Self::Passthrough => passthrough_refusal(),
            Self::Overlay => {
                let listed = std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| {
                    text.lines().any(|line| line.split('\t').next_back() == Some("overlay"))
                });
                (!listed).then(|| "needs overlayfs in /proc/filesystems".to_owned())
            }
        }
    }
}

/// Why a trial of FUSE passthrough failed; the kernel is asked once.
fn passthrough_refusal() -> Option<String> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refuse = |why: &dyn fmt::Debug| Some(format!("needs FUSE passthrough: {why:?}"));
    let try_it = || match tempfile::tempdir() {
        Err(error) => refuse(&error),
        Ok(scratch) => match probe(Namespaces::Mount, scratch.path()) {
            Ok(FuseProbe { backing_open: Some(Ok(())), .. }) => None,
            Ok(answer) => refuse(&answer.backing_open),
            Err(error) => refuse(&error),
        },
    };
    REFUSAL.get_or_init(try_it).clone()
}

/// The reason to skip a test that has `needs`, if there is one.
///
/// # Errors
///
/// `REQUIRE`, a list separated by commas, names the missing need: the test must
/// fail.
pub fn missing(needs: &[Need]) -> Result<Option<String>, String> {
    let required = std::env::var("REQUIRE").unwrap_or_default();
    for need in needs {
        if let Some(reason) = need.missing() {
            if required.split(',').any(|it| it.trim() == need.name()) {
                return Err(format!("{reason}, and REQUIRE={required} demands it"));
            }
            return Ok(Some(reason));
        }
    }
    Ok(None)
}
