//! Says what would mount AUFS branches here.

use serde::{Deserialize, Serialize};

use crate::fuse::Passthrough;
use crate::host::HostFacts;

/// What mounts AUFS branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounter {
    /// The kernel's own aufs.
    KernelAufs,
    /// Our FUSE server, and the kernel reads and writes the branch files itself.
    FusePassthrough,
    /// Our FUSE server, which reads and writes the branch files; the kernel caches pages.
    #[serde(rename = "fuse-noopen")]
    FuseNoOpen,
    /// Nothing does.
    Nothing,
}

/// What would mount AUFS branches here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What mounts them.
    pub mounter: Mounter,
    /// Whether the caller must enter a user namespace first.
    pub needs_user_namespace: bool,
    /// The same in one line, with the reason or the remedy.
    pub sentence: String,
}

/// Judges what would mount AUFS branches for the process that found `facts`.
pub fn verdict(facts: &HostFacts) -> Verdict {
    let is_admin = facts.privileges.cap_sys_admin.value;
    if is_admin && facts.aufs.mount.value.is_yes() {
        let sentence = "kernel aufs would mount AUFS branches here".to_owned();
        return Verdict { mounter: Mounter::KernelAufs, needs_user_namespace: false, sentence };
    }
    fuse_verdict(facts)
}

impl Verdict {
    /// Returns what our own server could do, whatever the kernel's aufs can.
    pub fn of_our_server(facts: &HostFacts) -> Self {
        fuse_verdict(facts)
    }
}

fn fuse_verdict(facts: &HostFacts) -> Verdict {
    let fuse = &facts.fuse;
    let needs_user_namespace = !facts.privileges.cap_sys_admin.value;
    let server = "our FUSE server would mount AUFS branches here";
    if !fuse.mount.value.is_yes() {
        let sentence = format!("nothing here mounts AUFS branches: {}; {}", fuse.mount.reason, remedy(facts));
        return Verdict { mounter: Mounter::Nothing, needs_user_namespace, sentence };
    }
    let (mounter, mut sentence) = match fuse.passthrough.value {
        Passthrough::Works => {
            (Mounter::FusePassthrough, format!("{server} with passthrough: {}", fuse.passthrough.reason))
        }
        _ => (Mounter::FuseNoOpen, format!("{server} without passthrough: {}", fuse.passthrough.reason)),
    };
    if needs_user_namespace {
        sentence.push_str("; enter a user namespace first: unshare --user --map-root-user --mount");
    }
    Verdict { mounter, needs_user_namespace, sentence }
}

fn remedy(facts: &HostFacts) -> &'static str {
    if !facts.offers("fuse") && !facts.fuse.device.value {
        "remedy: a kernel with FUSE (modprobe fuse)"
    } else if !facts.fuse.device.value {
        "remedy: /dev/fuse must exist here (mknod /dev/fuse c 10 229, or --device /dev/fuse for a container) \
         and this user must be able to read and write it (chmod 666 /dev/fuse)"
    } else {
        "remedy: run it as root, or allow user namespaces"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        Answer, AufsFacts, Fact, FilesystemFact, FuseAbi, FuseFacts, Listing, OverlayFacts, Privileges,
    };

    /// A host on which everything works, for root.
    fn able() -> HostFacts {
        let yes = || Fact::new(Answer::Yes, "tried");
        let listed = |name: &str| FilesystemFact {
            name: name.to_owned(),
            listing: Fact::new(Listing::Nodev, "/proc/filesystems"),
        };
        HostFacts {
            kernel_release: Fact::new("6.18.0".to_owned(), "uname"),
            privileges: Privileges {
                root: Fact::new(true, "effective user id 0"),
                cap_sys_admin: Fact::new(true, "in the effective set"),
                initial_user_namespace: yes(),
                user_namespace: yes(),
            },
            filesystems: vec![listed("aufs"), listed("fuse")],
            aufs: AufsFacts { mount: yes(), dirperm1: yes() },
            overlay: OverlayFacts { mount: yes(), parameters: BTreeMap::new(), options: BTreeMap::new() },
            fuse: FuseFacts {
                device: Fact::new(true, "/dev/fuse opens"),
                mount: yes(),
                abi: Fact::new(Some(FuseAbi { major: 7, minor: 45 }), "FUSE_INIT"),
                passthrough: Fact::new(Passthrough::Works, "the kernel took a backing file"),
                io_uring: yes(),
            },
        }
    }

    #[test]
    fn the_best_that_works_is_named() {
        type Change = fn(&mut HostFacts);
        let no_aufs: Change = |it| it.aufs.mount.value = Answer::No;
        let cases: &[(&str, &[Change], Mounter, &str)] = &[
            ("all", &[], Mounter::KernelAufs, "kernel aufs"),
            ("no aufs", &[no_aufs], Mounter::FusePassthrough, "passthrough"),
            (
                "no passthrough",
                &[no_aufs, |it| it.fuse.passthrough = Fact::new(Passthrough::NotPermitted, "EPERM")],
                Mounter::FuseNoOpen,
                "without passthrough: EPERM",
            ),
            (
                "aufs, but no right to mount it",
                &[|it| it.privileges.cap_sys_admin.value = false],
                Mounter::FusePassthrough,
                "unshare --user",
            ),
            (
                "no device",
                &[no_aufs, |it| {
                    it.fuse.device.value = false;
                    it.fuse.mount = Fact::new(Answer::No, "/dev/fuse: gone");
                }],
                Mounter::Nothing,
                "/dev/fuse: gone; remedy: /dev/fuse must exist here",
            ),
            (
                "no namespace",
                &[no_aufs, |it| it.fuse.mount = Fact::new(Answer::Unknown, "unshare: refused")],
                Mounter::Nothing,
                "run it as root",
            ),
        ];
        for (case, changes, mounter, part) in cases {
            let mut facts = able();
            for change in *changes {
                change(&mut facts);
            }
            let verdict = verdict(&facts);
            assert_eq!(verdict.mounter, *mounter, "{case}");
            assert!(verdict.sentence.contains(part), "{case}: {}", verdict.sentence);
            assert_eq!(verdict.sentence.lines().count(), 1, "{case}");
        }
    }
}
