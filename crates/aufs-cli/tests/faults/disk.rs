//! The file system of the writable branch: the host's own, a tmpfs, or one in a small image.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use aufs_testkit::needs::Need;
use nix::mount::{MsFlags, mount};

use crate::host::succeed;

/// Where the writable branch lies.
#[derive(Debug, Clone, Copy)]
pub enum Disk {
    Host,
    Tmpfs,
    Image(Format),
}

/// How an image is made.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub name: &'static str,
    pub need: Need,
    mkfs: &'static [&'static str],
    /// Most of it is a hole.
    len_bytes: u64,
}

/// With few inodes, and no room that is root's alone.
pub const EXT4: Format = Format {
    name: "ext4",
    need: Need::Other { name: "mkfs.ext4", missing: || missing("mkfs.ext4") },
    mkfs: &["mkfs.ext4", "-q", "-F", "-b", "1024", "-N", "4096", "-m", "0"],
    len_bytes: 16 << 20,
};

/// As small as `mkfs.xfs` makes them.
pub const XFS: Format = Format {
    name: "xfs",
    need: Need::Other { name: "mkfs.xfs", missing: || missing("mkfs.xfs") },
    mkfs: &["mkfs.xfs", "-q", "-f"],
    len_bytes: 300 << 20,
};

/// Has quotas that bind root too.
pub const BTRFS: Format = Format {
    name: "btrfs",
    need: Need::Other { name: "mkfs.btrfs", missing: || missing("mkfs.btrfs").or_else(|| missing("btrfs")) },
    mkfs: &["mkfs.btrfs", "-q", "-f"],
    len_bytes: 120 << 20,
};

fn missing(program: &str) -> Option<String> {
    let runs = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    (!runs.is_ok_and(|it| it.status.success())).then(|| format!("needs {program}"))
}

impl Disk {
    /// Mounts it at the empty directory `at`, with what it needs beside that.
    pub fn mount(self, at: &Path) {
        match self {
            Self::Host => (),
            Self::Tmpfs => {
                mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=256m")).unwrap();
            }
            Self::Image(format) => {
                let image = at.with_extension("img");
                File::create(&image).unwrap().set_len(format.len_bytes).unwrap();
                let (program, args) = format.mkfs.split_first().unwrap();
                succeed(Command::new(program).args(args).arg(&image));
                // The loop device goes with the mount.
                succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
            }
        }
    }
}
