//! The conformance tests of Docker's graph drivers.
//!
//! Each is named after the test of moby's `graphtest_unix.go` or `aufs_test.go` whose checks it makes.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use aufs_storage::archive::{ApplyOptions, PackOptions};
use aufs_storage::driver::Removal;
use aufs_testkit::layers::archive;
use store::{Store, id, is_mounted, names, skip};

/// The tree of `DriverTestCreateBase`.
fn build_base(root: &Path) {
    fs::create_dir(root.join("a subdir")).unwrap();
    chown(root.join("a subdir"), Some(1), Some(2)).unwrap();
    fs::set_permissions(root.join("a subdir"), fs::Permissions::from_mode(0o1705)).unwrap();
    fs::write(root.join("a file"), "Some data").unwrap();
    fs::set_permissions(root.join("a file"), fs::Permissions::from_mode(0o4222)).unwrap();
}

fn verify_base(root: &Path) {
    assert_eq!(names(root), ["a file", "a subdir"]);
    let facts = |path: &str| {
        let stat = fs::symlink_metadata(root.join(path)).unwrap();
        (stat.mode(), stat.uid(), stat.gid())
    };
    assert_eq!(facts("a subdir"), (0o041_705, 1, 2));
    assert_eq!(facts("a file"), (0o104_222, 0, 0));
    assert_eq!(fs::read(root.join("a file")).unwrap(), b"Some data");
}

#[test]
fn fuse_root_create_empty() {
    if skip() {
        return;
    }
    let store = Store::new();
    let layer = store.create("empty", "");
    assert!(store.driver.exists(&layer).unwrap());
    store.within(&layer, |root| {
        let stat = fs::metadata(root).unwrap();
        assert_eq!((stat.mode(), stat.uid(), stat.gid()), (0o040_755, 0, 0));
        assert_eq!(names(root), [""; 0]);
    });
    store.remove(&layer);
}

#[test]
fn fuse_root_create_base_and_snap() {
    if skip() {
        return;
    }
    let store = Store::new();
    let base = store.create("base", "");
    store.within(&base, build_base);
    store.within(&base, verify_base);
    let snap = store.create("snap", "base");
    store.within(&snap, verify_base);
    store.within(&snap, |root| fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap());
    let second = store.create("second", "snap");
    store.within(&second, |root| {
        verify_base(root);
        // A layer's own directory decides; Docker's driver makes it 0755.
        assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o755);
    });
    for layer in [second, snap, base] {
        store.remove(&layer);
    }
}

#[test]
fn fuse_root_deep_layer_read() {
    if skip() {
        return;
    }
    const LAYERS: usize = 128;
    let store = Store::new();
    let base = store.create("layer-0", "");
    store.within(&base, |root| fs::write(root.join("testfile.txt"), "test content").unwrap());
    for at in 1..=LAYERS {
        let parent = format!("layer-{}", at - 1);
        let layer = store.create(format!("layer-{at}"), &parent);
        // A layer's content is what lies in its directory, as when an archive is unpacked there.
        let root = store.at("diff").join(&layer);
        fs::write(root.join("top-id"), layer.as_str()).unwrap();
        fs::create_dir(root.join(&layer)).unwrap();
        fs::write(root.join(&layer).join("layer-id"), layer.as_str()).unwrap();
        fs::write(root.join(&layer).join("parent-id"), &parent).unwrap();
    }
    let top = store.create("top", &format!("layer-{LAYERS}"));
    store.within(&top, |root| {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("testfile.txt"), "test content");
        let mut layer = read("top-id");
        for at in (1..=LAYERS).rev() {
            assert_eq!(layer, format!("layer-{at}"));
            assert_eq!(read(&format!("{layer}/layer-id")), layer);
            layer = read(&format!("{layer}/parent-id"));
        }
        assert_eq!(layer, "layer-0");
    });
}

#[test]
fn fuse_root_mount_more_than_42_layers() {
    if skip() {
        return;
    }
    const LAYERS: usize = 126;
    let store = Store::new();
    let mut parent = String::new();
    let mut last = None;
    for at in 1..=LAYERS {
        let name = format!("{at:064x}");
        let layer = store.create(&name, &parent);
        // Each stays mounted while the next is made.
        let root = store.driver.get(&layer, None).unwrap();
        assert_eq!(is_mounted(&root), 1 < at);
        fs::write(root.join(format!("file-{name}")), "").unwrap();
        if at % 10 == 0 {
            fs::remove_file(root.join(format!("file-{parent}"))).unwrap();
        }
        (parent, last) = (name, Some((layer, root)));
    }
    let (_, root) = last.unwrap();
    assert_eq!(names(&root).len(), LAYERS - LAYERS / 10);
    store.driver.cleanup().unwrap();
    assert!(!is_mounted(&root));
}

