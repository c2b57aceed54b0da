//! Names: reserved and long ones, and what renaming does with each kind of entry.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, linkat, mknodat, renameat_with};
use twin::{Place, WAYS, plays_alike};

fn rename(place: &Place, from: &str, to: &str, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat_with(CWD, place.path(from), CWD, place.path(to), flags)?)
}

fn one_of_each(base: &Path) {
    for name in ["f", "g"] {
        fs::write(base.join(name), name).unwrap();
    }
    for name in ["empty", "other"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    symlink("f", base.join("l")).unwrap();
    mknodat(CWD, base.join("p"), FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn fuse_root_renames_of_each_kind_over_each_answer_as_on_a_plain_directory() {
    plays_alike(one_of_each, |place| {
        let kinds = ["f", "empty", "l", "p", "none"];
        let targets = ["g", "other", "l", "none", "f", ".", "f/x", "other/new"];
        for flags in [RenameFlags::NOREPLACE, RenameFlags::EXCHANGE, RenameFlags::empty()] {
            for from in kinds {
                for to in targets {
                    let done = rename(place, from, to, flags);
                    let is_done = done.is_ok();
                    place.tried(format!("{from} to {to} with {flags:?}"), done);
                    if is_done && from != to {
                        let back = rename(place, to, from, flags);
                        place.tried("and back", back);
                    }
                    if !place.path("g").exists() {
                        fs::write(place.path("g"), "g").unwrap();
                    }
                    if !place.path("other").exists() {
                        fs::create_dir(place.path("other")).unwrap();
                    }
                }
            }
        }
        // Over a name that was removed, and so has a whiteout where it lay below.
        for flags in [RenameFlags::NOREPLACE, RenameFlags::EXCHANGE, RenameFlags::empty()] {
            fs::remove_file(place.path("g")).unwrap();
            place.tried(format!("over a removed name with {flags:?}"), rename(place, "f", "g", flags));
            fs::write(place.path("f"), "again").unwrap();
            fs::write(place.path("g"), "again").unwrap();
        }
        if !place.is_plain() {
            // A host may leave a device there; a union has whiteouts of its own.
            assert_eq!(errno(rename(place, "f", "g", RenameFlags::WHITEOUT)), Some(nix::libc::EINVAL));
        }
    });
}

/// Runs `check` on mounts of each kind, with `l1` between `u` and `l2`.
fn in_each_way(plant: impl Fn(&Host), check: impl Fn(&Host)) {
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        plant(&host);
        let below = (host.snapshot("l1"), host.snapshot("l2"));
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        check(&host);
        host.run(&["umount", "@/m"]);
        assert!((host.snapshot("l1"), host.snapshot("l2")) == below, "{way}: a lower branch was written");
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|it| it.raw_os_error())
}

#[test]
fn fuse_root_reserved_names_are_refused_by_every_call() {
    in_each_way(
        |host| fs::write(host.path("l2/f"), "f").unwrap(),
        |host| {
            let (name, file) = (host.path("m/.wh.x"), host.path("m/f"));
            let results = [
                ("create", errno(File::create(&name))),
                ("mkdir", errno(fs::create_dir(&name))),
                ("symlink", errno(symlink("f", &name))),
                ("link", errno(fs::hard_link(&file, &name))),
                ("rename to", errno(fs::rename(&file, &name))),
                ("mknod", errno(mknodat(CWD, &name, FileType::Fifo, Mode::RWXU, 0).map_err(io::Error::from))),
                ("opaque marker", errno(File::create(host.path("m/.wh..wh..opq")))),
            ];
            for (call, found) in results {
                assert_eq!(found, Some(nix::libc::EPERM), "{call}");
            }
            let handle = rustix::fs::open(
                host.path("m"),
                rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR,
                Mode::RWXU,
            )
            .unwrap();
            let number = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            let named = linkat(CWD, number, CWD, &name, AtFlags::SYMLINK_FOLLOW);
            assert_eq!(named, Err(rustix::io::Errno::PERM));
            assert_eq!(fs::read_to_string(&file).unwrap(), "f");
            assert!(
                !fs::read_dir(host.path("m"))
                    .unwrap()
                    .any(|it| { it.unwrap().file_name().to_string_lossy().starts_with(".wh.") })
            );
        },
    );
}

#[test]
fn fuse_root_names_end_at_242_bytes() {
    let (longest, longer) = ("n".repeat(242), "n".repeat(243));
    in_each_way(
        |host| fs::write(host.path("l2").join("n".repeat(242)), "below").unwrap(),
        |host| {
            let at = |name: &str| host.path("m").join(name);
            assert_eq!(fs::read_to_string(at(&longest)).unwrap(), "below");
            fs::remove_file(at(&longest)).unwrap();
            assert!(!at(&longest).exists());
            fs::create_dir(at(&longest)).unwrap();
            fs::remove_dir(at(&longest)).unwrap();
            let too_long = Some(nix::libc::ENAMETOOLONG);
            assert_eq!(errno(File::create(at(&longer))), too_long);
            assert_eq!(errno(fs::metadata(at(&longer))), too_long);
            assert_eq!(errno(fs::create_dir(at(&longer))), too_long);
            assert_eq!(errno(fs::rename(at("both"), at(&longer))), too_long);
            assert_eq!(errno(fs::hard_link(at("both"), at(&longer))), too_long);
            assert_eq!(errno(fs::remove_file(at(&longer))), too_long);
        },
    );
}

#[test]
fn fuse_root_a_file_between_two_directories_is_skipped_and_one_above_hides_them() {
    in_each_way(
        |host| {
            for (name, is_dir) in [
                ("u/x", false),
                ("l1/x", true),
                ("l2/x", false),
                ("u/y", true),
                ("l1/y", false),
                ("l2/y", true),
            ] {
                if is_dir {
                    fs::create_dir(host.path(name)).unwrap();
                    fs::write(host.path(name).join(name.replace('/', "")), name).unwrap();
                } else {
                    fs::write(host.path(name), name).unwrap();
                }
            }
        },
        |host| {
            assert_eq!(fs::read_to_string(host.path("m/x")).unwrap(), "u/x");
            fs::remove_file(host.path("m/x")).unwrap();
            assert!(!fs::exists(host.path("m/x")).unwrap(), "nothing comes to light");
            fs::create_dir(host.path("m/x")).unwrap();
            assert_eq!(fs::read_dir(host.path("m/x")).unwrap().count(), 0);
            assert_eq!(fs::read_dir(host.path("m/y")).unwrap().count(), 2, "merged past the file");
            fs::remove_dir_all(host.path("m/y")).unwrap();
            fs::write(host.path("m/y"), "new").unwrap();
            assert_eq!(fs::read_to_string(host.path("m/y")).unwrap(), "new");
        },
    );
}
