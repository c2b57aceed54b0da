//! What this kernel and these directories can do, each fact with its reason.
//!
//! Facts come from trials where a trial is possible: a mount in a private namespace, an ioctl on
//! a temporary file. A trial leaves nothing behind. A fact that cannot be found out is a value of
//! its own, never an error, so that a report is always whole.

mod aufs;
mod directory;
mod error;
mod fact;
mod filesystems;
mod fuse;
mod host;
mod overlay;
mod privilege;
mod statfs_type;
mod verdict;

pub use aufs::AufsFacts;
pub use directory::{DirectoryFacts, detect_directory};
pub use error::{DetectError, DetectErrorKind};
pub use fact::{Answer, Fact};
pub use filesystems::{FilesystemFact, Listing, lists_filesystem};
pub use fuse::{FuseAbi, FuseFacts, Passthrough};
pub use host::{HostFacts, detect_host};
pub use overlay::OverlayFacts;
pub use privilege::Privileges;
pub use statfs_type::docker_name;
pub use verdict::{Mounter, Verdict, verdict};
