//! The private mount namespace in which the bench mounts.
//!
//! Whatever is mounted here is gone when the last process of the namespace
//! ends, so that even a killed run leaves no mount on the host.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

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
pub fn enter() -> Result<Namespace> {
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
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .at("make private", "/")?;
    let link = format!("/proc/{}/ns/mnt", std::process::id());
    Ok(Namespace { mounts: fs::read_link(&link).at("read", &link)? })
}

/// The mount namespace of this process alone.
#[derive(Debug)]
pub struct Namespace {
    /// Its name, as in `/proc/PID/ns/mnt`.
    mounts: PathBuf,
}

impl Namespace {
    /// Ends what lives in the namespace besides this process, and removes `scratch`, as far as both can be done.
    ///
    /// A server that outlived this process would keep the namespace and its mounts.
    pub fn end(&self, scratch: Option<&Path>) {
        for pid in self.others() {
            if let Err(errno) = kill(pid, Signal::SIGKILL) {
                tracing::warn!(%pid, %errno, "a process stays");
            }
        }
        let Some(scratch) = scratch else { return };
        // The last mounts lie upon the first.
        for target in mounts_below(scratch).into_iter().rev() {
            if let Err(errno) = nix::mount::umount2(&target, MntFlags::MNT_DETACH) {
                tracing::warn!(target = %target.display(), %errno, "a mount stays until the last process ends");
            }
        }
        // The run may still be creating files; what it makes after a pass is for the next one.
        let removed = (0..3).any(|_| fs::remove_dir_all(scratch).is_ok());
        if !removed && scratch.exists() {
            tracing::warn!(scratch = %scratch.display(), "scratch files stay behind");
        }
    }

    /// Processes of the namespace, this one left out.
    fn others(&self) -> Vec<Pid> {
        let own = std::process::id().cast_signed();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        let here = |pid: &i32| {
            *pid != own && fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|it| it == self.mounts)
        };
        pids.filter(here).map(Pid::from_raw).collect()
    }
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let own = procfs::process::Process::myself().and_then(|it| it.mountinfo());
    let points = own.into_iter().flatten().map(|it| it.mount_point);
    points.filter(|it| it.starts_with(dir)).collect()
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
