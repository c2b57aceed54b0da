//! Paths as long as they may be, trees deeper than that, and removing trees that others fill.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, succeed};
use nix::errno::Errno;
use rustix::fs::{
    AtFlags, Mode, OFlags, XattrFlags, fsetxattr, linkat, mkdirat, openat, renameat, statat, symlinkat,
    unlinkat,
};
use twin::{WAYS, plays_alike};

/// As the kernel's, with the zero byte at the end.
const PATH_MAX: usize = 4096;

fn dir(at: impl AsFd, name: &str) -> OwnedFd {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn top(path: &Path) -> OwnedFd {
    OwnedFd::from(fs::File::open(path).unwrap())
}

/// Makes, or enters, a directory in each other; returns the last.
fn descend<'a>(from: OwnedFd, names: impl IntoIterator<Item = &'a str>, makes: bool) -> OwnedFd {
    names.into_iter().fold(from, |at, name| {
        if makes {
            mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        }
        dir(&at, name)
    })
}

fn write(at: impl AsFd, name: &str, text: &str, flags: OFlags) -> io::Result<()> {
    let file = openat(at, name, flags | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?;
    fs::File::from(file).write_all(text.as_bytes())
}

fn read(at: impl AsFd, name: &str) -> io::Result<String> {
    let file = openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

/// A path of just that many bytes in all, whose directories are made.
fn path_of(base: &Path, len_bytes: usize) -> String {
    let mut path = base.to_str().unwrap().to_owned();
    while path.len() + 2 * 201 < len_bytes {
        path.push('/');
        path.push_str(&"p".repeat(200));
        if !Path::new(&path).exists() {
            fs::create_dir(&path).unwrap();
        }
    }
    let rest = len_bytes - path.len() - 1;
    let (first, last) = (rest / 2, rest - rest / 2 - 1);
    path.push('/');
    path.push_str(&"q".repeat(first));
    if !Path::new(&path).exists() {
        fs::create_dir(&path).unwrap();
    }
    format!("{path}/{}", "r".repeat(last))
}

#[test]
fn fuse_root_a_path_may_be_as_long_as_the_kernel_takes() {
    plays_alike(
        |_| {},
        |place| {
            let base = place.path("");
            let base = base.parent().unwrap().join(base.file_name().unwrap());
            let (longest, other) = (path_of(&base, PATH_MAX - 1), path_of(&base, PATH_MAX - 2));
            place.tried("made", fs::write(&longest, "long"));
            place.tried("read", fs::read_to_string(&longest));
            place.tried("renamed", fs::rename(&longest, &other));
            place.tried("linked", fs::hard_link(&other, &longest));
            place.tried("attribute", rustix::fs::setxattr(&longest, "user.x", b"1", XattrFlags::empty()));
            place.tried("mode", fs::metadata(&other).map(|it| it.permissions()));
            place.tried("one byte more", fs::write(format!("{longest}r"), "too long"));
            place.tried("removed", fs::remove_file(&longest));
            place.tried(
                "a link to a long path",
                std::os::unix::fs::symlink("t".repeat(PATH_MAX - 1), &longest),
            );
            place.tried("its target", fs::read_link(&longest).map(|it| it.as_os_str().len()));
            let too_long = std::os::unix::fs::symlink("t".repeat(PATH_MAX), base.join("too-long"));
            place.tried("a link to a path too long", too_long);
            // Trees are compared by path, of which the plain one's begins otherwise.
            let first = base.join("p".repeat(200));
            place.tried("all removed", fs::remove_dir_all(first));
        },
    );
}

/// Removes what was mounted and what lies on the branches by descriptors, which no path reaches.
struct Emptied<'a>(&'a Host);

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        for name in ["u", "l2"] {
            // What stays is removed, or told, with the scratch directory.
            drop(Command::new("rm").arg("-rf").arg(self.0.path(name)).status());
        }
    }
}

