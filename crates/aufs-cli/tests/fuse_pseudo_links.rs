//! Hard links of lower files through the mount: one file while mounted, after an unmount, and after a kill.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod host;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, is_running, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const OPTIONS: [&str; 4] = ["data=auto", "data=noopen", "data=cached", "udba=reval"];

/// Runs `check` for each way to mount a tree in which `a`, `d/b` and `d/c` are one lower file.
fn in_each_way(check: impl Fn(&Host, &dyn Fn())) {
    if !has(&[Fuse, Root]) {
        return;
    }
    for options in OPTIONS {
        let host = Host::new();
        fs::create_dir(host.path("l2/d")).unwrap();
        fs::write(host.path("l2/a"), "data").unwrap();
        for name in ["l2/d/b", "l2/d/c"] {
            fs::hard_link(host.path("l2/a"), host.path(name)).unwrap();
        }
        let below = host.snapshot("l2");
        let mount = || {
            host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{options}"), "@/m"]);
        };
        mount();
        check(&host, &mount);
        host.run(&["umount", "@/m"]);
        assert!(host.snapshot("l2") == below, "{options}: a lower branch was written");
        assert_eq!(fs::read_dir(host.path("u/.wh..wh.plnk")).unwrap().count(), 0, "{options}");
    }
}

fn append(host: &Host, name: &str, text: &str) {
    let mut file = OpenOptions::new().append(true).open(host.path(name)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// All `names` are one file with `nlink` names and this content.
fn are_one(host: &Host, names: &[&str], nlink: u64, content: &str) {
    let numbers: Vec<u64> = names
        .iter()
        .map(|name| {
            assert_eq!(host.read(name), content, "{name}");
            let stat = fs::metadata(host.path(name)).unwrap();
            assert_eq!(stat.nlink(), nlink, "{name}");
            stat.ino()
        })
        .collect();
    assert!(numbers.iter().all(|it| *it == numbers[0]), "{names:?}: {numbers:?}");
}

#[test]
fn fuse_root_hard_links_of_a_lower_file_stay_one_file_after_an_unmount() {
    in_each_way(|host, mount| {
        append(host, "m/d/b", "1");
        are_one(host, &["m/a", "m/d/b", "m/d/c"], 3, "data1");
        fs::remove_file(host.path("m/d/b")).unwrap();
        append(host, "m/a", "2");
        fs::hard_link(host.path("m/d/c"), host.path("m/e")).unwrap();
        are_one(host, &["m/a", "m/d/c", "m/e"], 3, "data12");
        host.run(&["umount", "@/m"]);
        are_one(host, &["u/a", "u/d/c", "u/e"], 3, "data12");
        mount();
        are_one(host, &["m/a", "m/d/c", "m/e"], 3, "data12");
        assert!(!host.path("m/d/b").exists());
    });
}

#[test]
fn fuse_root_hard_links_of_a_lower_file_stay_one_file_after_the_server_was_killed() {
    in_each_way(|host, mount| {
        append(host, "m/a", "1");
        // In passthrough and cached mode closing wrote it; without opens the kernel may still hold it.
        let file = OpenOptions::new().write(true).open(host.path("m/a")).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::remove_file(host.path("m/a")).unwrap();
        let server = host.server_of("m");
        kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
        wait_until("the server is gone", || !is_running(server));
        host.run(&["umount", "@/m"]);
        assert_eq!(fs::read_dir(host.path("u/.wh..wh.plnk")).unwrap().count(), 1);
        mount();
        are_one(host, &["m/d/b", "m/d/c"], 2, "data1");
        assert!(!host.path("m/a").exists());
    });
}

#[test]
fn fuse_root_an_open_file_counts_the_names_it_has_left() {
    in_each_way(|host, _| {
        let file = OpenOptions::new().read(true).write(true).open(host.path("m/a")).unwrap();
        for (gone, left) in [("m/a", 2), ("m/d/b", 1), ("m/d/c", 0)] {
            fs::remove_file(host.path(gone)).unwrap();
            assert_eq!(file.metadata().unwrap().nlink(), left, "{gone}");
        }
        file.set_len(1).unwrap();
        assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().nlink()), (1, 0));
    });
}
