//! Ways to open files, and what stays of them when their names go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, fallocate,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, fsync, ftruncate, futimens, linkat, mkdirat,
    open, openat, statat,
};
use rustix::io::{pread, pwrite};
use twin::{OTHER, Place, Stage, plays_alike};

fn try_open(path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(path.as_ref(), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o640))?)
}

fn by_number(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn number_of_links(place: &mut Place, what: &str, file: impl AsFd) {
    match fstat(file) {
        Ok(stat) => {
            let seen = (stat.st_mode, stat.st_nlink, stat.st_size, stat.st_uid, stat.st_mtime == 1_000_000);
            place.saw(what, seen);
        }
        Err(errno) => place.tried::<(), _>(what, Err(errno)),
    }
}

fn some_of_each(base: &Path) {
    fs::create_dir(base.join("d")).unwrap();
    fs::write(base.join("d/inside"), "inside").unwrap();
    fs::write(base.join("f"), "0123456789").unwrap();
    fs::write(base.join("g"), "ghost").unwrap();
    symlink("f", base.join("to-f")).unwrap();
    symlink("nowhere", base.join("dangling")).unwrap();
    symlink("d", base.join("to-d")).unwrap();
    symlink("circle", base.join("circle")).unwrap();
    rustix::fs::mknodat(CWD, base.join("p"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn fuse_root_each_kind_of_open_answers_as_a_plain_directory() {
    plays_alike(some_of_each, |place| {
        let kinds = [
            OFlags::RDONLY,
            OFlags::RDWR,
            OFlags::WRONLY | OFlags::APPEND,
            OFlags::RDONLY | OFlags::DIRECTORY,
            OFlags::RDWR | OFlags::DIRECTORY,
            OFlags::RDONLY | OFlags::NOFOLLOW,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OFlags::RDONLY | OFlags::CREATE | OFlags::DIRECTORY,
            OFlags::PATH,
            OFlags::PATH | OFlags::NOFOLLOW,
            OFlags::PATH | OFlags::DIRECTORY,
            OFlags::RDWR | OFlags::DIRECT,
            OFlags::RDWR | OFlags::SYNC,
            OFlags::RDONLY | OFlags::NOATIME,
            OFlags::RDONLY | OFlags::TRUNC,
            OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
            OFlags::RDWR | OFlags::TMPFILE,
            OFlags::RDONLY | OFlags::TMPFILE,
        ];
        for flags in kinds {
            for name in [
                "f", "d", "to-f", "dangling", "to-d", "circle", "d/", "f/", "to-f/", "none", "none/x", "f/x",
                ".", "d/inside",
            ] {
                let path = place.path(name);
                let opened = try_open(&path, flags | OFlags::NONBLOCK);
                place.tried(format!("{flags:?} of {name}"), opened.map(drop));
                if flags.contains(OFlags::CREATE) && place.path("nowhere").exists() {
                    fs::remove_file(place.path("nowhere")).unwrap();
                }
            }
            let by_other = OTHER.does(|| try_open(place.path("f"), flags).map(drop));
            place.tried(format!("{flags:?} by another"), by_other);
            for made in ["none", "nowhere"] {
                if place.path(made).exists() {
                    fs::remove_file(place.path(made)).unwrap();
                }
            }
        }
        place.tried("FIFO", try_open(place.path("p"), OFlags::RDONLY | OFlags::NONBLOCK).map(drop));
        place.tried("FIFO written", try_open(place.path("p"), OFlags::WRONLY | OFlags::NONBLOCK).map(drop));
        place.tried("execute", Command::new(place.path("f")).status());
    });
}

/// The kernel asks for the truncation before it looks whether the file runs, where it opens and truncates in one request.
#[test]
fn fuse_root_a_running_program_is_neither_written_nor_truncated() {
    // Copied by another program: a descriptor for writing here, which another test's child inherits, keeps it from running.
    let plant = |base: &Path| {
        let copied = Command::new("cp").arg("/bin/sleep").arg(base.join("sleep")).status().unwrap();
        assert!(copied.success());
    };
    plays_alike(plant, |place| {
        let path = place.path("sleep");
        let mut running = Command::new(&path).arg("60").spawn().unwrap();
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::TRUNC, OFlags::WRONLY | OFlags::TRUNC] {
            place.tried(format!("{flags:?}"), try_open(&path, flags).map(drop));
            place.tried("length", fs::metadata(&path).map(|it| it.len()));
        }
        place.tried("truncate", nix::unistd::truncate(&path, 5));
        place.tried("runs on", running.try_wait());
        running.kill().unwrap();
        running.wait().unwrap();
        // The server hears a moment later that the program has ended.
        let until = Instant::now() + Duration::from_secs(10);
        let truncated = loop {
            match try_open(&path, OFlags::TRUNC) {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other,
            }
        };
        place.tried("truncate after its end", truncated.map(drop));
        place.tried("length after its end", fs::metadata(&path).map(|it| it.len()));
    });
}

#[test]
fn fuse_root_a_path_descriptor_stands_for_the_entry_across_copy_up() {
    plays_alike(some_of_each, |place| {
        let handle = try_open(place.path("f"), OFlags::PATH).unwrap();
        let link = try_open(place.path("to-f"), OFlags::PATH | OFlags::NOFOLLOW).unwrap();
        let dir = try_open(place.path("d"), OFlags::PATH).unwrap();
        place.tried("read", pread(&handle, &mut [0_u8; 4][..], 0));
        place.tried("fchmod", fchmod(&handle, Mode::RWXU));
        number_of_links(place, "before", &handle);
        number_of_links(place, "link", &link);
        fs::write(place.path("f"), "copied up").unwrap();
        number_of_links(place, "after", &handle);
        place.tried("chmod by number", chmod(by_number(&handle), Mode::from_raw_mode(0o611)));
        place.tried("read by number", fs::read_to_string(by_number(&handle)));
        place.tried("write by number", fs::write(by_number(&handle), "by number"));
        place.tried("read", fs::read_to_string(place.path("f")));
        let below = openat(&dir, "inside", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        place.tried("written below", pwrite(&below, b"IN", 0));
        place.tried("made below", mkdirat(&dir, "new", Mode::RWXU));
        let named = linkat(&handle, "", CWD, place.path("second"), AtFlags::EMPTY_PATH);
        place.tried("linked", named);
        number_of_links(place, "linked", &handle);
        place.tried("stat below", statat(&dir, "inside", AtFlags::empty()).map(|it| it.st_size));
    });
}

#[test]
fn fuse_root_a_nameless_file_works_and_can_be_named() {
    plays_alike(some_of_each, |place| {
        for dir in [".", "d"] {
            let file = try_open(place.path(dir), OFlags::TMPFILE | OFlags::RDWR).unwrap();
            number_of_links(place, "new", &file);
            place.tried("write", pwrite(&file, b"temporary", 0));
            place.tried("attribute", fsetxattr(&file, "user.x", b"1", XattrFlags::empty()));
            place.tried("truncate", ftruncate(&file, 4));
            place.tried("chmod", fchmod(&file, Mode::from_raw_mode(0o604)));
            place.tried("chown", fchown(&file, Some(Uid::from_raw(3)), Some(Gid::from_raw(4))));
            number_of_links(place, "changed", &file);
            let named =
                linkat(CWD, by_number(&file), CWD, place.path(dir).join("f"), AtFlags::SYMLINK_FOLLOW);
            place.tried("link over a name", if dir == "." { named } else { Ok(()) });
            let named =
                linkat(CWD, by_number(&file), CWD, place.path(dir).join("named"), AtFlags::SYMLINK_FOLLOW);
            place.tried("link", named);
            number_of_links(place, "named", &file);
            place.tried("write", pwrite(&file, b"named", 2));
            place.tried("read", fs::read_to_string(place.path(dir).join("named")));
            let second =
                linkat(CWD, by_number(&file), CWD, place.path(dir).join("twice"), AtFlags::SYMLINK_FOLLOW);
            place.tried("link twice", second);
            number_of_links(place, "twice", &file);

            let exclusive = try_open(place.path(dir), OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR).unwrap();
            place.tried("write", pwrite(&exclusive, b"never named", 0));
            let named = linkat(CWD, by_number(&exclusive), CWD, place.path("never"), AtFlags::SYMLINK_FOLLOW);
            place.tried("link with O_EXCL", named);
        }
    });
}

/// All that a descriptor can do without a name.
fn work_without_a_name(place: &mut Place, file: &OwnedFd) {
    number_of_links(place, "gone", file);
    place.tried("write", pwrite(file, b"AFTER", 3));
    let mut bytes = [0; 16];
    let read = pread(file, &mut bytes[..], 0).map(|count| bytes[..count].to_vec());
    place.tried("read", read);
    place.tried("truncate", ftruncate(file, 6));
    place.tried("allocate", fallocate(file, FallocateFlags::empty(), 0, 64));
    place.tried("chmod", fchmod(file, Mode::from_raw_mode(0o600)));
    place.tried("chown", fchown(file, Some(Uid::from_raw(5)), None));
    let time = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
    place.tried("times", futimens(file, &Timestamps { last_access: time, last_modification: time }));
    place.tried("attribute", fsetxattr(file, "user.x", b"1", XattrFlags::empty()));
    let mut value = [0; 8];
    place.tried("attribute read", fgetxattr(file, "user.x", &mut value[..]));
    place.tried("attributes", flistxattr(file, &mut [0; 256][..]));
    place.tried("sync", fsync(file));
    number_of_links(place, "changed", file);
    place.tried("link back", linkat(CWD, by_number(file), CWD, place.path("back"), AtFlags::SYMLINK_FOLLOW));
}

#[test]
fn fuse_root_a_writer_keeps_a_file_whose_name_goes() {
    plays_alike(some_of_each, |place| {
        let file = try_open(place.path("f"), OFlags::RDWR).unwrap();
        fs::remove_file(place.path("f")).unwrap();
        fs::write(place.path("f"), "another").unwrap();
        work_without_a_name(place, &file);
        place.tried("the other", fs::read_to_string(place.path("f")));

        let file = try_open(place.path("g"), OFlags::RDWR).unwrap();
        place.tried("write before", pwrite(&file, b"G", 0));
        fs::rename(place.path("f"), place.path("g")).unwrap();
        work_without_a_name(place, &file);
        place.tried("what replaced it", fs::read_to_string(place.path("g")));
    });
}

#[test]
fn fuse_root_a_reader_keeps_a_file_whose_name_goes() {
    plays_alike(some_of_each, |place| {
        for (name, replaced) in [("f", false), ("g", true)] {
            let file = try_open(place.path(name), OFlags::RDONLY).unwrap();
            if replaced {
                fs::rename(place.path("d/inside"), place.path(name)).unwrap();
            } else {
                fs::remove_file(place.path(name)).unwrap();
            }
            let mut bytes = [0; 16];
            place.tried("read", pread(&file, &mut bytes[..], 0));
            place.saw("bytes", bytes);
            place.tried("chmod", fchmod(&file, Mode::from_raw_mode(0o600)));
            place.tried("chown", fchown(&file, Some(Uid::from_raw(5)), None));
            place.tried("attribute", fsetxattr(&file, "user.x", b"1", XattrFlags::empty()));
            place.tried("write", pwrite(&file, b"no", 0));
            place.tried("truncate", ftruncate(&file, 1));
            number_of_links(place, "changed", &file);
            let again = try_open(by_number(&file), OFlags::RDONLY);
            place.tried("opened again", again.map(drop));
        }
    });
}

/// Opening by number what has no name walks no path, so the kernel cannot be sent elsewhere.
#[test]
fn fuse_root_a_nameless_file_opens_again_by_number_for_writing() {
    plays_alike(some_of_each, |place| {
        let file = try_open(place.path("f"), OFlags::RDONLY).unwrap();
        fs::remove_file(place.path("f")).unwrap();
        let is_stuck = place.stage == Stage::Passthrough && place.is_below();
        match try_open(by_number(&file), OFlags::RDWR) {
            Ok(writer) => {
                place.tried("write", pwrite(&writer, b"again", 0));
                let mut bytes = [0; 16];
                let read = pread(&file, &mut bytes[..], 0).map(|count| bytes[..count].to_vec());
                place.tried("read", read);
            }
            Err(error) => {
                assert!(is_stuck, "{error}");
                assert_eq!(error.raw_os_error(), Some(nix::libc::ESTALE));
                place.tried("write", Ok::<_, io::Error>(5));
                place.tried("read", Ok::<_, io::Error>(b"again56789".to_vec()));
            }
        }
    });
}

#[test]
fn fuse_root_a_directory_without_a_name_is_empty_and_takes_nothing() {
    plays_alike(some_of_each, |place| {
        fs::create_dir(place.path("made")).unwrap();
        fs::remove_file(place.path("d/inside")).unwrap();
        for name in ["d", "made"] {
            let dir = File::open(place.path(name)).unwrap();
            fs::remove_dir(place.path(name)).unwrap();
            place.tried("create", openat(&dir, "x", OFlags::CREATE | OFlags::RDWR, Mode::RWXU).map(drop));
            place.tried("mkdir", mkdirat(&dir, "x", Mode::RWXU));
            place.tried("link", linkat(CWD, place.path("g"), &dir, "x", AtFlags::empty()));
            place.tried("stat", statat(&dir, "inside", AtFlags::empty()).map(drop));
            place.tried("parent", statat(&dir, "..", AtFlags::empty()).map(|it| it.st_mode));
            place.tried("chmod", fchmod(&dir, Mode::from_raw_mode(0o711)));
            place.tried("mode", fstat(&dir).map(|it| it.st_mode));
            place.tried("sync", fsync(&dir));
            let names = rustix::fs::Dir::read_from(&dir).and_then(|mut it| {
                let mut count = 0;
                for entry in it.by_ref() {
                    count += usize::from(!entry?.file_name().to_bytes().starts_with(b"."));
                }
                Ok(count)
            });
            place.tried("names", names);
            fs::create_dir(place.path(name)).unwrap();
            fs::write(place.path(name).join("later"), "later").unwrap();
            place.tried("stat of later", statat(&dir, "later", AtFlags::empty()).map(drop));
        }
    });
}
