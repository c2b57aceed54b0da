//! What the AUFS driver's documentation says of files in containers, sentence by sentence.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::time::SystemTime;

use aufs_storage::container::{Container, ContainerStore};
use aufs_storage::image::LoadOptions;
use aufs_testkit::hostile::{Facts, snapshot};
use aufs_testkit::layers::{archive, docker_save};
use serde_json::{Value, json};
use store::{Store, names, skip};

/// An image of three layers and a started container of it.
struct Started<'d> {
    store: &'d Store,
    containers: ContainerStore<'d>,
    container: Container,
    /// Its mounted tree.
    root: PathBuf,
    /// The directories of the image's layers, base first.
    layers: Vec<PathBuf>,
}

impl<'d> Started<'d> {
    /// Starts a container of these layers, base first.
    fn new(store: &'d Store, layers: &[Vec<u8>]) -> Self {
        let saved = tempfile::tempdir().unwrap();
        docker_save(saved.path(), "doc", &json!({}), layers);
        let containers = ContainerStore::open(&store.driver).unwrap();
        containers.images().load(saved.path(), &LoadOptions::default(), &()).unwrap();
        let container = containers.create("doc", None, Vec::new()).unwrap();
        let root = containers.start(container.id.as_str()).unwrap();
        let layers = containers.images().inspect("doc").unwrap().layers;
        let layers = layers.iter().map(|it| store.at("diff").join(&it.layer)).collect();
        Self { store, containers, container, root, layers }
    }

    /// A path in the container's own directory.
    fn own(&self, path: &str) -> PathBuf {
        self.store.at("diff").join(&self.container.id).join(path)
    }

    /// All that the image's layers hold.
    fn image(&self) -> Vec<BTreeMap<PathBuf, Facts>> {
        self.layers.iter().map(|it| snapshot(it).unwrap()).collect()
    }

    /// How many files the server of the mount has copied up.
    fn copied_up(&self) -> u64 {
        let aufs = Command::new(env!("CARGO_BIN_EXE_aufs")).args(["stat", "--json"]).arg(&self.root).output();
        let report: Value = serde_json::from_slice(&aufs.unwrap().stdout).unwrap();
        report["copy_ups"]["files"].as_u64().unwrap()
    }

    fn restart(&self) {
        self.containers.stop(self.container.id.as_str()).unwrap();
        assert_eq!(names(&self.root), [""; 0], "a stopped container's mount point is empty");
        self.containers.start(self.container.id.as_str()).unwrap();
    }
}

/// Figure 3 of the documentation: an image of three layers, in whose container `file3` is deleted.
#[test]
fn fuse_root_deleting_a_file_leaves_a_whiteout_in_the_containers_layer() {
    if skip() {
        return;
    }
    let store = Store::new();
    let layers = [
        archive(&[("file1", "1"), ("file2", "1"), ("file3", "1")]),
        archive(&[("file2", "2")]),
        archive(&[("file4", "3")]),
    ];
    let started = Started::new(&store, &layers);
    let before = started.image();
    fs::remove_file(started.root.join("file3")).unwrap();
    let whiteout = fs::symlink_metadata(started.own(".wh.file3")).unwrap();
    assert!(whiteout.is_file() && whiteout.len() == 0, "{whiteout:?}");
    for name in ["file1", "file2", "file4"] {
        assert!(started.root.join(name).exists(), "{name}");
    }
    assert_eq!(
        fs::read_to_string(started.root.join("file2")).unwrap(),
        "2",
        "the first layer from the top counts"
    );
    assert!(!started.root.join("file3").exists());
    assert_eq!(started.image(), before);
}

