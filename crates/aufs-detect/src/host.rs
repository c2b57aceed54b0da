//! Everything about the host in one answer.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
/// of child processes, so nothing of them is seen or left; it takes some 50 ms.
pub fn detect_host() -> HostFacts {
    let scratch = scratch();
    let scratch = scratch.as_deref();
    let privileges = privilege::detect(scratch);
    let namespaces = privileges.namespaces();
    let filesystems = filesystems::detect(privileges.root.value && privileges.is_machine_admin());
    // A list that cannot be read rules nothing out.
    let may_offer =
        |name| filesystems.iter().any(|it| it.name == name && it.listing.value != Listing::Absent);
    HostFacts {
        kernel_release: Fact::new(rustix::system::uname().release().to_string_lossy().into_owned(), "uname"),
        aufs: aufs::detect(may_offer("aufs"), namespaces, scratch),
        overlay: overlay::detect(may_offer("overlay"), namespaces, scratch),
        fuse: fuse::detect(namespaces, scratch),
        privileges,
        filesystems,
    }
}

/// Finds a directory for trials to mount a tmpfs on, which they alone see. Nothing is created in it.
fn scratch() -> Option<PathBuf> {
    let fixed = ["/tmp", "/var/tmp", "/run", "/mnt", "/usr"].map(PathBuf::from);
    std::iter::once(std::env::temp_dir()).chain(fixed).find_map(|place| {
        let place = place.canonicalize().ok().filter(|it| it.is_dir())?;
        // The path becomes part of mount options, where some characters have a meaning.
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(byte);
        place.as_os_str().as_bytes().iter().all(is_plain).then_some(place)
    })
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
