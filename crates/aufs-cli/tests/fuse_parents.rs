//! Directories that are copied up because something in them changes: they stay as they were, whoever changes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, listxattr,
    mknodat, setxattr, utimensat,
};
use twin::{Actor, OTHER, OWNER, ROOT, make, make_dir, plays_alike};

/// Like the owner, but hides all he makes from others.
const SECRETIVE: Actor = Actor { name: "owner with mask 077", umask: 0o077, ..OWNER };
/// In the group of the directories alone.
const MEMBER: Actor = Actor { name: "member", uid: 3000, gid: 3000, groups: &[1000], umask: 0o077 };

/// `u::rwx,u:2000:rwx,g::r-x,m::rwx,o::r-x` as `system.posix_acl_default` holds it.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 208, 7, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
    0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
];

/// What makes the parents of `path/f` be copied up; `path` has only that.
type Deed = (&'static str, fn(&Path) -> io::Result<()>);

const DEEDS: &[Deed] = &[
    ("create", |path| fs::write(path.join("new"), "new")),
    ("mkdir", |path| fs::create_dir(path.join("new"))),
    ("symlink", |path| symlink("f", path.join("new"))),
    ("mkfifo", |path| Ok(mknodat(CWD, path.join("new"), FileType::Fifo, Mode::from_raw_mode(0o666), 0)?)),
    ("append", |path| io::Write::write_all(&mut OpenOptions::new().append(true).open(path.join("f"))?, b"!")),
    ("unlink", |path| fs::remove_file(path.join("f"))),
    ("rename", |path| fs::rename(path.join("f"), path.join("g"))),
    ("link", |path| fs::hard_link(path.join("f"), path.join("g"))),
    ("chmod", |path| Ok(chmod(path.join("f"), Mode::from_raw_mode(0o600))?)),
];

const ACTORS: [Actor; 5] = [ROOT, OWNER, SECRETIVE, MEMBER, OTHER];

fn place_of(base: &Path, deed: usize, actor: usize) -> std::path::PathBuf {
    base.join(format!("{deed}-{actor}"))
}

#[test]
fn fuse_root_parents_that_are_copied_up_keep_mode_owner_acl_attributes_and_access_time() {
    plays_alike(
        |base| {
            for deed in 0..DEEDS.len() {
                for actor in 0..ACTORS.len() {
                    let mut path = place_of(base, deed, actor);
                    for (uid, gid, mode) in
                        [(5, 1000, 0o1777), (1000, 1000, 0o2775), (1000, 1000, 0o2770), (1000, 4000, 0o3777)]
                    {
                        make_dir(&path, uid, gid, mode);
                        setxattr(&path, "user.parent", b"kept", XattrFlags::empty()).unwrap();
                        setxattr(&path, "trusted.parent", b"kept too", XattrFlags::empty()).unwrap();
                        path.push("d");
                    }
                    path.pop();
                    setxattr(path.parent().unwrap(), "system.posix_acl_default", ACL, XattrFlags::empty())
                        .unwrap();
                    make(&path.join("f"), 1000, 1000, 0o664);
                    for dir in path.ancestors().take(4) {
                        let time = Timespec { tv_sec: -1_000, tv_nsec: 7 };
                        let times = Timestamps { last_access: time, last_modification: time };
                        utimensat(CWD, dir, &times, AtFlags::empty()).unwrap();
                    }
                }
            }
        },
        |place| {
            for (deed, (what, act)) in DEEDS.iter().enumerate() {
                for (actor, who) in ACTORS.iter().enumerate() {
                    let top = place_of(&place.path(""), deed, actor);
                    let path = top.join("d/d/d");
                    // Whoever compared what lies below read it, so their time is not that which was planted.
                    let accessed =
                        |dir: &Path| fs::metadata(dir).map(|it| (it.atime(), it.atime_nsec())).unwrap();
                    let before: Vec<_> = path.ancestors().take(4).map(accessed).collect();
                    let done = who.does(|| act(&path));
                    place.tried(format!("{what} by {}", who.name), done);
                    for (up, dir) in path.ancestors().take(4).enumerate() {
                        let stat = fs::metadata(dir).unwrap();
                        let mut names = [0; 512];
                        let len = listxattr(dir, &mut names[..]).unwrap();
                        let (owner, is_kept) = ((stat.uid(), stat.gid()), before[up] == accessed(dir));
                        place.saw(
                            format!("{what} by {}: {up} levels up", who.name),
                            (format!("{:o}", stat.mode()), owner, is_kept, len),
                        );
                    }
                }
            }
        },
    );
}

/// The owner of a directory changes it between two entries of others.
#[test]
fn fuse_root_a_parent_that_changes_after_its_copy_up_rules_what_comes_then() {
    plays_alike(
        |base| {
            make_dir(&base.join("d"), 1000, 1000, 0o777);
            make(&base.join("d/f"), 1000, 1000, 0o666);
        },
        |place| {
            let path = place.path("d");
            place.tried("by another", OTHER.does(|| fs::write(path.join("1"), "1")));
            place.tried("setgid", chmod(&path, Mode::from_raw_mode(0o2777)));
            place.tried("by another", OTHER.does(|| fs::write(path.join("2"), "2")));
            place.tried(
                "given away",
                chownat(CWD, &path, Some(Uid::from_raw(7)), Some(Gid::from_raw(8)), AtFlags::empty()),
            );
            place.tried("setgid again", chmod(&path, Mode::from_raw_mode(0o2777)));
            place.tried("by another", OTHER.does(|| fs::create_dir(path.join("3"))));
            place.tried("sticky", chmod(&path, Mode::from_raw_mode(0o1777)));
            place.tried("removed by another", OTHER.does(|| fs::remove_file(path.join("f"))));
            place.tried("closed", chmod(&path, Mode::from_raw_mode(0o755)));
            place.tried("by another", OTHER.does(|| fs::write(path.join("4"), "4")));
            for name in ["", "1", "2", "3", "f"] {
                let stat = fs::metadata(path.join(name)).unwrap();
                place.saw(name, (format!("{:o}", stat.mode()), stat.uid(), stat.gid()));
            }
        },
    );
}
