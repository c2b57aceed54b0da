//! Containers: created, started, changed, committed, exported, removed; and the differences of layers.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use aufs_storage::archive::{ApplyOptions, PackOptions};
use aufs_storage::container::{CommitOptions, ContainerErrorKind, ContainerState, ContainerStore};
use aufs_storage::driver::Removal;
use aufs_storage::error::StorageErrorKind;
use aufs_storage::id::LayerId;
use aufs_storage::image::error::ImageErrorKind;
use aufs_storage::image::{LoadOptions, SaveForm};
use aufs_testkit::layers::{archive, docker_save};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use store::{Store, id, is_mounted, kind_of, names, server_of, shown, skip};

/// Opens the containers of a store that holds an image, `demo`, of two layers.
fn with_demo(store: &Store) -> ContainerStore<'_> {
    let layers = [
        archive(&[
            ("etc/", ""),
            ("etc/passwd", "root"),
            ("etc/group", "wheel"),
            ("data/", ""),
            ("data/a", "a"),
            ("data/b", "b"),
        ]),
        archive(&[("etc/", ""), ("etc/.wh.group", ""), ("etc/hosts", "from the image")]),
    ];
    let dir = tempfile::tempdir().unwrap();
    docker_save(dir.path(), "demo", &Value::Null, &layers);
    let containers = ContainerStore::open(&store.driver).unwrap();
    containers.images().load(dir.path(), &LoadOptions::default(), &()).unwrap();
    containers
}

#[test]
fn fuse_root_a_container_keeps_its_changes_to_itself() {
    if skip() {
        return;
    }
    let store = Store::new();
    let containers = with_demo(&store);
    let one = containers.create("demo", Some("one"), Vec::new()).unwrap();
    let two = containers.create("demo", None, Vec::new()).unwrap();
    assert_eq!((two.name.as_str(), store.driver.status().dirs), (&two.id.as_str()[..12], 6));
    let layers = format!("{}-init", one.id);
    assert!(store.layers_file(&one.id).starts_with(&format!("{layers}\n")));
    assert_eq!(store.layers_file(&one.id).lines().count(), 3);
    assert_eq!(shown(&containers, "one"), [""; 0], "nothing of the init layer is the container's");

    let root = containers.start("one").unwrap();
    assert_eq!(containers.start("one").unwrap(), root, "it is started already");
    assert_eq!(names(&root), [".dockerenv", "data", "dev", "etc", "proc", "sys"]);
    assert_eq!(names(&root.join("etc")), ["hostname", "hosts", "mtab", "passwd", "resolv.conf"]);
    assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "from the image");
    fs::write(root.join("data/new"), "new").unwrap();
    fs::write(root.join("etc/passwd"), "changed").unwrap();
    fs::remove_file(root.join("data/a")).unwrap();
    let expected = ["C /data", "D /data/a", "A /data/new", "C /etc", "C /etc/passwd"];
    assert_eq!(shown(&containers, "one"), expected);
    let other = containers.start(two.id.as_str()).unwrap();
    assert_eq!(fs::read_to_string(other.join("etc/passwd")).unwrap(), "root");
    assert!(matches!(
        *containers.remove("one", Removal::IfUnused).unwrap_err().kind,
        ContainerErrorKind::Started
    ));
    containers.stop("one").unwrap();
    assert!(!is_mounted(&root) && names(&root).is_empty());
    assert!(matches!(*containers.stop("one").unwrap_err().kind, ContainerErrorKind::Stopped));
    assert_eq!(shown(&containers, "one"), expected, "stopped, it keeps them");
    let again = containers.start("one").unwrap();
    assert_eq!(names(&again.join("data")), ["b", "new"]);
    containers.stop("one").unwrap();

    let listed = containers.list().unwrap();
    let states: Vec<_> = listed.iter().map(|it| (it.container.name.as_str(), it.state)).collect();
    assert_eq!(states, [(two.name.as_str(), ContainerState::Started), ("one", ContainerState::Stopped)]);
    let refused = *containers.images().remove("demo").unwrap_err().kind;
    assert!(matches!(refused, ImageErrorKind::InUse { .. }), "{refused}");
    containers.remove("one", Removal::IfUnused).unwrap();
    containers.remove(&two.id.as_str()[..8], Removal::Force).unwrap();
    assert_eq!((store.driver.status().dirs, store.names("mnt").len()), (2, 2));
    assert_eq!(store.names("../aufs-rs/containers").len() + store.names("../aufs-rs/locks").len(), 0);
    containers.images().remove("demo").unwrap();
    assert_eq!(store.names("diff"), [""; 0]);
}