#[test]
fn fuse_root_a_deletion_hides_a_name_in_however_many_layers_it_is() {
    if skip() {
        return;
    }
    let store = Store::new();
    // A name for each way in which three layers can have it, as a file or as a directory.
    let mut layers: [Vec<(String, &str)>; 3] = Default::default();
    for ways in 1..27_usize {
        for (layer, way) in layers.iter_mut().zip([ways % 3, ways / 3 % 3, ways / 9]) {
            match way {
                1 => layer.push((format!("n{ways}"), "text")),
                2 => layer.extend([(format!("n{ways}/"), ""), (format!("n{ways}/below"), "text")]),
                _ => {}
            }
        }
    }
    let layers =
        layers.map(|it| archive(&it.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>()));
    let started = Started::new(&store, &layers);
    let before = started.image();
    for ways in 1..27 {
        let path = started.root.join(format!("n{ways}"));
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
    }
    for _ in 0..2 {
        assert!(names(&started.root).iter().all(|it| !it.starts_with('n')), "{:?}", names(&started.root));
        for ways in 1..27 {
            assert!(!started.root.join(format!("n{ways}")).exists(), "n{ways}");
            let left = names(&started.own("")).into_iter().filter(|it| it.ends_with(&format!("n{ways}")));
            assert_eq!(left.collect::<Vec<_>>(), [format!(".wh.n{ways}")]);
        }
        assert_eq!(started.image(), before);
        started.restart();
    }
}

/// "Only a few bytes change, and the whole file is copied", once for each container.
#[test]
fn fuse_root_the_first_change_copies_the_whole_file_up_and_later_ones_nothing() {
    if skip() {
        return;
    }
    let store = Store::new();
    let old = "key=value\n".repeat(500_000);
    let layers = [archive(&[("db/", ""), ("db/file", &old)]), archive(&[("a", "")]), archive(&[("b", "")])];
    let started = Started::new(&store, &layers);
    let before = started.image();
    let path = started.root.join("db/file");
    // Many at once: the first of them copies, the others find it done.
    let barrier = Barrier::new(64);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                barrier.wait();
                OpenOptions::new().append(true).open(&path).unwrap().write_all(b"new=value\n").unwrap();
            });
        }
    });
    File::open(&path).unwrap().sync_all().unwrap();
    assert_eq!(started.copied_up(), 1);
    let new = format!("{old}{}", "new=value\n".repeat(64));
    assert!(
        fs::read_to_string(started.own("db/file")).unwrap() == new,
        "the copy holds the old content and the new"
    );
    let copy = fs::metadata(started.own("db/file")).unwrap().ino();
    for at in 0..1000 {
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"X", at * 100).unwrap();
    }
    assert_eq!(started.copied_up(), 1);
    started.restart();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"Y", 0).unwrap();
    assert_eq!((started.copied_up(), fs::metadata(started.own("db/file")).unwrap().ino()), (0, copy));
    assert_eq!(started.image(), before);
    // Another container of the image has a copy of its own.
    let other = started.containers.create("doc", None, Vec::new()).unwrap();
    let root = started.containers.start(other.id.as_str()).unwrap();
    assert!(fs::read_to_string(root.join("db/file")).unwrap() == old);
    fs::write(root.join("db/file"), "other").unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("Yey"));
    assert_eq!(started.image(), before);
}

