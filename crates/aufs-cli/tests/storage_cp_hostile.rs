//! Copies with what is hostile or broken: trees, archives, races, volumes, full disks, interrupts.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aufs_storage::container::{
    Container, ContainerErrorKind, ContainerStore, CopyFault, CopyOptions, Volume,
};
use aufs_storage::image::LoadOptions;
use aufs_testkit::layers::{archive, docker_save};
use aufs_testkit::tree::{plant, read_lines};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{RenameFlags, renameat_with};
use serde_json::Value;
use store::{Store, is_mounted, shown, skip};

const PLAIN: CopyOptions<'_> = CopyOptions { keeps_owners: false, follows_link: false, interrupt: None };
const FOLLOWED: CopyOptions<'_> = CopyOptions { keeps_owners: false, follows_link: true, interrupt: None };

/// A store with an image, `it`, and a directory that must stay as it is.
struct Bed {
    base: tempfile::TempDir,
    store: Store,
    outside: Vec<String>,
}

impl Bed {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        plant(&base.path().join("outside"), &["secret: S", "dir/secret: S"]).unwrap();
        let outside = read_lines(&base.path().join("outside")).unwrap();
        Self { base, store: Store::new(), outside }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base.path().join(path)
    }

    fn containers(&self) -> ContainerStore<'_> {
        let dir = tempfile::tempdir().unwrap();
        let layer = archive(&[("etc/", ""), ("etc/passwd", "root"), ("data/", ""), ("data/a", "a")]);
        docker_save(dir.path(), "it", &Value::Null, &[layer]);
        let containers = ContainerStore::open(&self.store.driver).unwrap();
        containers.images().load(dir.path(), &LoadOptions::default(), &()).unwrap();
        containers
    }

    /// Checks that nothing outside changed, and that a container that is not started is left unmounted.
    fn check(&self, container: &Container) {
        assert_eq!(read_lines(&self.at("outside")).unwrap(), self.outside, "something outside changed");
        assert!(!is_mounted(&self.store.at("mnt").join(&container.id)), "a mount is left");
        assert_eq!(self.store.driver.users(&container.id).unwrap(), 0);
    }

    /// Runs `aufs container cp` on this store.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aufs"));
        command.args(["container", "--root"]).arg(self.store.at("..")).arg("cp").args(args);
        command
    }

    /// Copies the archive `tar` from stdin.
    fn fed(&self, tar: &[u8], to: &str) -> Output {
        let mut child = self.spawn(&["-", to]);
        // A command that refuses the archive does not read all of it.
        drop(child.stdin.take().unwrap().write_all(tar));
        child.wait_with_output().unwrap()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// An exit code and one line that says why.
fn refusal(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn fuse_root_no_link_leads_out_of_a_container() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let one = containers.create("it", Some("one"), Vec::new()).unwrap();
    let outside = bed.at("outside");
    let up = PathBuf::from("../".repeat(40)).join(outside.strip_prefix("/").unwrap());
    bed.store.within(&one.id, |root| {
        symlink(&outside, root.join("absolute")).unwrap();
        symlink(&up, root.join("upwards")).unwrap();
        symlink(outside.join("secret"), root.join("secret")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("..", root.join("top")).unwrap();
    });
    fs::write(bed.at("new"), "new").unwrap();
    let copy_in = |to: &str| containers.copy_in("one", &bed.at("new"), Path::new(to), &PLAIN);
    for to in ["absolute/new", "upwards/secret", "absolute", "secret", "magic/new", "loop", "loop/x"] {
        copy_in(to).unwrap_err();
        bed.check(&one);
    }
    let copy_out = |from: &str| containers.copy_out("one", Path::new(from), &bed.at("got"), &FOLLOWED);
    for from in ["absolute/secret", "upwards", "secret", "magic/etc", "loop", "../../../outside/secret"] {
        copy_out(from).unwrap_err();
        assert!(!bed.at("got").exists(), "{from}");
    }
    // What would lead out leads to the root instead, as for programs in there.
    copy_in("top/top/../../x").unwrap();
    copy_out("top/etc/passwd").unwrap();
    assert_eq!(fs::read_to_string(bed.at("got")).unwrap(), "root");
    assert!(shown(&containers, "one").contains(&"A /x".to_owned()));
    bed.check(&one);
}

/// Ends what goes on beside a test, also when that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn fuse_root_a_tree_that_changes_meanwhile_does_not_lead_out() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    containers.create("it", Some("one"), Vec::new()).unwrap();
    let root = containers.start("one").unwrap();
    fs::create_dir_all(root.join("d/dir")).unwrap();
    fs::write(root.join("d/dir/secret"), "of the container").unwrap();
    symlink(bed.at("outside"), root.join("link")).unwrap();
    plant(&bed.at("new/dir"), &["secret: new", "more: new"]).unwrap();
    let dir = fs::File::open(&root).unwrap();
    let is_over = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        scope.spawn(|| {
            // A directory and a link to the host take the name in turn.
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(&dir, "d", &dir, "link", RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _over = Over(&is_over);
        let (mut copied, until) = (0, Instant::now() + Duration::from_secs(3));
        while Instant::now() < until {
            copied += u32::from(containers.copy_in("one", &bed.at("new/."), Path::new("d"), &PLAIN).is_ok());
            let got = bed.at("got");
            copied += u32::from(containers.copy_out("one", Path::new("d/dir"), &got, &FOLLOWED).is_ok());
            if got.exists() {
                let secret = fs::read_to_string(got.join("secret")).unwrap_or_default();
                assert!(secret != "S", "a file of the host was copied");
                fs::remove_dir_all(&got).unwrap();
            }
        }
        copied
    });
    assert_ne!(copied, 0, "not one copy met a tree that stood still");
    drop(dir);
    containers.stop("one").unwrap();
    bed.check(&containers.inspect("one").unwrap().container);
}

#[test]
fn fuse_root_archives_stream_both_ways_and_hostile_ones_do_nothing_outside() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let one = containers.create("it", Some("one"), Vec::new()).unwrap();
    let tar = archive(&[("d/", ""), ("d/f", "streamed"), ("g", "G")]);
    assert!(bed.fed(&tar, "one:/data").status.success());
    for (from, expected) in [
        ("one:/data", "data/ data/a data/d/ data/d/f data/g"),
        ("one:data/.", "./ a d/ d/f g"),
        ("one:/data/d/f", "f"),
    ] {
        let output = bed.command(&[from, "-"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut listed =
            Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        listed.stdin.take().unwrap().write_all(&output.stdout).unwrap();
        let listed = String::from_utf8(listed.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }
    let before = shown(&containers, "one");
    let half = archive(&[("h", &"h".repeat(5000))])[..2048].to_vec();
    for (tar, to, code, part) in [
        (archive(&[(".wh.a", "")]), "one:/data", 1, "begins with .wh."),
        (archive(&[("d/.wh..wh..opq", "")]), "one:/data", 1, "begins with .wh."),
        (archive(&[("../../outside", "")]), "one:/data", 1, "leads out"),
        (archive(&[("d", "a file")]), "one:/data", 1, "a directory is there"),
        (archive(&[("a/", "")]), "one:/data", 1, "no directory can be copied onto it"),
        (b"no archive at all".repeat(100), "one:/data", 1, "checksum"),
        (half, "one:/data", 1, "ends in the middle"),
        (tar.clone(), "one:/data/a", 4, "/data/a is not a directory"),
        (tar.clone(), "one:/none", 4, "/none does not exist"),
        (tar.clone(), "none:/data", 4, "no such container"),
    ] {
        let (found, text) = refusal(&bed.fed(&tar, to));
        assert!(found == code && text.contains(part), "{code} {part}: {found} {text}");
        assert_eq!(shown(&containers, "one"), before, "{part}");
        bed.check(&one);
    }
    // Entries through a link of the archive stay where it leads in the container.
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "out", bed.at("outside")).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(1);
    tar.append_data(&mut header, "out/secret", &b"X"[..]).unwrap();
    let (code, text) = refusal(&bed.fed(&tar.into_inner().unwrap(), "one:/"));
    assert!(code == 1 && text.contains("a parent is no directory"), "{text}");
    bed.check(&one);
    for (args, part) in [
        (["one:/a", "one:/b"], "between two containers"),
        (["a", "b"], "must be CONTAINER:PATH"),
        (["-", "-"], "must be CONTAINER:PATH"),
    ] {
        let (code, text) = refusal(&bed.command(&args).stdin(Stdio::null()).output().unwrap());
        assert!(code == 2 && text.contains(part), "{text}");
    }
}

#[test]
fn fuse_root_volumes_are_part_of_the_tree() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    plant(&bed.at("volume"), &["in/old: V", "link -> /etc"]).unwrap();
    fs::write(bed.at("new"), "new").unwrap();
    let volume = |path: &str, read_only| Volume { host: bed.at("volume"), path: path.into(), read_only };
    let volumes = vec![volume("/data/rw", false), volume("/data/ro", true)];
    let one = containers.create("it", Some("one"), volumes).unwrap();
    let copy_in = |to: &str| containers.copy_in("one", &bed.at("new"), Path::new(to), &PLAIN);
    for is_started in [false, true] {
        if is_started {
            containers.start("one").unwrap();
        }
        copy_in("data/rw/in/new").unwrap();
        assert_eq!(fs::read_to_string(bed.at("volume/in/new")).unwrap(), "new");
        fs::remove_file(bed.at("volume/in/new")).unwrap();
        // Links in a volume are the container's.
        copy_in("/data/rw/link/in-etc").unwrap();
        let refused = *copy_in("data/ro/in").unwrap_err().kind;
        assert!(matches!(refused, ContainerErrorKind::Copy(CopyFault::ReadOnly(_))), "{refused}");
        plant(&bed.at("tree"), &["ro/x: X"]).unwrap();
        containers.copy_in("one", &bed.at("tree/."), Path::new("data"), &PLAIN).unwrap_err();
        let got = bed.at(format!("got-{is_started}"));
        containers.copy_out("one", Path::new("data"), &got, &PLAIN).unwrap();
        let tree = ["a: a", "ro/", "ro/in/", "ro/in/old: V", "ro/link -> /etc"];
        let rest = ["rw/", "rw/in/", "rw/in/old: V", "rw/link -> /etc"];
        assert_eq!(read_lines(&got).unwrap(), [&tree[..], &rest].concat());
        // The layer has the mount points, as after exec, and what went past the volumes.
        let expected = ["C /data", "A /data/ro", "A /data/rw", "C /etc", "A /etc/in-etc"];
        assert_eq!(shown(&containers, "one"), expected);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("/data/r"), "seen outside: {mounts}");
    }
    containers.stop("one").unwrap();
    assert_eq!(read_lines(&bed.at("volume")).unwrap(), ["in/", "in/old: V", "link -> /etc"]);
    bed.check(&one);
}

/// A small file system, gone with its test.
struct Small(PathBuf);

impl Small {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=6m")).unwrap();
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(errno) = umount(&self.0) {
            eprintln!("{} stays: {errno}", self.0.display());
        }
    }
}