#[test]
fn fuse_root_a_commit_is_an_image_like_any_other() {
    if skip() {
        return;
    }
    let store = Store::new();
    let containers = with_demo(&store);
    let one = containers.create("demo", Some("one"), Vec::new()).unwrap();
    let root = containers.start("one").unwrap();
    fs::remove_dir_all(root.join("data")).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::write(root.join("data/only"), "only").unwrap();
    fs::remove_file(root.join("etc/passwd")).unwrap();
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    let options = CommitOptions {
        reference: Some("demo:next".parse().unwrap()),
        message: Some("a step".to_owned()),
        ..CommitOptions::default()
    };
    // A container need not be stopped for it.
    let committed = containers.commit("one", &options).unwrap();
    assert_eq!((committed.layers, committed.new_layers), (3, 1));
    let steps = containers.images().history("demo:next").unwrap();
    assert_eq!(steps[0].comment.as_deref(), Some("a step"));

    // The same tree shows in a container of it, here and where it is loaded from what is saved.
    let saved = tempfile::tempdir().unwrap();
    let file = saved.path().join("it.tar");
    containers.images().save(&["demo:next"], &file, SaveForm::Archive).unwrap();
    let elsewhere = Store::new();
    let there = ContainerStore::open(&elsewhere.driver).unwrap();
    there.images().load(&file, &LoadOptions::default(), &()).unwrap();
    for containers in [&containers, &there] {
        containers.create("demo:next", Some("two"), Vec::new()).unwrap();
        let root = containers.start("two").unwrap();
        assert_eq!(names(&root.join("data")), ["only"], "the deleted directory stays deleted");
        assert_eq!(names(&root.join("etc")), ["hostname", "hosts", "mtab", "resolv.conf"]);
        assert_eq!(fs::metadata(root.join("etc")).unwrap().permissions().mode() & 0o777, 0o700);
        containers.stop("two").unwrap();
    }
    let mut exported = Vec::new();
    there.export("two", &mut exported).unwrap();
    let mut archive = tar::Archive::new(exported.as_slice());
    let mut found: Vec<String> = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.push(format!("{} {text}", entry.path().unwrap().display()));
    }
    assert!(
        found.contains(&"data/only only".to_owned()) && found.iter().all(|it| !it.contains(".wh.")),
        "{found:?}"
    );
    assert!(!is_mounted(&elsewhere.at("mnt").join(&there.inspect("two").unwrap().container.id)));
    containers.remove(one.id.as_str(), Removal::Force).unwrap();
}

#[test]
fn fuse_root_what_cannot_be_is_refused_and_leaves_nothing() {
    if skip() {
        return;
    }
    let store = Store::new();
    let containers = with_demo(&store);
    let create = |image, name| *containers.create(image, Some(name), Vec::new()).unwrap_err().kind;
    assert!(matches!(create("none", "one"), ContainerErrorKind::Image(_)));
    assert!(matches!(create("demo", "../one"), ContainerErrorKind::Name));
    containers.create("demo", Some("one"), Vec::new()).unwrap();
    assert!(matches!(create("demo", "one"), ContainerErrorKind::NameTaken { .. }));
    for unknown in ["two", "", "../one", "zz"] {
        assert!(
            matches!(*containers.start(unknown).unwrap_err().kind, ContainerErrorKind::Unknown),
            "{unknown}"
        );
    }
    assert_eq!((store.driver.status().dirs, store.names("../aufs-rs/containers").len()), (4, 1));

    // A server that dies takes no change with it, and the next start mends it.
    let root = containers.start("one").unwrap();
    fs::write(root.join("kept"), "kept").unwrap();
    kill(Pid::from_raw(server_of(&root)), Signal::SIGKILL).unwrap();
    assert_eq!(containers.inspect("one").unwrap().state, ContainerState::Dead);
    let root = containers.start("one").unwrap();
    assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "kept");
    containers.stop("one").unwrap();
    assert!(!is_mounted(&root));
}