#[test]
fn fuse_root_whatever_changes_a_file_copies_it_up_and_reading_never_does() {
    if skip() {
        return;
    }
    type Use = (&'static str, fn(&Path));
    let reading: [Use; 5] = [
        ("stat", |it| assert!(fs::metadata(it).unwrap().is_file())),
        ("read", |it| drop(fs::read(it).unwrap())),
        ("list", |it| drop(names(it.parent().unwrap()))),
        ("attributes", |it| assert_eq!(rustix::fs::listxattr(it, &mut [0_u8; 64][..]), Ok(0))),
        ("access", |it| rustix::fs::access(it, rustix::fs::Access::READ_OK).unwrap()),
    ];
    let changing: [Use; 10] = [
        ("write", |it| OpenOptions::new().write(true).open(it).unwrap().write_all(b"x").unwrap()),
        ("append", |it| OpenOptions::new().append(true).open(it).unwrap().write_all(b"x").unwrap()),
        ("chmod", |it| fs::set_permissions(it, fs::Permissions::from_mode(0o600)).unwrap()),
        ("chown", |it| std::os::unix::fs::chown(it, Some(7), Some(7)).unwrap()),
        ("utimes", |it| {
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
            File::open(it).unwrap().set_times(times).unwrap();
        }),
        ("setxattr", |it| {
            rustix::fs::setxattr(it, "user.x", b"x", rustix::fs::XattrFlags::empty()).unwrap();
        }),
        ("truncate", |it| OpenOptions::new().write(true).open(it).unwrap().set_len(2).unwrap()),
        ("allocate", |it| {
            let file = OpenOptions::new().write(true).open(it).unwrap();
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 100).unwrap();
        }),
        ("rename", |it| fs::rename(it, it.with_file_name("renamed")).unwrap()),
        ("link", |it| fs::hard_link(it, it.with_file_name("linked")).unwrap()),
    ];
    let store = Store::new();
    let files: Vec<String> =
        reading.iter().chain(&changing).map(|(name, _)| format!("{name}/file")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|it| (it.as_str(), "some text")).collect();
    let started = Started::new(&store, &[archive(&files), archive(&[("a", "")]), archive(&[("b", "")])]);
    let before = started.image();
    for (name, act) in reading {
        act(&started.root.join(name).join("file"));
    }
    assert_eq!(started.copied_up(), 0);
    assert!(reading.iter().all(|(name, _)| !started.own(name).exists()));
    for (name, act) in changing {
        act(&started.root.join(name).join("file"));
        let path = match name {
            "rename" => started.own("rename/renamed"),
            "link" => started.own("link/linked"),
            _ => started.own(name).join("file"),
        };
        // What is written may wait in the page cache, and the copy with it.
        if let Ok(file) = File::open(started.root.join(name).join("file")) {
            file.sync_all().unwrap();
        }
        let mut text = String::new();
        File::open(&path)
            .unwrap_or_else(|error| unreachable!("{name}: {error}"))
            .read_to_string(&mut text)
            .unwrap();
        let expected = match name {
            "write" => "xome text".to_owned(),
            "append" => "some textx".to_owned(),
            "truncate" => "so".to_owned(),
            "allocate" => format!("some text{}", "\0".repeat(91)),
            _ => "some text".to_owned(),
        };
        assert_eq!(text, expected, "{name}");
    }
    assert_eq!(started.image(), before);
}

/// All that is mounted but the data root is read-only here.
#[test]
fn fuse_root_nothing_is_written_outside_the_data_root() {
    if skip() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let image = base.path().join("image");
    docker_save(&image, "doc", &json!({}), &[archive(&[("file", "text")])]);
    fs::create_dir(base.path().join("root")).unwrap();
    let script = r#"
        set -eu
        mount --bind "$2/root" "$2/root"
        # Each mount of its own kind but that of the root, and what no file lies on.
        while read -r _ at kind _; do
            case $kind in proc | sysfs | devpts | cgroup* | mqueue) continue ;; esac
            case $at in /dev | "$2/root" | /proc/*) continue ;; esac
            mount -o remount,bind,ro "$at" 2>/dev/null || true
        done </proc/self/mounts
        ! touch "$2/outside" 2>/dev/null || { echo 'can write outside' >&2; exit 1; }
        root=$2/root
        "$1" image --root "$root" load "$2/image" >/dev/null
        "$1" container --root "$root" create --name one doc >/dev/null
        tree=$("$1" container --root "$root" start one)
        echo more >>"$tree/file"
        rm "$tree/.dockerenv"
        "$1" container --root "$root" stop one
        "$1" container --root "$root" commit one next >/dev/null
        "$1" container --root "$root" rm one >/dev/null
        "$1" image --root "$root" rm next doc >/dev/null
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_aufs")]).arg(base.path());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(names(&base.path().join("root/aufs/diff")), [""; 0]);
}
