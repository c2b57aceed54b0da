//! File data through the mount, in every data mode the host has: what readers
//! and writers see, and that no lower branch ever changes.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod host;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has};

const MODES: [&str; 3] = ["auto", "noopen", "cached"];

/// Runs `check` on a fresh mount in each data mode, told whether it is passthrough.
fn in_each_mode(check: impl Fn(&Host, bool)) {
    if !has(&[Fuse, Root]) {
        return;
    }
    for mode in MODES {
        let host = Host::new();
        fs::write(host.path("l2/file"), "hello world").unwrap();
        fs::write(host.path("l2/big"), vec![b'b'; 4 << 20]).unwrap();
        fs::write(host.path("l2/one-name"), "two names").unwrap();
        fs::hard_link(host.path("l2/one-name"), host.path("l2/other-name")).unwrap();
        fs::write(host.path("l2/suid-lower"), "x").unwrap();
        fs::set_permissions(host.path("l2/suid-lower"), fs::Permissions::from_mode(0o6777)).unwrap();
        let below = (host.snapshot("l1"), host.snapshot("l2"));
        let options = format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,data={mode}");
        let told = host.run(&["mount", "--json", "-o", &options, "@/m"]);
        check(&host, told.contains("passthrough"));
        host.run(&["umount", "@/m"]);
        assert!((host.snapshot("l1"), host.snapshot("l2")) == below, "{mode}: a lower branch was written");
    }
}

fn text_of(mut file: &File) -> String {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn fuse_root_a_write_beside_a_reader_never_reaches_the_lower_file() {
    in_each_mode(|host, passthrough| {
        let reader = File::open(host.path("m/file")).unwrap();
        assert_eq!(text_of(&reader), "hello world");
        let writer = OpenOptions::new().read(true).write(true).open(host.path("m/file")).unwrap();
        writer.write_all_at(b"HELLO", 0).unwrap();
        writer.sync_data().unwrap(); // Without opens the kernel writes back later.
        assert_eq!(host.read("u/file"), "HELLO world");
        assert_eq!(host.read("l2/file"), "hello world");
        assert_eq!(text_of(&File::open(host.path("m/file")).unwrap()), "HELLO world");
        // As in overlayfs the kernel goes on reading what was opened; else as in aufs.
        assert_eq!(text_of(&reader), if passthrough { "hello world" } else { "HELLO world" });
        assert_eq!(text_of(&writer), "HELLO world");
    });
}

#[test]
fn fuse_root_removing_names_of_a_lower_file_copies_nothing() {
    in_each_mode(|host, _| {
        fs::remove_file(host.path("m/big")).unwrap();
        fs::remove_file(host.path("m/one-name")).unwrap();
        // The kernel tells the times of what it caches when it drops or syncs it.
        File::open(host.path("m")).and_then(|it| Ok(rustix::fs::syncfs(it)?)).unwrap();
        assert_eq!(fs::read(host.path("m/other-name")).unwrap(), b"two names");
        host.run(&["umount", "@/m"]);
        assert!(!host.path("u/other-name").exists(), "nothing was written to it");
        host.run(&["mount", "-o", "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh", "@/m"]);
    });
}

#[test]
fn fuse_root_only_a_change_of_times_copies_up() {
    in_each_mode(|host, _| {
        let before = fs::metadata(host.path("m/file")).unwrap().modified().unwrap();
        let file = File::open(host.path("m/file")).unwrap();
        let later = before + std::time::Duration::from_secs(7);
        file.set_times(fs::FileTimes::new().set_modified(later)).unwrap();
        drop(file);
        assert_eq!(fs::metadata(host.path("m/file")).unwrap().modified().unwrap(), later);
        host.run(&["umount", "@/m"]);
        assert_eq!(fs::metadata(host.path("u/file")).unwrap().modified().unwrap(), later);
        host.run(&["mount", "-o", "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh", "@/m"]);
    });
}

#[test]
fn fuse_root_readers_and_writers_of_one_file_may_come_in_any_order() {
    in_each_mode(|host, _| {
        let first = File::open(host.path("m/file")).unwrap();
        fs::set_permissions(host.path("m/file"), fs::Permissions::from_mode(0o600)).unwrap();
        let second = File::open(host.path("m/file")).unwrap();
        assert_eq!(text_of(&second), "hello world", "copied up, but with the same bytes");
        let number = first.metadata().unwrap().ino();
        OpenOptions::new().append(true).open(host.path("m/file")).unwrap().write_all(b"!").unwrap();
        let third = File::open(host.path("m/file")).unwrap();
        assert_eq!(text_of(&third), "hello world!");
        assert_eq!(third.metadata().unwrap().ino(), number);
        assert_eq!(fs::metadata(host.path("m/file")).unwrap().ino(), number);
        assert_eq!(fs::metadata(host.path("m/file")).unwrap().len(), 12);
        File::create(host.path("m/file")).unwrap();
        assert_eq!(text_of(&File::open(host.path("m/file")).unwrap()), "");
        assert_eq!(host.read("u/file"), "");
    });
}

#[test]
fn fuse_root_truncation_beside_a_reader_shows_to_who_opens_later() {
    in_each_mode(|host, _| {
        let _reader = File::open(host.path("m/file")).unwrap();
        nix::unistd::truncate(&host.path("m/file"), 4).unwrap();
        assert_eq!(host.read("m/file"), "hell");
        assert_eq!(fs::metadata(host.path("m/file")).unwrap().len(), 4);
    });
}

#[test]
fn fuse_root_a_write_by_another_user_clears_set_id_bits() {
    in_each_mode(|host, _| {
        fs::write(host.path("m/suid-upper"), "x").unwrap();
        fs::set_permissions(host.path("m/suid-upper"), fs::Permissions::from_mode(0o6777)).unwrap();
        for name in ["suid-upper", "suid-lower"] {
            let path = host.path("m").join(name);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o6777, "{name}");
            let mut shell = Command::new("setpriv");
            shell.args(["--reuid=65534", "--clear-groups", "sh", "-c", "echo y > \"$0\""]).arg(&path);
            assert!(shell.status().unwrap().success());
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777, "{name}");
        }
    });
}

