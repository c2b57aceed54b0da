//! The private mount namespace in which the bench mounts.
//!
//! Whatever is mounted here is gone when the last process of the namespace
//! ends, so that even a killed run leaves no mount on the host.

use std::fs;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// Moves this process into a mount namespace of its own.
///
/// Without root it also takes a user namespace, in which the caller is root.
/// Must be called before the first thread starts.
///
/// # Errors
///
/// `Refused`: the kernel does not give the namespaces, as some hosts do to
/// ordinary users and most container runtimes do by default.
pub fn enter() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNS, "mount namespace")?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, "user and mount namespace")?;
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("0 {uid} 1")),
            ("/proc/self/gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(file, text).at("write", file)?;
        }
    }
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).at("make private", "/")
}

/// Whether this process is in a user namespace of its own or of a container, where root is not the host's.
pub fn in_user_namespace() -> bool {
    // A kernel without user namespaces has no such file.
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_a_part(&map))
}

/// Whether `map` is not the one that maps every number to itself.
fn maps_a_part(map: &str) -> bool {
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn unshare(flags: CloneFlags, what: &str) -> Result<()> {
    nix::sched::unshare(flags).map_err(|errno| {
        let remedy = "run as root, or with CAP_SYS_ADMIN in a container";
        BenchError::new("unshare", what, BenchErrorKind::Refused(format!("{}; {remedy}", errno.desc())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_of_the_host_is_known() {
        for (map, expected) in [
            ("         0          0 4294967295\n", false),
            ("         0       1000          1\n", true),
            ("0 0 1000\n1000 100000 65536\n", true),
            ("", true),
        ] {
            assert_eq!(maps_a_part(map), expected, "{map:?}");
        }
    }
}
