//! What the calling process may do.

use std::fs;
use std::path::Path;

use aufs_host::private_child::{self, Namespaces};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::fact::{Answer, Fact, NO_SCRATCH, explain};

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO` of `linux/proc_ns.h`).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Rights of the calling process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Whether the effective user id is 0 (in its own user namespace).
    pub root: Fact<bool>,
    /// Whether `CAP_SYS_ADMIN` is effective (in its own user namespace).
    pub cap_sys_admin: Fact<bool>,
    /// Whether the process is in the initial user namespace, where capabilities are the machine's.
    pub initial_user_namespace: Fact<Answer>,
    /// Whether the process may enter a new user namespace and mount there.
    pub user_namespace: Fact<Answer>,
}

impl Privileges {
    /// Returns the namespaces in which this process may try mounts.
    pub(crate) fn namespaces(&self) -> Namespaces {
        if self.cap_sys_admin.value { Namespaces::Mount } else { Namespaces::UserAndMount }
    }

    /// Whether the process holds the machine's own `CAP_SYS_ADMIN`, not that of a user namespace.
    pub fn is_machine_admin(&self) -> bool {
        self.cap_sys_admin.value && self.initial_user_namespace.value.is_yes()
    }
}

/// Finds the rights out; `scratch` is a directory to hide below a tmpfs.
pub(crate) fn detect(scratch: Option<&Path>) -> Privileges {
    let user = rustix::process::geteuid();
    let cap_sys_admin = match rustix::thread::capabilities(None) {
        Ok(sets) => {
            let held = sets.effective.contains(CapabilitySet::SYS_ADMIN);
            let reason = if held { "in the effective set" } else { "not in the effective set" };
            Fact::new(held, reason)
        }
        Err(errno) => Fact::new(false, format!("capget: {errno}")),
    };
    Privileges {
        root: Fact::new(user.is_root(), format!("effective user id {}", user.as_raw())),
        cap_sys_admin,
        initial_user_namespace: initial_user_namespace(),
        user_namespace: match scratch.map(|it| private_child::try_namespaces(Namespaces::UserAndMount, it)) {
            None => Fact::new(Answer::Unknown, NO_SCRATCH),
            Some(Ok(())) => Fact::new(Answer::Yes, "entered one and mounted a tmpfs there"),
            Some(Err(error)) => Fact::new(Answer::No, explain(&error)),
        },
    }
}

fn initial_user_namespace() -> Fact<Answer> {
    const LINK: &str = "/proc/self/ns/user";
    match fs::read_link(LINK) {
        Err(error) => Fact::new(Answer::Unknown, format!("{LINK}: {error}")),
        Ok(link) => {
            let text = link.to_string_lossy();
            let answer = match namespace_inode(&text) {
                None => Answer::Unknown,
                Some(INITIAL_USER_NAMESPACE) => Answer::Yes,
                Some(_) => Answer::No,
            };
            Fact::new(answer, format!("{LINK} is {text}"))
        }
    }
}

/// Reads the number in `user:[4026531837]`.
fn namespace_inode(link: &str) -> Option<u64> {
    link.strip_prefix("user:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_links_are_read() {
        for (link, expected) in [
            ("user:[4026531837]", Some(INITIAL_USER_NAMESPACE)),
            ("user:[4026532281]", Some(4_026_532_281)),
            ("mnt:[4026531837]", None),
            ("user:[]", None),
            ("user:[x]", None),
            ("", None),
        ] {
            assert_eq!(namespace_inode(link), expected, "{link}");
        }
    }
}
