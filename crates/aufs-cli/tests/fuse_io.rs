//! Reads and writes past the page cache, times, requests nobody knows, and a mount that turns read-only.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use aufs_fuse::control::CONTROL_IOCTL;
use aufs_fusedev::device::exchange;
use aufs_testkit::needs::Need::{Fuse, Root};
use aufs_testkit::process::Mapping;
use host::{Host, has};
use nix::mount::{MsFlags, mount};
use rustix::fs::{
    AtFlags, CWD, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, chmod, fsync, ioctl_getflags, utimensat,
};
use rustix::io::Errno;
use twin::{OTHER, Place, ROOT, WAYS, make, make_dir, plays_alike};

const BLOCK: usize = 4096;

/// Memory as direct I/O wants it.
#[repr(align(4096))]
#[derive(Clone)]
struct Blocks([u8; 2 * BLOCK]);

impl Blocks {
    fn of(byte: u8) -> Box<Self> {
        Box::new(Self([byte; 2 * BLOCK]))
    }
}

fn direct(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_DIRECT).open(path).unwrap()
}

fn seen(place: &mut Place, what: &str, file: &File, offset: u64) {
    let mut blocks = Blocks::of(0);
    let read = file.read_at(&mut blocks.0[..BLOCK], offset);
    let ends = (blocks.0[0], blocks.0[BLOCK - 1], blocks.0[BLOCK]);
    place.tried(what, read.map(|count| (count, ends)));
}

#[test]
fn fuse_root_direct_io_reads_and_writes_the_same_bytes_across_copy_up() {
    plays_alike(
        |base| {
            for name in ["f", "g", "h"] {
                fs::write(base.join(name), [b'a'; 3 * BLOCK + 5]).unwrap();
            }
        },
        |place| {
            let file = direct(&place.path("f"));
            seen(place, "before", &file, 0);
            seen(place, "the last part", &file, 3 * BLOCK as u64);
            seen(place, "beyond the end", &file, 4 * BLOCK as u64);
            place.tried("written", file.write_at(&Blocks::of(b'd').0[..BLOCK], BLOCK as u64));
            seen(place, "after", &file, BLOCK as u64);
            place.saw("by the page cache", &fs::read(place.path("f")).unwrap()[BLOCK - 1..BLOCK + 1]);
            place.tried("appended", file.write_at(&Blocks::of(b'e').0, 4 * BLOCK as u64));
            place.saw("length", file.metadata().unwrap().len());

            // The page cache and direct I/O by two descriptors of one file.
            let (file, cached) = (
                direct(&place.path("g")),
                OpenOptions::new().read(true).write(true).open(place.path("g")).unwrap(),
            );
            place.tried("written to the cache", cached.write_at(&[b'c'; BLOCK], 0));
            seen(place, "directly after the cache", &file, 0);
            place.tried("written directly", file.write_at(&Blocks::of(b'd').0[..BLOCK], 0));
            let mut bytes = [0; 2];
            place.tried("cached after direct", cached.read_at(&mut bytes, 10));
            place.saw("bytes", bytes);
            place.tried("cut", cached.set_len(BLOCK as u64));
            seen(place, "cut off", &file, BLOCK as u64);
            drop((file, cached));

            let truncating = OpenOptions::new()
                .write(true)
                .truncate(true)
                .custom_flags(nix::libc::O_DIRECT)
                .open(place.path("h"));
            place.tried("written anew", truncating.unwrap().write_at(&Blocks::of(b'n').0, 0));
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .custom_flags(nix::libc::O_DIRECT)
                .open(place.path("new"));
            place.tried("written new", made.unwrap().write_at(&Blocks::of(b'n').0, 0));
        },
    );
}

fn set_times(path: &Path, accessed: (i64, i64), modified: (i64, i64)) -> io::Result<()> {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(path: &Path) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let recent = |seconds: i64| {
        if 1_700_000_000 < seconds && seconds < 4_000_000_000 { "now".into() } else { seconds.to_string() }
    };
    let part = |seconds, nanos| {
        if recent(seconds) == "now" { "now".into() } else { format!("{seconds}.{nanos:09}") }
    };
    format!("{} {}", part(stat.atime(), stat.atime_nsec()), part(stat.mtime(), stat.mtime_nsec()))
}

