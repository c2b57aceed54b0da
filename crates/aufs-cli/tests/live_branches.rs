//! Branches that come, go and change under a mount, in each data mode.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its tree has failed")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aufs_testkit::needs::{Need, skips};

const AUFS: &str = env!("CARGO_BIN_EXE_aufs");
const MODES: [&str; 4] = ["data=passthrough", "data=noopen", "data=cached", "udba=reval"];

/// A union of `rw` and `low` at `m`, which goes when the test ends.
struct Mount {
    base: tempfile::TempDir,
}

impl Mount {
    fn new(mode: &str) -> Self {
        let mount = Self { base: tempfile::tempdir().unwrap() };
        for dir in ["rw", "low/d", "x/only", "m"] {
            fs::create_dir_all(mount.at(dir)).unwrap();
        }
        for (path, text) in [("low/a", "low"), ("low/d/f", "f"), ("x/a", "x"), ("x/new", "new")] {
            fs::write(mount.at(path), text).unwrap();
        }
        // A second name of a file, which a file hides.
        fs::create_dir_all(mount.at("low/d/sub")).unwrap();
        fs::write(mount.at("low/d/h"), "h").unwrap();
        fs::hard_link(mount.at("low/d/h"), mount.at("low/d/sub/h")).unwrap();
        fs::create_dir(mount.at("rw/d")).unwrap();
        fs::write(mount.at("rw/d/sub"), "").unwrap();
        fs::write(mount.at("x/.wh.gone"), "").unwrap();
        fs::write(mount.at("low/gone"), "gone").unwrap();
        let options = format!("br:{}=rw:{}=ro,{mode}", mount.text("rw"), mount.text("low"));
        let done = aufs(&["mount", "-o", &options, &mount.text("m")]);
        assert!(done.status.success(), "{done:?}");
        mount
    }

    fn at(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    /// Runs `aufs branch VERB m …`; returns the exit code.
    fn branch(&self, verb: &str, rest: &[&str]) -> i32 {
        let mountpoint = self.text("m");
        let done = aufs(&[&["branch", verb, mountpoint.as_str()], rest].concat());
        done.status.code().unwrap()
    }

    /// Runs `aufs mount -o remount,CHANGES m`; returns the exit code.
    fn remount(&self, changes: &str) -> i32 {
        let done = aufs(&["mount", "-o", &format!("remount,{changes}"), &self.text("m")]);
        done.status.code().unwrap()
    }

    /// What `aufs branch list` prints, by the names of the directories here.
    fn branches(&self) -> String {
        let listed = aufs(&["branch", "list", &self.text("m")]);
        String::from_utf8(listed.stdout).unwrap().replace(&self.text(""), "").replace('\n', " ")
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at("m").join(path)).ok()
    }

    fn names(&self) -> Vec<String> {
        list(&self.at("m"))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = aufs(&["umount", &self.text("m")]);
        if !done.status.success() {
            aufs(&["umount", "--lazy", &self.text("m")]);
        }
    }
}

fn aufs(args: &[&str]) -> Output {
    Command::new(AUFS).args(args).output().unwrap()
}

fn list(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn skip() -> bool {
    skips(&[Need::Root, Need::Fuse])
}

#[test]
fn fuse_root_names_of_changed_branches_are_right_at_once() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        let x = mount.text("x");
        assert_eq!(mount.names(), ["a", "d", "gone"]);
        assert_eq!((mount.read("a").as_deref(), mount.read("new")), (Some("low"), None), "{mode}");
        assert_eq!(mount.branch("add", &["1", &format!("{x}=ro+wh")]), 0);
        assert_eq!(mount.names(), ["a", "d", "new", "only"], "{mode}");
        assert_eq!((mount.read("a").as_deref(), mount.read("new").as_deref()), (Some("x"), Some("new")));
        assert_eq!(mount.read("gone"), None, "{mode}");
        assert_eq!(mount.branch("mod", &[&format!("{x}=ro")]), 0);
        assert_eq!(mount.read("gone").as_deref(), Some("gone"), "whiteouts count no more, {mode}");
        assert_eq!(mount.read("only/missing"), None);
        assert_eq!(mount.branch("del", &[&x]), 0, "{mode}");
        assert_eq!((mount.read("a").as_deref(), mount.read("new")), (Some("low"), None), "{mode}");
        assert_eq!(mount.names(), ["a", "d", "gone"], "{mode}");
        let listed = aufs(&["branch", "list", &mount.text("m")]);
        let expected = format!("{}=rw\n{}=ro\n", mount.text("rw"), mount.text("low"));
        assert_eq!(String::from_utf8_lossy(&listed.stdout), expected);
    }
}

