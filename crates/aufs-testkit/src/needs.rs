//! What a test needs of the machine, and what happens where it is missing.

use std::fs::OpenOptions;

/// Something that not every machine offers.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// To be root, with all its rights.
    Root,
    /// `/dev/fuse`, openable.
    Fuse,
    /// Overlayfs in the kernel.
    Overlay,
    /// What only the test itself can try.
    Other {
        /// Its name in `REQUIRE`.
        name: &'static str,
        /// Says why it is missing.
        missing: fn() -> Option<String>,
    },
}

impl Need {
    /// Its name in the environment variable `REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Fuse => "fuse",
            Self::Overlay => "overlay",
            Self::Other { name, .. } => name,
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
            Self::Other { missing, .. } => missing(),
            Self::Overlay => {
                let listed = std::fs::read_to_string("/proc/filesystems").is_ok_and(|text| {
                    text.lines().any(|line| line.split('\t').next_back() == Some("overlay"))
                });
                (!listed).then(|| "needs overlayfs in /proc/filesystems".to_owned())
            }
        }
    }
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

/// Whether a test that has `needs` cannot run here; says why.
///
/// # Panics
///
/// `REQUIRE` names the missing need; see [`missing`].
#[expect(clippy::panic, reason = "a test that must run has failed")]
pub fn skips(needs: &[Need]) -> bool {
    let reason = missing(needs).unwrap_or_else(|error| panic!("{error}"));
    if let Some(reason) = &reason {
        println!("skipped: {reason}");
    }
    reason.is_some()
}