#[test]
fn fuse_root_times_before_1970_now_and_left_out_are_as_on_a_plain_directory() {
    const NOW: (i64, i64) = (0, UTIME_NOW);
    const OMIT: (i64, i64) = (0, UTIME_OMIT);
    plays_alike(
        |base| {
            make(&base.join("f"), 0, 0, 0o644);
            make_dir(&base.join("d"), 0, 0, 0o755);
            symlink("f", base.join("l")).unwrap();
            for name in ["f", "d", "l"] {
                set_times(&base.join(name), (1_000_000, 1), (2_000_000, 2)).unwrap();
            }
        },
        |place| {
            for name in ["f", "d", "l"] {
                let path = place.path(name);
                // What is below was read to compare it later, which may have moved the time of access.
                for (what, accessed, modified) in [
                    ("at first", (1_000_000, 1), (2_000_000, 2)),
                    ("left out", OMIT, OMIT),
                    ("before 1970", (-1, 999_999_999), (-2, 0)),
                    ("long before", (-1_000_000_000, 5), (-2_000_000_000, 6)),
                    ("access alone", (77, 7), OMIT),
                    ("modification alone", OMIT, (-88, 8)),
                    ("at zero", (0, 0), (0, 0)),
                    ("after 2038", (4_000_000_001, 1), (5_000_000_001, 1)),
                    ("access now", NOW, OMIT),
                    ("modification now", (-5, 5), NOW),
                    ("no time at all", (0, 2_000_000_000), (1, 1)),
                ] {
                    place.tried(format!("{name} {what}"), set_times(&path, accessed, modified));
                    place.saw(format!("{name} after {what}"), times(&path));
                }
                let by_other = OTHER.does(|| set_times(&path, (1, 1), (1, 1)));
                place.tried(format!("{name} by another"), by_other);
                let by_other = OTHER.does(|| set_times(&path, NOW, NOW));
                place.tried(format!("{name} now by another"), by_other);
                place.tried(format!("{name} at last"), set_times(&path, (-3, 3), (-4, 4)));
            }
        },
    );
}

#[test]
fn fuse_root_writing_through_a_map_moves_the_times() {
    plays_alike(
        |base| {
            fs::write(base.join("f"), [b'm'; BLOCK]).unwrap();
            set_times(&base.join("f"), (1_000_000, 1), (-2_000_000, 2)).unwrap();
        },
        |place| {
            let path = place.path("f");
            for round in 0..2 {
                let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
                set_times(&path, (1_000_000, 1), (-2_000_000, 2)).unwrap();
                let before = file.metadata().unwrap();
                let map = Mapping::new(file.as_fd(), BLOCK).unwrap();
                map.read(0, 4).unwrap();
                // Longer than the clock of file systems stands still.
                std::thread::sleep(Duration::from_millis(20));
                place.saw("modified by reading", file.metadata().unwrap().mtime());
                map.write(5, b"written").unwrap();
                map.sync().unwrap();
                fsync(&file).unwrap();
                drop(map);
                let after = file.metadata().unwrap();
                drop(file);
                place.saw(
                    format!("round {round}: modified"),
                    before.mtime() < 0 && 1_700_000_000 < after.mtime(),
                );
                let changed = |it: &fs::Metadata| (it.ctime(), it.ctime_nsec());
                place.saw("changed", changed(&before) < changed(&after));
                let again = fs::metadata(&path).unwrap();
                place.saw("the same after closing", again.mtime() == after.mtime());
            }
        },
    );
}

