//! Everything about the host in one answer.

use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::aufs::{self, AufsFacts};
use crate::fact::Fact;
use crate::filesystems::{self, FilesystemFact, Listing};
use crate::fuse::{self, FuseFacts};
use crate::overlay::{self, OverlayFacts};
use crate::privilege::{self, Privileges};

/// What this kernel can do for the calling process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Release of the kernel, as `uname -r`.
    pub kernel_release: Fact<String>,
    /// Rights of the process.
    pub privileges: Privileges,
    /// File systems of the kernel.
    pub filesystems: Vec<FilesystemFact>,
    /// The kernel's own aufs.
    pub aufs: AufsFacts,
    /// overlayfs.
    pub overlay: OverlayFacts,
    /// FUSE.
    pub fuse: FuseFacts,
}

impl HostFacts {
    /// Returns how the kernel lists the file system `name`, for the names that a report has.
    pub fn filesystem(&self, name: &str) -> Option<&Fact<Listing>> {
        self.filesystems.iter().find(|it| it.name == name).map(|it| &it.listing)
    }

    /// Whether the kernel lists the file system `name`.
    pub fn offers(&self, name: &str) -> bool {
        self.filesystem(name).is_some_and(|it| it.value.is_listed())
    }
}

/// Finds out what this kernel can do for the calling process.
///
/// Root asks modprobe for modules that are not loaded. Trial mounts happen in private namespaces
/// of child processes, so nothing of them is seen or left; it takes some 10 ms.
pub fn detect_host() -> HostFacts {
    // Trials hide this directory below a tmpfs of their own; it stays empty.
    let scratch = tempfile::Builder::new().prefix("aufs-detect-").tempdir();
    if let Err(error) = &scratch {
        debug!(%error, "no temporary directory");
    }
    let place = scratch.as_ref().ok().and_then(|it| it.path().canonicalize().ok());
    let place = place.as_deref();

    let privileges = privilege::detect(place);
    let namespaces = privileges.namespaces();
    let may_load_modules = privileges.root.value && privileges.is_machine_admin();
    let filesystems = filesystems::detect(may_load_modules);
    let is_listed = |name| filesystems.iter().any(|it| it.name == name && it.listing.value.is_listed());
    HostFacts {
        kernel_release: Fact::new(rustix::system::uname().release().to_string_lossy().into_owned(), "uname"),
        aufs: aufs::detect(is_listed("aufs"), namespaces, place),
        overlay: overlay::detect(is_listed("overlay"), namespaces, place),
        fuse: fuse::detect(namespaces, place),
        privileges,
        filesystems,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_whole_and_reads_back() {
        let facts = detect_host();
        assert!(!facts.kernel_release.value.is_empty());
        assert!(!facts.filesystem("aufs").unwrap().reason.is_empty());
        assert_eq!(facts.filesystem("no-such-type"), None);
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<HostFacts>(&text).unwrap(), facts);
    }

    #[test]
    fn two_reports_at_once_agree() {
        detect_host(); // Loads what modules there are, which changes a reason.
        let [one, two] = std::thread::scope(|scope| {
            [scope.spawn(detect_host), scope.spawn(detect_host)].map(|it| it.join().unwrap())
        });
        assert_eq!(one, two);
    }
}