#[test]
fn fuse_root_a_full_disk_leaves_whole_files_or_none() {
    if skip() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let small = Small::at(scratch.path().join("small"));
    let bed = Bed { store: Store::of(tempfile::tempdir_in(&small.0).unwrap()), ..Bed::new() };
    let containers = bed.containers();
    let one = containers.create("it", Some("one"), Vec::new()).unwrap();
    let big = vec![b'x'; 8 << 20];
    fs::create_dir(bed.at("new")).unwrap();
    for (name, len) in [("1", 1 << 20), ("2", 8 << 20), ("3", 10)] {
        fs::write(bed.at("new").join(name), &big[..len]).unwrap();
    }
    let full = |outcome: Result<_, aufs_storage::container::ContainerError>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind.errno(), rustix::io::Errno::NOSPC, "{error:?}");
        bed.check(&one);
    };
    full(containers.copy_in("one", &bed.at("new/."), Path::new("data"), &PLAIN));
    assert_eq!(shown(&containers, "one"), ["C /data", "A /data/1"]);
    let own = bed.store.at("diff").join(&one.id).join("data");
    assert_eq!((store::names(&own), fs::metadata(own.join("1")).unwrap().len()), (vec!["1".into()], 1 << 20));
    // There is room for what is small, and after it is made for the rest as well.
    containers.copy_in("one", &bed.at("new/3"), Path::new("data"), &PLAIN).unwrap();
    let there = small.0.join("there");
    fs::create_dir(&there).unwrap();
    bed.store.within(&one.id, |root| {
        fs::remove_file(root.join("data/1")).unwrap();
        fs::File::create(root.join("data/1")).unwrap().set_len(64 << 20).unwrap();
        fs::write(root.join("data/0"), "0").unwrap();
    });
    // The hole costs nothing outside either, but zeros would.
    containers.copy_out("one", Path::new("data"), &there, &PLAIN).unwrap();
    assert_eq!(store::names(&there.join("data")), ["0", "1", "3", "a"]);
    drop(containers);
    drop(bed);
}

#[test]
fn fuse_root_an_interrupt_leaves_nothing_mounted() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let one = containers.create("it", Some("one"), Vec::new()).unwrap();
    let root = bed.store.at("mnt").join(&one.id);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // It waits for an archive that does not come.
        let mut child = bed.spawn(&["-", "one:/data"]);
        let until = Instant::now() + Duration::from_secs(10);
        while !is_mounted(&root) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let stdin = child.stdin.take();
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let (code, text) = refusal(&output);
        assert!(code == 1 && text.contains("interrupted"), "{code} {text}");
        bed.check(&one);
        drop(stdin);
    }
}