/// Requests that no file system knows, and those of others: `ENOTTY` for everybody.
#[test]
fn fuse_root_requests_that_nobody_knows_are_enotty() {
    const READS: u32 = 2 << 30;
    const BOTH: u32 = 3 << 30;
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        fs::create_dir(host.path("l1/d")).unwrap();
        fs::create_dir(host.path("u/e")).unwrap();
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        for (name, writes) in
            [("only-l1", false), ("only-l2", true), ("only-u", true), ("d", false), ("e", false), ("", false)]
        {
            for actor in [ROOT, OTHER] {
                if writes && actor.uid != 0 {
                    continue;
                }
                let told = actor.does(|| {
                    let file =
                        OpenOptions::new().read(true).write(writes).open(host.path("m").join(name)).unwrap();
                    let what = format!("{way}: {name}, {}", actor.name);
                    let mut told = Vec::new();
                    for (request, len) in [
                        (BOTH | 4 << 16 | 0x1234, 4),  // Of no driver.
                        (READS | 4 << 16 | 0x5401, 4), // Close to TCGETS.
                        (BOTH | 8 << 16 | 0x78_01, 8),
                        (READS | 64 << 16 | 0x80_0c, 64),
                        (0x1234, 0),
                        (CONTROL_IOCTL ^ 1, aufs_fuse::control::CONTROL_LEN_BYTES),
                    ] {
                        told.push((
                            format!("{what}: {request:x}"),
                            exchange(&file, request, &mut vec![0; len]),
                        ));
                    }
                    // What terminals, and what other file systems know.
                    told.push((format!("{what}: terminal"), rustix::termios::tcgetattr(&file).map(drop)));
                    told.push((format!("{what}: flags"), ioctl_getflags(&file).map(drop)));
                    // Ours is for the root of the mount, and for root.
                    let mut buffer = vec![0; aufs_fuse::control::CONTROL_LEN_BYTES];
                    let ours = exchange(&file, CONTROL_IOCTL, &mut buffer);
                    match (name, actor.uid) {
                        ("", 0) => assert!(ours != Err(Errno::NOTTY), "{what}: {ours:?}"),
                        ("", _) => assert_eq!(ours, Err(Errno::PERM), "{what}"),
                        _ => told.push((format!("{what}: of the root"), ours)),
                    }
                    told
                });
                for (what, result) in told {
                    assert_eq!(result, Err(Errno::NOTTY), "{what}");
                }
            }
        }
        // What the kernel answers itself, it goes on answering.
        let file = File::open(host.path("m/only-l1")).unwrap();
        assert_eq!(rustix::io::ioctl_fionread(&file), Ok(5), "{way}");
        assert_eq!(rustix::io::ioctl_fionbio(&file, true), Ok(()), "{way}");
        drop(file);
        host.run(&["umount", "@/m"]);
    }
}

/// By `mount(2)` alone, of which no server hears.
#[test]
fn fuse_root_a_mount_that_the_kernel_turns_read_only_takes_no_change_and_loses_none() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        let turn = |flags| {
            mount(None::<&str>, &host.path("m"), None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)
        };
        fs::write(host.path("m/only-l1"), "changed").unwrap();
        let open = OpenOptions::new().append(true).open(host.path("m/only-l2")).unwrap();
        assert_eq!(turn(MsFlags::MS_RDONLY), Err(nix::errno::Errno::EBUSY), "{way}: open for writing");
        drop(open);
        let reader = File::open(host.path("m/both")).unwrap();
        turn(MsFlags::MS_RDONLY).unwrap();
        assert_eq!(host.read("u/only-l1"), "changed", "{way}: what was collected is written");
        let path = |name: &str| host.path("m").join(name);
        for (what, done) in [
            ("write", fs::write(path("both"), "x")),
            ("create", fs::write(path("new"), "x")),
            ("unlink", fs::remove_file(path("both"))),
            ("mkdir", fs::create_dir(path("dir"))),
            ("rename", fs::rename(path("both"), path("other"))),
            ("link", fs::hard_link(path("both"), path("other"))),
            ("chmod", chmod(path("both"), Mode::RWXU).map_err(Into::into)),
            ("times", set_times(&path("both"), (1, 1), (1, 1))),
            (
                "attribute",
                rustix::fs::setxattr(path("both"), "user.x", b"1", rustix::fs::XattrFlags::empty())
                    .map_err(Into::into),
            ),
        ] {
            assert_eq!(done.unwrap_err().raw_os_error(), Some(nix::libc::EROFS), "{way}: {what}");
        }
        assert_eq!(host.read("m/both"), "upper", "{way}");
        turn(MsFlags::empty()).unwrap();
        fs::write(path("both"), "written again").unwrap();
        drop(reader);
        host.run(&["umount", "@/m"]);
        assert_eq!(host.read("u/both"), "written again", "{way}");
    }
}
