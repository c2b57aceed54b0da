//! Branches that refuse by themselves: full, read-only, immutable; and how each is put right again.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MsFlags, mount};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::bed::Bed;
use super::disk::{BTRFS, Disk, EXT4, Format, XFS};
use super::operations::Operation;
use crate::host::{succeed, wait_until};

/// A state of the writable branch in which it refuses changes.
pub struct Condition {
    pub name: &'static str,
    pub format: Format,
    /// What it answers.
    pub errno: Errno,
    pub begin: fn(&Bed),
    /// Sees to it that it still is so: what removes entries makes room.
    pub go_on: fn(&Bed),
    pub end: fn(&Bed),
    /// Parts of the names of operations that cannot succeed.
    pub refused: &'static [&'static str],
    /// Parts of the names of operations that this file system itself does by half when it refuses.
    pub left_out: &'static [&'static str],
}

impl Condition {
    pub fn disk(&self) -> Disk {
        Disk::Image(self.format)
    }

    pub fn is_left_out(&self, operation: &Operation) -> bool {
        self.left_out.iter().any(|it| operation.name.contains(it))
    }

    pub fn must_refuse(&self, operation: &Operation) -> bool {
        self.refused.iter().any(|it| operation.name.contains(it))
    }
}

/// What needs room for bytes.
const NEEDS_ROOM: &[&str] = &["extend a long lower file"];
/// What needs a new directory, and one of a block of its own.
const NEEDS_BLOCK: &[&str] = &["extend a long lower file", "below a lower directory"];
/// What needs a new inode on the branch, though no more than a whiteout does not.
const NEEDS_INODE: &[&str] =
    &["extend a l", "allocate", "create", "mkdir", "mknod", "symlink", "chmod", "chown"];
/// All that changes something.
const CHANGES: &[&str] = &[
    "extend", "truncate", "O_TRUNC", "allocate", "chmod", "chown", "set ", "remove", "unlink", "rmdir",
    "create", "mkdir", "symlink", "mknod", "name a", "link", "rename", "exchange",
];
/// What happens in a case's own directory on the branch.
const IN_IMMUTABLE: &[&str] =
    &["upper file over", "link an upper", "over a whiteout", "three branches", "emptied by"];
/// What takes a name away there, or replaces one.
const IN_APPEND_ONLY: &[&str] =
    &["unlink an upper file", "unlink a file of three", "emptied by", "rename an upper", "exchange"];

/// A truncation that btrfs answers by `EDQUOT` leaves zeros instead of the bytes, on a plain directory too, and
/// set-id bits need room to come back.
const CUTS_IN_PLACE: &[&str] = &["truncate an upper", "open an upper"];

/// All of them.
pub const CONDITIONS: [Condition; 7] = [
    Condition {
        name: "no room for bytes",
        format: EXT4,
        errno: Errno::ENOSPC,
        begin: |bed| fill(&bed.disk()),
        go_on: |bed| fill(&bed.disk()),
        end: |bed| fs::remove_file(bed.disk().join("fill")).unwrap(),
        refused: NEEDS_BLOCK,
        left_out: &[],
    },
    Condition {
        name: "no room for bytes",
        format: XFS,
        errno: Errno::ENOSPC,
        begin: |bed| fill(&bed.disk()),
        go_on: |bed| fill(&bed.disk()),
        end: |bed| fs::remove_file(bed.disk().join("fill")).unwrap(),
        refused: NEEDS_ROOM,
        left_out: &[],
    },
    Condition {
        name: "no inode left",
        format: EXT4,
        errno: Errno::ENOSPC,
        begin: |bed| use_up_inodes(&bed.disk()),
        go_on: |bed| use_up_inodes(&bed.disk()),
        end: |bed| fs::remove_dir_all(bed.disk().join("many")).unwrap(),
        refused: NEEDS_INODE,
        left_out: &[],
    },
    Condition {
        name: "quota used up",
        format: BTRFS,
        errno: Errno::EDQUOT,
        begin: |bed| limit(&bed.disk()),
        go_on: |_| (),
        end: |bed| drop(succeed(Command::new("btrfs").args(["quota", "disable"]).arg(bed.disk()))),
        refused: NEEDS_ROOM,
        left_out: CUTS_IN_PLACE,
    },
    Condition {
        name: "mounted read-only beneath",
        format: EXT4,
        errno: Errno::EROFS,
        begin: |bed| remount(&bed.disk(), MsFlags::MS_RDONLY),
        go_on: |_| (),
        end: |bed| remount(&bed.disk(), MsFlags::empty()),
        refused: CHANGES,
        left_out: &[],
    },
    Condition {
        name: "immutable directories",
        format: EXT4,
        errno: Errno::EPERM,
        begin: |bed| flag_directories(bed, IFlags::IMMUTABLE),
        go_on: |_| (),
        end: |bed| flag_directories(bed, IFlags::empty()),
        refused: IN_IMMUTABLE,
        left_out: &[],
    },
    Condition {
        name: "append-only directories",
        format: XFS,
        errno: Errno::EPERM,
        begin: |bed| flag_directories(bed, IFlags::APPEND),
        go_on: |_| (),
        end: |bed| flag_directories(bed, IFlags::empty()),
        refused: IN_APPEND_ONLY,
        left_out: &[],
    },
];

/// Allocates until nothing is left.
fn fill(disk: &Path) {
    let file = File::options().create(true).append(true).open(disk.join("fill")).unwrap();
    let (mut len_bytes, mut step) = (file.metadata().unwrap().len().cast_signed(), 64 << 20);
    while 1024 <= step {
        match fallocate(&file, FallocateFlags::empty(), len_bytes, step) {
            Ok(()) => len_bytes += step,
            Err(Errno::ENOSPC) => step /= 2,
            Err(errno) => panic!("fill {}: {errno}", disk.display()),
        }
    }
}

fn use_up_inodes(disk: &Path) {
    let dir = disk.join("many");
    fs::create_dir_all(&dir).unwrap();
    for number in fs::read_dir(&dir).unwrap().count().. {
        match File::create_new(dir.join(number.to_string())) {
            Ok(_) => (),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("{}: {error}", disk.display()),
        }
    }
}

/// Limits what may be written to less than there is.
fn limit(disk: &Path) {
    for args in [&["quota", "enable"][..], &["filesystem", "sync"], &["qgroup", "limit", "16K", "0/5"]] {
        succeed(Command::new("btrfs").args(args).arg(disk));
    }
}

fn remount(disk: &Path, flags: MsFlags) {
    let none: Option<&str> = None;
    let remounted = || mount(none, disk, none, MsFlags::MS_REMOUNT | flags, none);
    // Files that were closed just now may be on their way yet.
    wait_until("the disk is remounted", || remounted() != Err(Errno::EBUSY));
    remounted().unwrap();
}

/// Gives each directory of every case on the writable branch these flags.
fn flag_directories(bed: &Bed, flags: IFlags) {
    let mut left: Vec<PathBuf> = (0..bed.cases).map(|it| bed.upper(it)).collect();
    while let Some(dir) = left.pop() {
        let inside = fs::read_dir(&dir).unwrap().flatten();
        left.extend(inside.filter(|it| it.file_type().unwrap().is_dir()).map(|it| it.path()));
        let dir = File::open(&dir).unwrap();
        let others = ioctl_getflags(dir.as_fd()).unwrap() - (IFlags::IMMUTABLE | IFlags::APPEND);
        ioctl_setflags(dir.as_fd(), others | flags).unwrap();
    }
}