#[test]
fn fuse_root_concurrent_access() {
    if skip() {
        return;
    }
    const WORKERS: usize = 254;
    let store = Store::new();
    store.create("base", "");
    store.create("parent", "base");
    fs::write(store.at("diff/base/shared"), "shared").unwrap();
    std::thread::scope(|scope| {
        let work = |at: usize| {
            let layer = store.create(format!("worker-{at}"), "parent");
            std::thread::scope(|scope| {
                let hold = || store.within(&layer, |root| fs::read_to_string(root.join("shared")).unwrap());
                let pair = [scope.spawn(hold), scope.spawn(hold)];
                assert!(pair.into_iter().all(|it| it.join().unwrap() == "shared"));
            });
            assert!(!is_mounted(&store.at("mnt").join(&layer)));
            store.driver.remove(&layer, Removal::IfUnused).unwrap();
        };
        let workers: Vec<_> = (0..WORKERS).map(|at| scope.spawn(move || work(at))).collect();
        workers.into_iter().for_each(|it| it.join().unwrap());
    });
    assert_eq!(store.names("diff"), ["base", "parent"]);
    assert_eq!(store.names("../aufs-rs/counts"), ["base", "parent"]);
}

/// All paths below a directory, sorted.
fn paths(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(dir) {
        let path = dir.join(&name);
        if path.is_dir() {
            found.extend(paths(&path).into_iter().map(|it| format!("{name}/{it}")));
        }
        found.push(name);
    }
    found.sort();
    found
}

/// Whiteouts of names that begin with a dot, opaque markers after what they must not hide, and one at the root.
#[test]
fn fuse_root_layers_with_whiteouts_show_what_docker_would_apply() {
    if skip() {
        return;
    }
    let store = Store::new();
    let layers: [(&[&str], &[&str]); 4] = [
        (
            &[
                ".hid", "dir/", "dir/a", "dir/sub/", "file", "old/", "old/.b", "old/.c/", "old/.c/d",
                "old/e/", "old/e/f",
            ],
            &[
                ".hid", "dir", "dir/a", "dir/sub", "file", "old", "old/.b", "old/.c", "old/.c/d", "old/e",
                "old/e/f",
            ],
        ),
        (
            &[".new", ".wh..hid", "old/", "old/.kept", "old/.wh..wh..opq", "old/e/", "old/e/g"],
            &[".new", "dir", "dir/a", "dir/sub", "file", "old", "old/.kept", "old/e", "old/e/g"],
        ),
        (
            &[".new", ".wh.file", "old/", "old/.b", "old/.wh.e", "dir/"],
            &[".new", "dir", "dir/a", "dir/sub", "old", "old/.b", "old/.kept"],
        ),
        (&[".x", ".wh..wh..opq", "file"], &[".x", "file"]),
    ];
    let mut parent = String::new();
    for (at, (entries, shown)) in layers.iter().enumerate() {
        let layer = store.create(format!("layer-{at}"), &parent);
        let tar = archive(&entries.iter().map(|it| (*it, "")).collect::<Vec<_>>());
        store.driver.apply_diff(&layer, tar.as_slice(), &ApplyOptions::default()).unwrap();
        let child = store.create(format!("shows-{at}"), layer.as_str());
        assert_eq!(store.within(&child, paths), *shown, "layer {at}");
        // What is told of the layer makes the same layer again.
        let again = store.create(format!("again-{at}"), &parent);
        let mut packed = Vec::new();
        let below = (!parent.is_empty()).then(|| id(&parent));
        store.driver.diff(&layer, below.as_ref(), &mut packed, &PackOptions::default()).unwrap();
        store.driver.apply_diff(&again, packed.as_slice(), &ApplyOptions::default()).unwrap();
        let child = store.create(format!("shows-again-{at}"), again.as_str());
        assert_eq!(store.within(&child, paths), *shown, "layer {at}, packed");
        parent = layer.to_string();
    }
}