#[test]
fn fuse_root_new_entries_belong_to_their_creator() {
    in_each_mode(|host, _| {
        fs::set_permissions(host.path("m"), fs::Permissions::from_mode(0o777)).unwrap();
        let script = "umask 027; cd \"$0\"; mkdir d; echo x > d/f; ln -s f d/l; mkfifo d/p; mv d/f d/g";
        let mut shell = Command::new("setpriv");
        shell
            .args(["--reuid=1234", "--regid=4321", "--clear-groups", "sh", "-c", script])
            .arg(host.path("m"));
        assert!(shell.status().unwrap().success());
        for (name, mode) in [("d", 0o750), ("d/g", 0o640), ("d/l", 0o777), ("d/p", 0o640)] {
            for place in ["m", "u"] {
                let stat = fs::symlink_metadata(host.path(place).join(name)).unwrap();
                assert_eq!(
                    (stat.uid(), stat.gid(), stat.mode() & 0o7777),
                    (1234, 4321, mode),
                    "{place}/{name}"
                );
            }
        }
    });
}

#[test]
fn fuse_root_a_full_disk_leaves_the_old_file_and_no_draft() {
    in_each_mode(|host, _| {
        let upper = host.path("small");
        for name in ["small", "m2"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "small"])
            .arg(&upper)
            .status()
            .unwrap();
        assert!(mounted.success());
        host.run(&["mount", "-o", "br:@/small=rw:@/l2=ro+wh", "@/m2"]);
        let failed = OpenOptions::new()
            .append(true)
            .open(host.path("m2/big"))
            .and_then(|mut file| file.write_all(b"x"));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(nix::libc::ENOSPC));
        assert_eq!(fs::metadata(host.path("m2/big")).unwrap().len(), 4 << 20);
        assert_eq!(fs::read(host.path("m2/big")).unwrap(), vec![b'b'; 4 << 20]);
        assert_eq!(fs::read_dir(upper.join(".wh..wh.draft")).unwrap().count(), 0);
        assert!(!upper.join("big").exists());
        fs::write(host.path("m2/little"), "still room").unwrap();
        host.run(&["umount", "@/m2"]);
        nix::mount::umount(&upper).unwrap();
    });
}

#[test]
fn fuse_root_the_time_of_birth_is_the_branches() {
    in_each_mode(|host, _| {
        for name in ["file", "suid-lower"] {
            let born = |path: std::path::PathBuf| fs::metadata(path).unwrap().created();
            let on_branch =
                ["l1", "l2"].map(|branch| host.path(branch).join(name)).into_iter().find(|it| it.exists());
            let Ok(expected) = born(on_branch.unwrap()) else {
                return println!("skipped: the file system of the branches knows no time of birth");
            };
            assert_eq!(born(host.path("m").join(name)).unwrap(), expected, "{name}");
            assert_eq!(fs::metadata(host.path("m").join(name)).unwrap().mode() & 0o170_000, 0o100_000);
        }
    });
}
