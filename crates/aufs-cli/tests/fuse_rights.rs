//! Who may change what, and what a change takes away: set-id bits, capabilities, ACLs, groups, masks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use aufs_testkit::process::Mapping;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmod, chownat,
    copy_file_range, fallocate, fchmod, fchown, ftruncate, getxattr, linkat, mknodat, open, setxattr,
};
use twin::{Actor, OTHER, OWNER, Place, ROOT, Stage, make, make_dir, plays_alike};

/// In the group of the files, but not their owner.
const MEMBER: Actor = Actor { name: "member", uid: 3000, gid: 3000, groups: &[1000, 5000], umask: 0o022 };
/// The owner of the files with one more group.
const OWNER_TOO: Actor =
    Actor { name: "owner of two groups", uid: 1000, gid: 1000, groups: &[5000], umask: 0o022 };

fn writer(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Something that may take set-id bits and capabilities away.
type Deed = (&'static str, fn(&Path) -> io::Result<()>);

fn ids(uid: Option<u32>, gid: Option<u32>) -> (Option<Uid>, Option<Gid>) {
    (uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

fn chown_to(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = ids(uid, gid);
    Ok(chownat(CWD, path, uid, gid, AtFlags::empty())?)
}

const DEEDS: &[Deed] = &[
    ("write", |path| writer(path)?.write_all_at(b"x", 0)),
    ("write beyond the end", |path| writer(path)?.write_all_at(b"x", 100_000)),
    ("write and sync", |path| {
        let file = writer(path)?;
        file.write_all_at(b"x", 0)?;
        file.sync_all()
    }),
    ("append", |path| io::Write::write_all(&mut OpenOptions::new().append(true).open(path)?, b"x")),
    ("truncate", |path| Ok(nix::unistd::truncate(path, 3)?)),
    ("truncate to the same length", |path| Ok(nix::unistd::truncate(path, 10)?)),
    ("extend", |path| Ok(nix::unistd::truncate(path, 20_000)?)),
    ("ftruncate", |path| Ok(ftruncate(&writer(path)?, 3)?)),
    ("open with O_TRUNC", |path| OpenOptions::new().write(true).truncate(true).open(path).map(drop)),
    ("creat", |path| File::create(path).map(drop)),
    ("allocate", |path| Ok(fallocate(&writer(path)?, FallocateFlags::empty(), 0, 20_000)?)),
    ("allocate, keeping the length", |path| {
        Ok(fallocate(&writer(path)?, FallocateFlags::KEEP_SIZE, 0, 20_000)?)
    }),
    ("punch", |path| {
        Ok(fallocate(&writer(path)?, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 5)?)
    }),
    ("copy into", |path| {
        let from = File::open(path)?;
        let to = writer(path)?;
        Ok(copy_file_range(&from, Some(&mut 0), &to, Some(&mut 20), 5).map(drop)?)
    }),
    ("chown to the same", |path| chown_to(path, Some(1000), Some(1000))),
    ("chown to another", |path| chown_to(path, Some(4000), None)),
    ("chgrp to another group of mine", |path| chown_to(path, None, Some(5000))),
    ("fchown", |path| {
        let (uid, gid) = ids(None, Some(5000));
        Ok(fchown(&File::open(path)?, uid, gid)?)
    }),
    ("chmod to the same", |path| {
        let mode = fs::metadata(path)?.mode() & 0o7777;
        Ok(chmod(path, Mode::from_raw_mode(mode))?)
    }),
    ("fchmod", |path| Ok(fchmod(&File::open(path)?, Mode::from_raw_mode(0o6755))?)),
    ("touch", |path| File::open(path)?.set_modified(std::time::UNIX_EPOCH)),
    ("set an attribute", |path| Ok(setxattr(path, "user.x", b"1", XattrFlags::empty())?)),
    ("rename", |path| {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside)?;
        fs::rename(&aside, path)
    }),
    ("link", |path| fs::hard_link(path, path.with_extension("link"))),
];

/// Bits and lengths after each deed by each actor.
fn each_deed(place: &mut Place, actors: &[Actor], modes: &[u32], look: fn(&Path) -> String) {
    for (n, (deed, act)) in DEEDS.iter().enumerate() {
        for (m, actor) in actors.iter().enumerate() {
            for mode in modes {
                let path = place.path(format!("d/f{n}-{m}-{mode:o}"));
                let what = format!("{deed} by {} on {mode:o}", actor.name);
                let result = actor.does(|| act(&path));
                place.tried(format!("{what}, result"), result);
                place.saw(what, look(&path));
            }
        }
    }
}

fn for_each_deed(base: &Path, actors: &[Actor], modes: &[u32], prepare: fn(&Path)) {
    make_dir(&base.join("d"), 1000, 1000, 0o777);
    for n in 0..DEEDS.len() {
        for m in 0..actors.len() {
            for mode in modes {
                let path = base.join(format!("d/f{n}-{m}-{mode:o}"));
                make(&path, 1000, 1000, *mode);
                prepare(&path);
            }
        }
    }
}

const ACTORS: [Actor; 5] = [ROOT, OWNER, OWNER_TOO, MEMBER, OTHER];

#[test]
fn fuse_root_set_id_bits_go_as_on_a_plain_directory() {
    const MODES: [u32; 4] = [0o6777, 0o4666, 0o2766, 0o6767];
    plays_alike(
        |base| for_each_deed(base, &ACTORS, &MODES, |_| {}),
        |place| {
            each_deed(place, &ACTORS, &MODES, |path| {
                let stat = fs::metadata(path).unwrap();
                format!("{:o} {}:{} {}", stat.mode(), stat.uid(), stat.gid(), stat.len())
            });
        },
    );
}

const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 1024];
    getxattr(path, name, &mut value[..]).ok().map(|len| value[..len].to_vec())
}

#[test]
fn fuse_root_capabilities_go_as_on_a_plain_directory() {
    const MODES: [u32; 1] = [0o777];
    plays_alike(
        |base| {
            for_each_deed(base, &ACTORS, &MODES, |path| {
                setxattr(path, "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
            });
        },
        |place| {
            each_deed(place, &ACTORS, &MODES, |path| {
                format!("{}", attribute(path, "security.capability").is_some())
            });
        },
    );
}

/// The kernel writes what it collected later, when the file may have got its capabilities.
#[test]
fn fuse_root_capabilities_set_after_a_write_outlast_its_write_back() {
    const PAGE: usize = 4096;
    plays_alike(
        |base| {
            make(&base.join("written"), 0, 0, 0o755);
            fs::write(base.join("mapped"), vec![b'm'; PAGE]).unwrap();
        },
        |place| {
            let give = |path: &Path| setxattr(path, "security.capability", CAPABILITY, XattrFlags::empty());
            for (name, by_map) in [("written", false), ("mapped", true), ("mapped", false)] {
                let path = place.path(name);
                let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
                let map = by_map.then(|| Mapping::new(file.as_fd(), PAGE).unwrap());
                match &map {
                    Some(map) => map.write(7, b"through a map").unwrap(),
                    None => file.write_all_at(b"written", 0).unwrap(),
                }
                place.tried("given", give(&path));
                if let Some(map) = &map {
                    map.write(100, b"and once more").unwrap();
                    map.sync().unwrap();
                }
                place.tried("flushed", file.sync_all());
                place.saw("kept", attribute(&path, "security.capability").is_some());
                file.write_all_at(b"again", 0).unwrap();
                place.saw("gone at the next write", attribute(&path, "security.capability").is_none());
                file.sync_all().unwrap();
                drop((map, file));
                place.saw("and not back", attribute(&path, "security.capability").is_none());
            }
        },
    );
}

#[test]
fn fuse_root_bits_set_while_the_file_is_open_go_at_the_next_write() {
    plays_alike(
        |base| {
            make_dir(&base.join("d"), 0, 0, 0o777);
            for name in ["owner", "member", "other", "root"] {
                make(&base.join("d").join(name), 1000, 1000, 0o666);
            }
        },
        |place| {
            for actor in [OWNER, MEMBER, OTHER, ROOT] {
                for mode in [0o6777, 0o2766] {
                    let path = place.path("d").join(actor.name);
                    let file = actor.does(|| OpenOptions::new().read(true).write(true).open(&path)).unwrap();
                    chmod(&path, Mode::from_raw_mode(mode)).unwrap();
                    setxattr(&path, "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
                    actor.does(|| file.write_all_at(b"new", 0)).unwrap();
                    let what = format!("{mode:o} and a capability after a write by {}", actor.name);
                    let bits = fs::metadata(&path).unwrap().mode();
                    let capability = attribute(&path, "security.capability").is_some();
                    place.saw(what, format!("{bits:o} {capability}"));
                }
            }
        },
    );
}

#[test]
fn fuse_root_opening_alone_takes_no_bits_but_in_passthrough() {
    plays_alike(
        |base| make(&base.join("f"), 1000, 1000, 0o6777),
        |place| {
            let path = place.path("f");
            drop(OTHER.does(|| writer(&path)).unwrap());
            let bits = fs::metadata(&path).unwrap().mode() & 0o7777;
            let kept = if place.stage == Stage::Passthrough { 0o777 } else { 0o6777 };
            place.saw("as expected", bits == kept);
            chmod(&path, Mode::from_raw_mode(0o777)).unwrap();
        },
    );
}

#[test]
fn fuse_root_a_chown_of_nothing_by_others_takes_no_bits() {
    plays_alike(
        |base| make(&base.join("f"), 1000, 1000, 0o6755),
        |place| {
            let path = place.path("f");
            let writing = writer(&path).unwrap();
            // Linux refuses it; FUSE sends a request that says neither who nor what for.
            let refused = OTHER.does(|| chown_to(&path, None, None));
            if place.is_plain() {
                assert_eq!(refused.unwrap_err().raw_os_error(), Some(nix::libc::EPERM));
            }
            place.saw("bits", fs::metadata(&path).unwrap().mode());
            drop(writing);
        },
    );
}

/// An ACL as extended attributes have it: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

const NOBODY: u32 = u32::MAX;
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// Owner, user 2000, group, mask, others.
fn acl_of(owner: u16, user: u16, group: u16, mask: u16, others: u16) -> Vec<u8> {
    acl(&[(1, owner, NOBODY), (2, user, 2000), (4, group, NOBODY), (16, mask, NOBODY), (32, others, NOBODY)])
}

fn look(place: &mut Place, what: &str, path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(stat) => place.saw(what, format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid())),
        Err(error) => place.tried::<(), _>(what, Err(error)),
    }
    if !path.is_symlink() {
        place.saw(format!("{what}, ACL"), attribute(path, ACCESS));
        place.saw(format!("{what}, default ACL"), attribute(path, DEFAULT));
    }
}

/// Makes one entry of each kind in `dir`.
fn make_each_kind(dir: &Path, mode: u32) -> Vec<(&'static str, io::Result<()>)> {
    let bits = Mode::from_raw_mode(mode);
    let node = |kind, name: &str| mknodat(CWD, dir.join(name), kind, bits, 0).map_err(io::Error::from);
    vec![
        ("file", OpenOptions::new().write(true).create_new(true).mode(mode).open(dir.join("file")).map(drop)),
        ("dir", rustix::fs::mkdir(dir.join("dir"), bits).map_err(io::Error::from)),
        ("fifo", node(FileType::Fifo, "fifo")),
        ("node", node(FileType::RegularFile, "node")),
        ("socket", node(FileType::Socket, "socket")),
        ("symlink", std::os::unix::fs::symlink("file", dir.join("symlink"))),
        ("tmpfile", nameless(dir, bits)),
    ]
}

fn nameless(dir: &Path, mode: Mode) -> io::Result<()> {
    let file = open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(linkat(CWD, link, CWD, dir.join("tmpfile"), AtFlags::SYMLINK_FOLLOW)?)
}

fn make_each_kind_by(place: &mut Place, dir: &str, actor: Actor, mode: u32) {
    let path = place.path(dir);
    let what = format!("in {dir} by {} with umask {:o} and mode {mode:o}", actor.name, actor.umask);
    for (kind, made) in actor.does(|| make_each_kind(&path, mode)) {
        place.tried(format!("{kind} {what}"), made);
        look(place, &format!("{kind} {what}"), &path.join(kind));
        let gone =
            if kind == "dir" { fs::remove_dir(path.join(kind)) } else { fs::remove_file(path.join(kind)) };
        place.tried("removed", gone);
    }
}

#[test]
fn fuse_root_new_entries_get_mode_owner_and_acl_as_on_a_plain_directory() {
    plays_alike(
        |base| {
            let dir = |name: &str, gid, mode| {
                make_dir(&base.join(name), 0, gid, mode);
                base.join(name)
            };
            dir("plain", 0, 0o777);
            dir("setgid", 5000, 0o2777);
            dir("sticky", 5000, 0o3777);
            for (name, mode) in [("acl", 0o777), ("acl-setgid", 0o2777)] {
                let path = dir(name, 5000, mode);
                setxattr(&path, DEFAULT, &acl_of(7, 7, 5, 7, 4), XattrFlags::empty()).unwrap();
            }
            let strict = dir("acl-strict", 5000, 0o777);
            setxattr(&strict, DEFAULT, &acl_of(6, 0, 0, 0, 0), XattrFlags::empty()).unwrap();
            let short = dir("acl-short", 5000, 0o777);
            let entries = acl(&[(1, 7, NOBODY), (4, 5, NOBODY), (32, 1, NOBODY)]);
            setxattr(&short, DEFAULT, &entries, XattrFlags::empty()).unwrap();
        },
        |place| {
            for dir in ["plain", "setgid", "sticky", "acl", "acl-setgid", "acl-strict", "acl-short"] {
                for umask in [0, 0o022, 0o077] {
                    for actor in [ROOT, OWNER, MEMBER] {
                        for mode in [0o666, 0o777, 0o7777, 0o2755, 0o2644] {
                            make_each_kind_by(place, dir, Actor { umask, ..actor }, mode);
                        }
                    }
                }
            }
        },
    );
}

#[test]
fn fuse_root_acls_decide_and_change_as_on_a_plain_directory() {
    plays_alike(
        |base| {
            make_dir(&base.join("d"), 1000, 5000, 0o755);
            for name in ["granted", "denied", "masked", "setgid", "plain", "chmod"] {
                make(&base.join("d").join(name), 1000, 1000, 0o640);
            }
            for (name, entries) in [
                ("granted", acl_of(6, 6, 4, 6, 0)),
                ("denied", acl_of(6, 0, 6, 6, 6)),
                ("masked", acl_of(6, 6, 6, 4, 0)),
                ("chmod", acl_of(6, 6, 4, 6, 0)),
            ] {
                setxattr(base.join("d").join(name), ACCESS, &entries, XattrFlags::empty()).unwrap();
            }
            make(&base.join("d/setgid"), 1000, 5000, 0o2775);
            make_dir(&base.join("d/passes-on"), 1000, 5000, 0o2775);
        },
        |place| {
            for name in ["granted", "denied", "masked", "plain"] {
                let path = place.path("d").join(name);
                for actor in [OWNER, MEMBER, OTHER] {
                    let read = actor.does(|| fs::read_to_string(&path));
                    place.tried(format!("{name} read by {}", actor.name), read);
                    let written = actor.does(|| writer(&path)?.write_all_at(b"x", 0));
                    place.tried(format!("{name} written by {}", actor.name), written);
                    let set =
                        actor.does(|| setxattr(&path, ACCESS, &acl_of(7, 1, 1, 1, 1), XattrFlags::empty()));
                    place.tried(format!("{name}, ACL set by {}", actor.name), set);
                    look(place, name, &path);
                }
            }
            let path = place.path("d/chmod");
            for mode in [0o600, 0o770, 0o2707] {
                place.tried("chmod", OWNER.does(|| chmod(&path, Mode::from_raw_mode(mode))));
                look(place, "chmod", &path);
                let written = OTHER.does(|| writer(&path)?.write_all_at(b"x", 0));
                place.tried("written by the granted", written);
            }
            place.tried("chown", chown_to(&path, Some(4000), Some(4000)));
            look(place, "chown", &path);
            place.tried("removed", rustix::fs::removexattr(&path, ACCESS));
            look(place, "without", &path);
            // The owner is not of the group, so the bit goes with the ACL.
            let path = place.path("d/setgid");
            place.tried(
                "set",
                OWNER.does(|| setxattr(&path, ACCESS, &acl_of(7, 7, 7, 7, 5), XattrFlags::empty())),
            );
            look(place, "setgid", &path);
            // Of a directory an ACL for new entries leaves it alone.
            let path = place.path("d/passes-on");
            for (what, name) in [("default", DEFAULT), ("access", ACCESS)] {
                let set = || setxattr(&path, name, &acl_of(7, 7, 7, 7, 5), XattrFlags::empty());
                place.tried(format!("{what} ACL"), OWNER.does(set));
                look(place, what, &path);
            }
            for (name, value) in
                [("minimal", acl(&[(1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)])), ("bad", vec![1, 2])]
            {
                let path = place.path("d/plain");
                place.tried(name, setxattr(&path, ACCESS, &value, XattrFlags::empty()));
                look(place, name, &path);
                place.tried(name, setxattr(&path, DEFAULT, &value, XattrFlags::empty()));
            }
            let dir = place.path("d");
            place.tried(
                "default ACL by the owner",
                OWNER.does(|| setxattr(&dir, DEFAULT, &acl_of(7, 7, 5, 7, 5), XattrFlags::empty())),
            );
            place.tried(
                "default ACL by another",
                OTHER.does(|| setxattr(&dir, DEFAULT, &acl_of(7, 7, 7, 7, 7), XattrFlags::empty())),
            );
            make_each_kind_by(place, "d", OWNER, 0o666);
            place.tried("removed", rustix::fs::removexattr(&dir, DEFAULT));
            make_each_kind_by(place, "d", OWNER, 0o666);
        },
    );
}

#[test]
fn fuse_root_groups_and_owners_change_as_on_a_plain_directory() {
    plays_alike(
        |base| {
            make_dir(&base.join("d"), 1000, 1000, 0o777);
            make_dir(&base.join("d/sub"), 1000, 5000, 0o2775);
            make(&base.join("d/f"), 1000, 5000, 0o2674);
            make(&base.join("d/g"), 1000, 1000, 0o6755);
            std::os::unix::fs::symlink("f", base.join("d/l")).unwrap();
        },
        |place| {
            for actor in [OTHER, MEMBER, OWNER, OWNER_TOO, ROOT] {
                for name in ["d/f", "d/g", "d/sub"] {
                    let path = place.path(name);
                    for mode in [0o2775, 0o6711, 0o2600] {
                        let what = format!("chmod {mode:o} of {name} by {}", actor.name);
                        place.tried(&what, actor.does(|| chmod(&path, Mode::from_raw_mode(mode))));
                        look(place, &what, &path);
                    }
                    for (uid, gid) in
                        [(None, Some(5000)), (None, Some(6000)), (Some(1000), None), (Some(2000), Some(1000))]
                    {
                        let what = format!("chown {uid:?}:{gid:?} of {name} by {}", actor.name);
                        place.tried(&what, actor.does(|| chown_to(&path, uid, gid)));
                        look(place, &what, &path);
                    }
                    place.tried("back", chown_to(&path, Some(1000), Some(5000)));
                    place.tried("back", chmod(&path, Mode::from_raw_mode(0o6775)));
                }
                let link = place.path("d/l");
                let (uid, gid) = ids(None, Some(5000));
                let changed = actor.does(|| chownat(CWD, &link, uid, gid, AtFlags::SYMLINK_NOFOLLOW));
                place.tried(format!("lchown by {}", actor.name), changed);
                look(place, "link", &link);
                let path = place.path("d/f");
                let touched = actor.does(|| File::open(&path)?.set_modified(std::time::UNIX_EPOCH));
                place.tried(format!("touch by {}", actor.name), touched);
                let sub = place.path("d/sub");
                let set = actor.does(|| setxattr(&sub, "user.x", b"1", XattrFlags::empty()));
                place.tried(format!("an attribute by {}", actor.name), set);
                let set = actor.does(|| setxattr(&path, "trusted.x", b"1", XattrFlags::empty()));
                place.tried(format!("a trusted attribute by {}", actor.name), set);
            }
        },
    );
}

#[test]
fn fuse_root_a_sticky_directory_protects_as_a_plain_one() {
    plays_alike(
        |base| {
            make_dir(&base.join("s"), 3000, 3000, 0o1777);
            make_dir(&base.join("open"), 3000, 3000, 0o777);
            for name in ["a", "b", "c", "e"] {
                make(&base.join("s").join(name), 1000, 1000, 0o666);
            }
            make_dir(&base.join("s/dir"), 1000, 1000, 0o777);
        },
        |place| {
            let root = place.path("");
            let at = |name: &str| root.join(name);
            let results: Vec<(&str, io::Result<()>)> = vec![
                ("unlink by another", OTHER.does(|| fs::remove_file(at("s/a")))),
                ("rename by another", OTHER.does(|| fs::rename(at("s/a"), at("open/a")))),
                (
                    "rename over by another",
                    OTHER.does(|| {
                        fs::write(at("open/mine"), "mine")?;
                        fs::rename(at("open/mine"), at("s/a"))
                    }),
                ),
                ("rmdir by another", OTHER.does(|| fs::remove_dir(at("s/dir")))),
                ("write by another", OTHER.does(|| fs::write(at("s/a"), "other"))),
                (
                    "O_CREAT by another",
                    OTHER.does(|| {
                        OpenOptions::new().write(true).create(true).truncate(false).open(at("s/a")).map(drop)
                    }),
                ),
                ("link by another", OTHER.does(|| fs::hard_link(at("s/a"), at("open/link")))),
                ("unlink by the owner of the file", OWNER.does(|| fs::remove_file(at("s/a")))),
                ("rename by the owner of the file", OWNER.does(|| fs::rename(at("s/b"), at("open/b")))),
                ("rename by the owner of the directory", MEMBER.does(|| fs::rename(at("s/c"), at("open/c")))),
                ("rmdir by the owner of the directory", MEMBER.does(|| fs::remove_dir(at("s/dir")))),
                ("unlink by root", ROOT.does(|| fs::remove_file(at("s/e")))),
            ];
            for (what, result) in results {
                place.tried(what, result);
            }
        },
    );
}
