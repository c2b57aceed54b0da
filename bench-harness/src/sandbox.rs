//! The private mount namespace in which the bench mounts.
//!
//! Whatever is mounted here is gone when the last process of the namespace
//! ends, so that even a killed run leaves no mount on the host.

use std::fs;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};

use crate::error::{At as _, Result};

/// Moves this process into a mount namespace of its own.
///
/// Without root it also takes a user namespace, in which the caller is root.
/// Must be called before the first thread starts.
///
/// # Errors
///
/// The kernel refuses the namespaces, as some hosts do for ordinary users.
pub fn enter() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).at("unshare", "mount namespace")?;
    } else {
        let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        nix::sched::unshare(flags).at("unshare", "user and mount namespace")?;
        let own = "/proc/self";
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(format!("{own}/{file}"), text).at("write", format!("{own}/{file}"))?;
        }
    }
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).at("make private", "/")
}