#[test]
fn fuse_root_what_is_in_use_keeps_its_branch() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        let x = mount.text("x");
        assert_eq!(mount.branch("prepend", &[&format!("{x}=ro")]), 0);
        let mut open = File::open(mount.at("m/new")).unwrap();
        assert_eq!(mount.branch("del", &[&x]), 5, "an open file, {mode}");
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), mount.read("new").as_deref()), ("new", Some("new")), "{mode}");
        drop(open);
        let mut child = Command::new("sleep").arg("60").current_dir(mount.at("m/only")).spawn().unwrap();
        let refused = mount.branch("del", &[&x]);
        let shown = mount.at("m/only").is_dir();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((refused, shown), (5, true), "a working directory, {mode}");
        assert_eq!(mount.branch("del", &[&x]), 0, "{mode}");
        assert_eq!(mount.read("new"), None, "{mode}");
    }
}

#[test]
fn fuse_root_an_open_file_outlives_the_branch_that_hides_it() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        let mut open = File::open(mount.at("m/a")).unwrap();
        let directory = File::open(mount.at("m/d")).unwrap();
        assert_eq!(mount.branch("prepend", &[&format!("{}=ro", mount.text("x"))]), 0);
        assert_eq!(mount.read("a").as_deref(), Some("x"), "{mode}");
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), open.metadata().unwrap().len()), ("low", 3), "{mode}");
        assert_eq!(directory.metadata().unwrap().ino(), fs::metadata(mount.at("m/d")).unwrap().ino());
        drop(open);
    }
}

#[test]
fn fuse_root_the_writable_branch_changes_when_nobody_writes() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        let (rw, x) = (mount.text("rw"), mount.text("x"));
        let mut open = File::create(mount.at("m/mine")).unwrap();
        open.write_all(b"1").unwrap();
        assert_eq!(mount.branch("mod", &[&format!("{rw}=ro")]), 5, "{mode}");
        drop(open);
        assert_eq!(mount.branch("mod", &[&format!("{rw}=ro")]), 0, "{mode}");
        assert!(File::create(mount.at("m/other")).is_err(), "{mode}");
        assert_eq!(mount.branch("prepend", &[&format!("{x}=rw")]), 0, "{mode}");
        fs::write(mount.at("m/mine"), "2").unwrap();
        assert_eq!(fs::read_to_string(mount.at("rw/mine")).unwrap(), "1", "a lower branch now, {mode}");
        assert_eq!(fs::read_to_string(mount.at("x/mine")).unwrap(), "2", "{mode}");
        assert_eq!(mount.branch("del", &[&x]), 0, "{mode}");
        assert_eq!(mount.read("mine").as_deref(), Some("1"), "{mode}");
    }
}

/// The kernel collects the write, as it was told that every write finds a branch when the mount began.
#[test]
fn fuse_root_without_opens_a_write_that_no_branch_may_take_any_more_fails_when_it_is_flushed() {
    if skip() {
        return;
    }
    // Of what was collected, close(2) of the kernel knows no errors but these two: ENOSPC and EIO.
    for (flush, expected) in [("fsync", nix::libc::EROFS), ("close", nix::libc::EIO)] {
        let mount = Mount::new("data=noopen");
        fs::write(mount.at("m/mine"), "mine").unwrap();
        assert_eq!(mount.branch("prepend", &[&format!("{}=ro", mount.text("x"))]), 0);
        // On a branch above the writable one, whose copy could not be seen.
        let mut file = File::options().append(true).open(mount.at("m/new")).unwrap();
        file.write_all(b"lost").unwrap();
        let told = match flush {
            "fsync" => {
                let told = file.sync_all().map_err(|error| error.raw_os_error().unwrap());
                drop(file);
                told
            }
            _ => nix::unistd::close(file).map_err(|errno| errno as i32),
        };
        assert_eq!(told, Err(expected), "{flush}");
        assert_eq!(
            fs::read_to_string(mount.at("x/new")).unwrap(),
            "new",
            "{flush}: a branch above was written"
        );
        assert!(!mount.at("rw/new").exists(), "{flush}");
        // What lies on or below the writable branch takes writes as before.
        fs::write(mount.at("m/mine"), "written").unwrap();
        assert_eq!(fs::read_to_string(mount.at("rw/mine")).unwrap(), "written", "{flush}");
        assert_eq!(mount.branch("del", &[&mount.text("x")]), 0, "{flush}");
        assert_eq!(mount.read("new"), None, "{flush}");
    }
}