#[test]
fn fuse_root_differences_go_round() {
    if skip() {
        return;
    }
    let store = Store::new();
    let driver = &store.driver;
    let base = store.create("base", "");
    let (upper, other) = (store.create("upper", "base"), store.create("other", "base"));
    store.within(&base, |root| {
        for at in 0..10 {
            fs::write(root.join(format!("file-{at}")), vec![b'a'; 64]).unwrap();
        }
        fs::write(root.join("file-remove.txt"), "gone").unwrap();
        fs::create_dir_all(root.join("var/lib")).unwrap();
    });
    store.within(&upper, |root| {
        for at in 0..10 {
            fs::write(root.join(format!("file-{at}")), vec![b'b'; 64]).unwrap();
        }
        fs::remove_file(root.join("file-remove.txt")).unwrap();
        fs::remove_dir_all(root.join("var/lib")).unwrap();
    });
    let mut archive = Vec::new();
    driver.diff(&upper, Some(&base), &mut archive, &PackOptions::default()).unwrap();
    let applied = driver.apply_diff(&other, archive.as_slice(), &ApplyOptions::default()).unwrap();
    assert_eq!(applied.size_bytes, driver.diff_size(&upper, None).unwrap());
    store.within(&other, |root| {
        assert_eq!(
            names(root),
            (0..10).map(|at| format!("file-{at}")).chain(["var".to_owned()]).collect::<Vec<_>>()
        );
        assert_eq!(fs::read(root.join("file-3")).unwrap(), [b'b'; 64]);
        assert_eq!(names(&root.join("var")), [""; 0]);
        let refused = kind_of(driver.apply_diff(&other, archive.as_slice(), &ApplyOptions::default()));
        assert!(matches!(refused, StorageErrorKind::InUse { count: 1 }), "{refused}");
    });
    let changes = |layer: &_, parent| -> Vec<_> {
        driver.changes(layer, parent).unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(changes(&other, Some(&base)), changes(&upper, Some(&base)));
    assert!(changes(&other, None).contains(&"A /file-0".to_owned()));
    let sparse = fs::File::create(store.at("diff/base/sparse")).unwrap();
    sparse.set_len(1024).unwrap();
    assert_eq!(driver.diff_size(&base, None).unwrap(), 10 * 64 + 4 + 1024);
    assert_eq!(driver.diff_size(&store.create("empty", "base"), Some(&base)).unwrap(), 0);
}

/// Docker compares the mounts of layers neither of which lies directly on the other; so `build` squashes layers, say.
#[test]
fn fuse_root_any_two_layers_can_be_compared() {
    if skip() {
        return;
    }
    let store = Store::new();
    let driver = &store.driver;
    let base = store.create("base", "");
    store.within(&base, |root| {
        fs::write(root.join("kept"), "kept").unwrap();
        fs::write(root.join("changed"), "old").unwrap();
        fs::create_dir_all(root.join("gone/below")).unwrap();
        fs::create_dir(root.join("anew")).unwrap();
        fs::write(root.join("anew/old"), "old").unwrap();
    });
    let middle = store.create("middle", "base");
    store.within(&middle, |root| {
        fs::write(root.join("changed"), "newer").unwrap();
        fs::remove_dir_all(root.join("gone")).unwrap();
        fs::write(root.join("added"), "four").unwrap();
    });
    let top = store.create("top", "middle");
    store.within(&top, |root| {
        fs::remove_file(root.join("added")).unwrap();
        fs::remove_dir_all(root.join("anew")).unwrap();
        fs::create_dir(root.join("anew")).unwrap();
        fs::write(root.join("anew/new"), "new").unwrap();
    });
    let changes = |from: &LayerId, to: &LayerId| -> Vec<_> {
        driver.changes(from, Some(to)).unwrap().iter().map(ToString::to_string).collect()
    };
    let expected = ["C /anew", "A /anew/new", "D /anew/old", "C /changed", "D /gone"];
    assert_eq!(changes(&top, &base), expected);
    assert_eq!(driver.diff_size(&top, Some(&base)).unwrap(), 3 + 5);
    let squashed = store.create("squashed", "base");
    let mut archive = Vec::new();
    driver.diff(&top, Some(&base), &mut archive, &PackOptions::default()).unwrap();
    driver.apply_diff(&squashed, archive.as_slice(), &ApplyOptions::default()).unwrap();
    assert_eq!(changes(&squashed, &top), [""; 0]);
    // Nor need they have anything to do with each other.
    let stranger = store.create("stranger", "");
    store.within(&stranger, |root| fs::write(root.join("strange"), "").unwrap());
    let child = store.create("child", "stranger");
    assert!(changes(&child, &top).contains(&"A /strange".to_owned()));
    let refused = kind_of(driver.changes(&top, Some(&id("nobody"))));
    assert!(
        matches!(&refused, StorageErrorKind::UnknownParent { parent } if *parent == id("nobody")),
        "{refused}"
    );
    assert!(store.names("mnt").iter().all(|it| !is_mounted(&store.at("mnt").join(it))));
}

/// A copy or an export that is killed has got the tree and never puts it back.
#[test]
fn fuse_root_what_a_killed_copy_left_mounted_goes_with_the_next_command() {
    if skip() {
        return;
    }
    let store = Store::new();
    let containers = with_demo(&store);
    let container = containers.create("demo", Some("one"), Vec::new()).unwrap();
    let root = store.at("mnt").join(&container.id);
    let kill = || drop(store.driver.get(&container.id, None).unwrap());
    kill();
    assert!(is_mounted(&root));
    containers.start("one").unwrap();
    kill();
    containers.stop("one").unwrap();
    assert!(!is_mounted(&root));
    kill();
    kill();
    containers.remove("one", Removal::IfUnused).unwrap();
    assert!(!root.exists() && store.driver.status().dirs == 2);
}

/// Takes what is written to it when it may.
struct Slow(std::sync::mpsc::Receiver<()>);

impl std::io::Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Nobody holds it up any more once the sender is gone.
        _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn fuse_root_stopping_waits_for_an_export_that_reads_the_tree() {
    if skip() {
        return;
    }
    let store = Store::new();
    let containers = with_demo(&store);
    let container = containers.create("demo", Some("one"), Vec::new()).unwrap();
    let root = containers.start("one").unwrap();
    std::thread::scope(|scope| {
        let (go_on, held) = std::sync::mpsc::channel();
        let export = scope.spawn(|| containers.export("one", Slow(held)));
        while store.driver.users(&container.id).unwrap() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let stop = scope.spawn(|| containers.stop("one"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!stop.is_finished() && is_mounted(&root));
        drop(go_on);
        export.join().unwrap().unwrap();
        stop.join().unwrap().unwrap();
    });
    assert!(!is_mounted(&root));
}