/// 30 directories of 200 bytes: no path leads to the last.
#[test]
fn fuse_root_what_no_path_reaches_works_by_directory_handles() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let name = "d".repeat(200);
    let chain = || std::iter::repeat_n(name.as_str(), 30);
    for way in WAYS {
        let host = Host::new();
        let _emptied = Emptied(&host);
        let below = descend(top(&host.path("l2")), chain(), true);
        for (name, text) in [("read", "low"), ("write", "low"), ("gone", "low"), ("moved", "low")] {
            write(&below, name, text, OFlags::CREATE).unwrap();
        }
        let options = format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}");
        host.run(&["mount", "-o", &options, "@/m"]);
        {
            let deep = descend(top(&host.path("m")), chain(), false);
            assert_eq!(read(&deep, "read").unwrap(), "low", "{way}");
            write(&deep, "write", "high", OFlags::TRUNC).unwrap();
            write(&deep, "new", "new", OFlags::CREATE | OFlags::EXCL).unwrap();
            unlinkat(&deep, "gone", AtFlags::empty()).unwrap();
            renameat(&deep, "moved", &deep, "there").unwrap();
            linkat(&deep, "new", &deep, "link", AtFlags::empty()).unwrap();
            symlinkat("new", &deep, "symlink").unwrap();
            mkdirat(&deep, "dir", Mode::RWXU).unwrap();
            fsetxattr(dir(&deep, "dir"), "user.x", b"1", XattrFlags::empty()).unwrap();
            unlinkat(&deep, "dir", AtFlags::REMOVEDIR).unwrap();

            // A high directory moves while a deep one is open.
            mkdirat(top(&host.path("m")), "high", Mode::RWXU).unwrap();
            let inside = descend(dir(top(&host.path("m")), "high"), chain(), true);
            fs::rename(host.path("m/high"), host.path("m/higher")).unwrap();
            write(&inside, "after", "moved", OFlags::CREATE).unwrap();
            assert_eq!(read(&inside, "after").unwrap(), "moved", "{way}");
            let again = descend(dir(top(&host.path("m")), "higher"), chain(), false);
            assert_eq!(read(&again, "after").unwrap(), "moved", "{way}");
            assert!(statat(&inside, "../..", AtFlags::empty()).is_ok(), "{way}");
        }
        for round in ["", ", mounted again"] {
            if !round.is_empty() {
                host.run(&["umount", "@/m"]);
                host.run(&["mount", "-o", &options, "@/m"]);
            }
            let deep = descend(top(&host.path("m")), chain(), false);
            for (name, text) in [
                ("read", "low"),
                ("write", "high"),
                ("new", "new"),
                ("there", "low"),
                ("link", "new"),
                ("symlink", "new"),
            ] {
                assert_eq!(read(&deep, name).unwrap(), text, "{way}: {name}{round}");
            }
            for name in ["gone", "moved", "dir"] {
                let found = statat(&deep, name, AtFlags::empty()).map(drop);
                assert_eq!(found, Err(rustix::io::Errno::NOENT), "{way}: {name}{round}");
            }
        }
        for name in ["read", "write", "gone", "moved"] {
            assert_eq!(read(&below, name).unwrap(), "low", "{way}: {name} below");
        }
        succeed(Command::new("rm").arg("-r").args([host.path("m").join(&name), host.path("m/higher")]));
        assert!(!host.path("m").join(&name).exists(), "{way}");
        host.run(&["umount", "@/m"]);
    }
}

/// Whoever may make directories may make them deeper than the stack of the server is.
#[test]
fn fuse_root_a_tree_of_many_levels_does_not_end_the_server() {
    const LEVELS: usize = 16_000;
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let _emptied = Emptied(&host);
    let below = descend(top(&host.path("l2")), std::iter::repeat_n("d", LEVELS), true);
    write(&below, "file", "low", OFlags::CREATE).unwrap();
    drop(below);
    host.run(&["mount", "-o", "br:@/u=rw:@/l2=ro+wh", "@/m"]);
    let server = host.server_of("m");
    {
        let deep = descend(top(&host.path("m")), std::iter::repeat_n("d", LEVELS), false);
        write(&deep, "file", "high", OFlags::TRUNC).unwrap();
        let deeper = descend(deep, std::iter::repeat_n("e", 100), true);
        write(&deeper, "file", "high", OFlags::CREATE).unwrap();
    }
    // The kernel forgets all of it.
    aufs_testkit::process::drop_caches(&host.path("m")).unwrap();
    assert_eq!(host.server_of("m"), server);
    host.run(&["umount", "@/m"]);
    host.run(&["mount", "-o", "br:@/u=rw:@/l2=ro+wh", "@/m"]);
    let deep = descend(top(&host.path("m")), std::iter::repeat_n("d", 100), false);
    assert!(statat(&deep, "d", AtFlags::empty()).is_ok());
    drop(deep);
    host.run(&["umount", "@/m"]);
}

/// A directory that was emptied can be removed, unless somebody made an entry since.
#[test]
fn fuse_root_removing_a_tree_while_others_fill_it_fails_for_new_entries_alone() {
    const ROUNDS: usize = 40;
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        for round in 0..ROUNDS {
            for branch in ["u", "l1", "l2"] {
                let dir = host.path(branch).join(format!("d{round}"));
                fs::create_dir(&dir).unwrap();
                for name in 0..5 {
                    fs::write(dir.join(format!("{branch}{name}")), "x").unwrap();
                }
            }
        }
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        for round in 0..ROUNDS {
            let dir = host.path("m").join(format!("d{round}"));
            let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for filler in 0..2 {
                    let (begun, ended, dir) = (&begun, &ended, &dir);
                    scope.spawn(move || {
                        // Until the directory is gone, and not for ever.
                        for name in 0..30 {
                            begun.fetch_add(1, Ordering::SeqCst);
                            let made = fs::write(dir.join(format!("new{filler}-{name}")), "x");
                            ended.fetch_add(1, Ordering::SeqCst);
                            if let Err(error) = made {
                                return assert_eq!(
                                    error.raw_os_error(),
                                    Some(Errno::ENOENT as i32),
                                    "{error}"
                                );
                            }
                        }
                    });
                }
                loop {
                    let before = ended.load(Ordering::SeqCst);
                    for entry in fs::read_dir(&dir).unwrap() {
                        fs::remove_file(entry.unwrap().path()).unwrap();
                    }
                    match fs::remove_dir(&dir) {
                        Ok(()) => break,
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), Some(Errno::ENOTEMPTY as i32), "{way}: {error}");
                            let since = begun.load(Ordering::SeqCst);
                            assert!(before < since, "{way}: nobody made anything since it was listed");
                        }
                    }
                }
            });
            ends_in_nothing(&dir);
        }
        host.run(&["umount", "@/m"]);
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        for round in 0..ROUNDS {
            ends_in_nothing(&host.path("m").join(format!("d{round}")));
        }
        host.run(&["umount", "@/m"]);
    }
}

fn ends_in_nothing(dir: &Path) {
    assert_eq!(fs::symlink_metadata(dir).unwrap_err().raw_os_error(), Some(Errno::ENOENT as i32));
}