/// A change of branches completes hard links first, and then only names that are shown count.
#[test]
fn fuse_root_a_refused_change_tells_of_link_counts_that_it_put_right() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        assert_eq!(mount.branch("append", &[&mount.text("x")]), 0, "{mode}");
        let count = || fs::metadata(mount.at("m/d/h")).unwrap().nlink();
        File::options().append(true).open(mount.at("m/d/h")).unwrap().write_all(b"!").unwrap();
        assert_eq!(count(), 2, "{mode}: nobody knows that the other name is hidden");
        let used = File::open(mount.at("m/only")).unwrap();
        assert_ne!(mount.branch("del", &[&mount.text("x")]), 0, "{mode}");
        assert_eq!(count(), 1, "{mode}");
        drop(used);
    }
}

#[test]
fn fuse_root_wrong_changes_are_refused_and_change_nothing() {
    if skip() {
        return;
    }
    let mount = Mount::new("data=cached");
    let (low, missing) = (mount.text("low"), mount.text("missing"));
    for (verb, rest, expected) in [
        ("append", vec![missing.as_str()], 4),
        ("append", vec![low.as_str()], 0),
        ("del", vec![missing.as_str()], 4),
        ("append", vec![&format!("{low}/d")], 4),
        ("append", vec![&mount.text("m/d")], 4),
        ("add", vec!["9", &mount.text("x")], 4),
        ("mod", vec![&low], 2),
        ("mod", vec![&format!("{low}=rx")], 2),
    ] {
        assert_eq!(mount.branch(verb, &rest), expected, "{verb} {rest:?}");
    }
    assert_eq!(aufs(&["branch", "list", &mount.text("low")]).status.code(), Some(4));
    assert_eq!(mount.names(), ["a", "d", "gone"]);
}

#[test]
fn fuse_root_a_remount_changes_branches_and_flags() {
    if skip() {
        return;
    }
    let mount = Mount::new("data=auto");
    fs::create_dir(mount.at("y")).unwrap();
    let (rw, low, x, y) = (mount.text("rw"), mount.text("low"), mount.text("x"), mount.text("y"));
    for (changes, expected, branches) in [
        (format!("append:{x}"), 0, "rw=rw low=ro x=ro "),
        (format!("add:1:{y}=ro+wh,mod:{low}=rr"), 0, "rw=rw y=ro+wh low=rr x=ro "),
        (format!("del:{y},del:{x},mod:{low}=ro"), 0, "rw=rw low=ro "),
        // The topmost is writable unless said otherwise.
        (format!("prepend:{y},noatime"), 0, "y=rw rw=rw low=ro "),
        (format!("del:{y},prepend:{x}=ro"), 0, "x=ro rw=rw low=ro "),
        (format!("del:{y}"), 4, "x=ro rw=rw low=ro "),
        // What was done before the one that failed stays, so the exit code is not that of "nothing was changed".
        (format!("del:{x},add:7:{y}"), 1, "rw=rw low=ro "),
        (format!("br:{rw}=rw"), 2, "rw=rw low=ro "),
        (format!("append:{x},data=cached"), 2, "rw=rw low=ro "),
        (format!("append:{x},del"), 2, "rw=rw low=ro "),
    ] {
        assert_eq!((mount.remount(&changes), mount.branches().as_str()), (expected, branches), "{changes}");
    }
    let flags = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|it| it.contains(&mount.text("m"))).unwrap();
        line.split(' ').nth(5).unwrap().to_owned()
    };
    assert!(flags().split(',').any(|it| it == "noatime"), "{}", flags());
    let open = File::open(mount.at("m/a")).unwrap();
    assert_eq!(mount.remount(&format!("del:{low}")), 5, "a file of it is open");
    drop(open);
    assert_eq!((mount.remount(&format!("ro,append:{x}")), mount.read("new").as_deref()), (0, Some("new")));
    assert!(flags().starts_with("ro,"), "{}", flags());
}

#[test]
fn fuse_root_readers_see_no_error_while_branches_change() {
    if skip() {
        return;
    }
    for mode in MODES {
        let mount = Mount::new(mode);
        let ends = Arc::new(AtomicBool::new(false));
        let (stop, file) = (Arc::clone(&ends), mount.at("m/d/f"));
        let reader = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(fs::read_to_string(&file).unwrap(), "f");
                rounds += 1;
            }
            rounds
        });
        for _ in 0..10 {
            assert_eq!(mount.branch("prepend", &[&format!("{}=ro", mount.text("x"))]), 0, "{mode}");
            assert_eq!(mount.branch("del", &[&mount.text("x")]), 0, "{mode}");
        }
        ends.store(true, Ordering::Relaxed);
        assert!(0 < reader.join().unwrap(), "{mode}");
    }
}
