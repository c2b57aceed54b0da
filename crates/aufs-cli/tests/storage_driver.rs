//! The storage driver keeps Docker's contract: files on disk, counts, crashes, several processes.

mod store;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use aufs_storage::driver::{NAME, Removal};
use aufs_storage::error::StorageErrorKind;
use aufs_storage::id::LayerId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use store::{Store, id, is_mounted, kind_of, names, server_of, skip};

/// Ids of the documentation's example: the layers of an image, topmost first, and a container.
const IMAGE: [&str; 4] = [
    "91e54dfb11794fad694460162bf0cb0a4fa710cfa3f60979c177d920813e267c",
    "d74508fb6632491cea586a1fd7d748dfc5274cd6fdfedee309ecdcbc2bf5cb82",
    "c22013c8472965aa5b62559f2b540cd440716ef149756e7b958a1b2aba421e87",
    "d3a1f33e8a5a513092f01bb7eb1c2abf4d711e5105390a3fe1ae2248cfde1391",
];
const CONTAINER: &str = "b41a6e5a508dfa02607199dfe51ed9345a675c977f2cafe8ef3e4b0b5773404e";

/// The documentation's image and container.
fn documented(store: &Store) {
    let mut parent = "";
    for layer in IMAGE.iter().rev() {
        store.create(layer, parent);
        parent = layer;
    }
    let init = format!("{CONTAINER}-init");
    store.create(&init, parent);
    store.create(CONTAINER, &init);
}

#[test]
fn root_a_home_has_dockers_directories_and_opens_twice() {
    if skip() {
        return;
    }
    let store = Store::new();
    assert_eq!((NAME, names(&store.at(""))), ("aufs", vec!["diff".into(), "layers".into(), "mnt".into()]));
    for dir in ["", "layers", "diff", "mnt"] {
        assert_eq!(fs::metadata(store.at(dir)).unwrap().mode() & 0o7777, 0o710, "{dir}");
    }
    let layer = store.create("1", "");
    assert!(store.again().exists(&layer).unwrap());
    for dir in ["layers", "diff", "mnt"] {
        assert_eq!(store.names(dir), ["1"]);
    }
    assert_eq!(fs::metadata(store.at("diff/1")).unwrap().mode() & 0o7777, 0o755);
    store.remove(&layer);
    for dir in ["layers", "diff", "mnt"] {
        assert_eq!(store.names(dir), [""; 0]);
    }
    assert!(!store.driver.exists(&layer).unwrap());
    store.remove(&layer);
    assert_eq!(store.driver.metadata(&layer), None);
}

#[test]
fn root_layers_files_are_those_of_the_documentation() {
    if skip() {
        return;
    }
    let store = Store::new();
    documented(&store);
    let lines = |ids: &[&str]| ids.iter().map(|it| format!("{it}\n")).collect::<String>();
    assert_eq!(store.layers_file(&id(IMAGE[0])), lines(&IMAGE[1..]));
    assert_eq!(store.layers_file(&id(IMAGE[3])), "");
    let init = format!("{CONTAINER}-init");
    assert_eq!(store.layers_file(&id(&init)), lines(&IMAGE));
    assert_eq!(store.layers_file(&id(CONTAINER)), format!("{init}\n{}", lines(&IMAGE)));
    assert_eq!(fs::metadata(store.at("layers").join(CONTAINER)).unwrap().mode() & 0o777, 0o644);
    let rows = store.driver.status().rows();
    let shown: Vec<_> = rows.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    assert_eq!(shown[0], format!("Root Dir: {}", store.at("").display()).trim_end_matches('/'));
    assert!(shown[1].starts_with("Backing Filesystem: "));
    assert_eq!(shown[2..], ["Dirs: 6", "Dirperm1 Supported: true"]);
}

#[test]
fn fuse_root_a_layer_is_mounted_while_somebody_has_it() {
    if skip() {
        return;
    }
    let store = Store::new();
    let (base, child) = (store.create("1", ""), store.create("2", "1"));
    let (driver, other) = (&store.driver, store.again());
    assert_eq!(driver.get(&base, None).unwrap(), store.at("diff/1"), "a base layer is its own directory");
    assert!(!is_mounted(&store.at("mnt/1")));
    fs::write(store.at("diff/1/a"), "base").unwrap();
    driver.put(&base).unwrap();

    let root = driver.get(&child, None).unwrap();
    assert_eq!((&root, other.get(&child, None).unwrap()), (&store.at("mnt/2"), root.clone()));
    assert!(is_mounted(&root));
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "base");
    fs::write(root.join("a"), "changed").unwrap();
    driver.put(&child).unwrap();
    assert!(is_mounted(&root), "another process has it still");
    assert!(matches!(
        kind_of(driver.remove(&child, Removal::IfUnused)),
        StorageErrorKind::InUse { count: 1 }
    ));
    other.put(&child).unwrap();
    assert!(!is_mounted(&root) && names(&root).is_empty(), "there, and empty, when nobody has it");
    assert_eq!(fs::read_to_string(store.at("diff/2/a")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(store.at("diff/1/a")).unwrap(), "base");
    driver.put(&child).unwrap();
    store.within(&child, |root| assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "changed"));
}

#[test]
fn fuse_root_a_failed_creation_or_mount_leaves_nothing() {
    if skip() {
        return;
    }
    let store = Store::new();
    let driver = &store.driver;
    let (base, child, none) = (store.create("1", ""), store.create("2", "1"), id("none"));
    let unknown = kind_of(driver.create(&id("3"), Some(&none), &[]));
    assert!(matches!(unknown, StorageErrorKind::UnknownParent { parent } if parent == none));
    assert!(matches!(kind_of(driver.create(&child, None, &[])), StorageErrorKind::Exists));
    assert!(matches!(
        kind_of(driver.create(&id("3"), Some(&id("3")), &[])),
        StorageErrorKind::UnknownParent { .. }
    ));
    let size = [("size".to_owned(), "50M".to_owned())];
    let refused = driver.create(&id("3"), Some(&base), &size).unwrap_err();
    assert_eq!(refused.kind.to_string(), "--storage-opt is not supported for aufs");
    for dir in ["layers", "diff", "mnt"] {
        assert_eq!(store.names(dir), ["1", "2"]);
    }
    assert_eq!(store.layers_file(&child), "1\n", "an existing layer keeps its ancestors");
    assert!(matches!(kind_of(driver.get(&none, None)), StorageErrorKind::Unknown));
    assert!(matches!(kind_of(driver.put(&none)), StorageErrorKind::Unknown));
    assert_eq!(names(&store.at("../aufs-rs/counts")), ["1", "2"]);

    // A mount that fails is not counted, so the next does not take an empty directory for it.
    fs::rename(store.at("diff/1"), store.at("diff/away")).unwrap();
    let failed = driver.get(&child, None).unwrap_err();
    let told = format!("{:#}", anyhow::Error::from(failed));
    assert!(told.contains("diff/1: no such directory"), "{told}");
    assert!(!is_mounted(&store.at("mnt/2")));
    fs::rename(store.at("diff/away"), store.at("diff/1")).unwrap();
    store.within(&child, |root| assert!(is_mounted(root)));
    assert!(!is_mounted(&store.at("mnt/2")));
}

#[test]
fn fuse_root_removal_takes_all_of_a_layer() {
    if skip() {
        return;
    }
    let store = Store::new();
    let driver = &store.driver;
    let (base, child) = (store.create("1", ""), store.create("2", "1"));
    driver.put(&base).unwrap();
    assert_eq!(driver.get(&base, None).unwrap(), store.at("diff/1"), "after a put that nobody was owed");
    assert!(matches!(kind_of(driver.remove(&base, Removal::IfUnused)), StorageErrorKind::InUse { count: 1 }));
    driver.put(&base).unwrap();

    let root = driver.get(&child, None).unwrap();
    fs::write(root.join("new"), "").unwrap();
    driver.remove(&child, Removal::Force).unwrap();
    assert!(!is_mounted(&root));
    for dir in ["layers", "diff", "mnt", "../aufs-rs/counts"] {
        assert_eq!(store.names(dir), ["1"], "{dir}");
    }
    // The counts of the removed layer are not those of a new one.
    store.create("2", "1");
    store.within(&child, |root| assert!(is_mounted(root) && names(root).is_empty()));
    store.remove(&child);
    store.remove(&base);
    assert_eq!((store.names("mnt").len(), store.driver.status().dirs), (0, 0));
}

#[test]
fn fuse_root_a_removal_deletes_nothing_that_is_mounted_in_a_layer() {
    if skip() {
        return;
    }
    let store = Store::new();
    let (base, volume) = (store.create("1", ""), tempfile::tempdir().unwrap());
    fs::write(volume.path().join("precious"), "").unwrap();
    fs::create_dir(store.at("diff/1/data")).unwrap();
    let none = None::<&str>;
    let target = store.at("diff/1/data");
    nix::mount::mount(Some(volume.path()), &target, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
    store.remove(&base);
    assert_eq!((names(volume.path()), is_mounted(&target)), (vec!["precious".to_owned()], false));
}

#[test]
fn fuse_root_a_dead_server_is_replaced() {
    if skip() {
        return;
    }
    let store = Store::new();
    store.create("1", "");
    for (case, act) in [
        ("get", (|store, layer| drop(store.driver.get(layer, None).unwrap())) as fn(&Store, &LayerId)),
        ("put", |store, layer| store.driver.put(layer).unwrap()),
        ("remove", |store, layer| store.driver.remove(layer, Removal::IfUnused).unwrap()),
        ("cleanup", |store, _| store.driver.cleanup().unwrap()),
    ] {
        let layer = store.create(format!("for-{case}"), "1");
        let root = store.driver.get(&layer, None).unwrap();
        fs::write(root.join("kept"), case).unwrap();
        kill(Pid::from_raw(server_of(&root)), Signal::SIGKILL).unwrap();
        act(&store, &layer);
        if case == "get" {
            assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), case, "mounted again");
            store.driver.put(&layer).unwrap();
        }
        assert!(!is_mounted(&root), "{case}");
        if case != "remove" {
            store.within(&layer, |root| assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), case));
        }
    }
}

#[test]
fn root_what_a_crash_left_goes() {
    if skip() {
        return;
    }
    let store = Store::new();
    let base = store.create("1", "");
    for path in ["diff/123-removing/deep/er", "mnt/123-removing", "diff/half/old", "mnt/half"] {
        fs::create_dir_all(store.at(path)).unwrap();
    }
    let again = store.again();
    assert_eq!(
        (store.names("diff"), store.names("mnt")),
        (vec!["1".into(), "half".into()], vec!["1".into(), "half".into()])
    );
    // A layer that was never finished does not exist, and its content is not that of a new one.
    assert_eq!(again.layers().unwrap(), [base]);
    let half = store.create("half", "1");
    assert_eq!(store.names("diff/half"), [""; 0]);
    fs::create_dir_all(store.at("diff/half-removing/full")).unwrap();
    store.remove(&half);
    assert_eq!(store.names("diff"), ["1"]);
}

#[test]
fn fuse_root_a_tree_that_docker_wrote_opens_as_it_is() {
    if skip() {
        return;
    }
    let store = Store::new();
    let write = |path: &str, text: &str| {
        let path = store.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let (base, top, init, container) = (IMAGE[3], IMAGE[2], format!("{CONTAINER}-init"), CONTAINER);
    for layer in [base, top, &init, container] {
        fs::create_dir_all(store.at("diff").join(layer)).unwrap();
        fs::create_dir_all(store.at("mnt").join(layer)).unwrap();
    }
    write(&format!("layers/{base}"), "");
    write(&format!("layers/{top}"), &format!("{base}\n"));
    write(&format!("layers/{init}"), &format!("{top}\n{base}\n"));
    write(&format!("layers/{container}"), &format!("\n{init}\n\n{top}\n{base}\n"));
    write(&format!("diff/{base}/etc/passwd"), "root");
    write(&format!("diff/{base}/etc/shadow"), "secret");
    write(&format!("diff/{base}/var/old"), "old");
    write(&format!("diff/{top}/.wh..wh.aufs"), "");
    fs::create_dir(store.at(format!("diff/{top}/.wh..wh.plnk"))).unwrap();
    fs::create_dir(store.at(format!("diff/{top}/.wh..wh.orph"))).unwrap();
    fs::create_dir_all(store.at(format!("diff/{top}/etc"))).unwrap();
    let marker = store.at(format!("diff/{top}/.wh..wh.aufs"));
    fs::hard_link(&marker, store.at(format!("diff/{top}/etc/.wh.shadow"))).unwrap();
    write(&format!("diff/{top}/var/.wh..wh..opq"), "");
    write(&format!("diff/{top}/var/new"), "new");
    write(&format!("diff/{init}/etc/hostname"), "");
    let layers_before: Vec<_> = store.names("layers").iter().map(|it| store.layers_file(&id(it))).collect();

    store.within(&id(container), |root| {
        assert_eq!(names(root), ["etc", "var"]);
        assert_eq!(names(&root.join("etc")), ["hostname", "passwd"]);
        assert_eq!(names(&root.join("var")), ["new"]);
        fs::remove_file(root.join("etc/passwd")).unwrap();
    });
    assert!(store.at(format!("diff/{container}/etc/.wh.passwd")).exists());
    let layers_after: Vec<_> = store.names("layers").iter().map(|it| store.layers_file(&id(it))).collect();
    assert_eq!((store.driver.status().dirs, layers_after), (4, layers_before));
    assert_eq!(fs::read_to_string(store.at(format!("diff/{base}/etc/passwd"))).unwrap(), "root");
}

#[test]
fn fuse_root_somebody_elses_mount_is_left_alone() {
    if skip() {
        return;
    }
    let store = Store::new();
    store.create("1", "");
    let child = store.create("2", "1");
    let (target, none) = (store.at("mnt/2"), None::<&str>);
    nix::mount::mount(Some("tmpfs"), &target, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    let refused = kind_of(store.driver.get(&child, None));
    nix::mount::umount(&target).unwrap();
    let StorageErrorKind::Foreign { fs_type, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(fs_type, "tmpfs");
    store.within(&child, |root| assert!(is_mounted(root)));
}

#[test]
fn root_a_layers_file_that_names_no_stack_is_refused() {
    if skip() {
        return;
    }
    let store = Store::new();
    let layer = store.create("1", "");
    for text in ["../../etc\n", "1\n", "2\n2\n", "\u{fffd}\n"] {
        fs::write(store.at("layers/1"), text).unwrap();
        assert!(
            matches!(kind_of(store.driver.get(&layer, None)), StorageErrorKind::LayersFile(_)),
            "{text:?}"
        );
    }
    // It can be removed all the same.
    store.remove(&layer);
    fs::create_dir(store.at("layers/dir")).unwrap();
    let stray = Path::new("layers/stray");
    fs::write(store.at(stray), "").unwrap();
    fs::set_permissions(store.at(stray), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.driver.status().dirs, 1, "all but directories, as Docker counts");
}

/// Each thread has a driver of its own, as another process would.
#[test]
fn root_one_of_many_that_create_a_layer_at_once_does_and_the_others_are_told() {
    if skip() {
        return;
    }
    let store = Store::new();
    store.create("base", "");
    for round in 0..20 {
        let child = id(format!("child-{round}"));
        let barrier = std::sync::Barrier::new(8);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let create = || {
                let driver = store.again();
                barrier.wait();
                driver.create(&child, Some(&id("base")), &[])
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let refused: Vec<_> = outcomes.into_iter().filter(Result::is_err).map(kind_of).collect();
        assert_eq!(refused.len(), 7);
        assert!(refused.iter().all(|it| matches!(it, StorageErrorKind::Exists)), "{refused:?}");
        assert_eq!(store.layers_file(&child), "base\n");
        assert!(
            store.names("diff").contains(&child.to_string())
                && store.names("mnt").contains(&child.to_string())
        );
    }
}

/// A command that is killed after it has mounted has counted nothing, and its server may be about to take the mount back.
#[test]
fn fuse_root_a_mount_that_nobody_counted_is_made_anew_unless_programs_use_it() {
    if skip() {
        return;
    }
    let store = Store::new();
    store.create("base", "");
    let child = store.create("child", "base");
    let root = store.driver.get(&child, None).unwrap();
    let first = server_of(&root);
    let uncount = || fs::write(store.at("../aufs-rs/counts/child"), "").unwrap();
    uncount();
    assert_eq!(store.driver.get(&child, None).unwrap(), root);
    let second = server_of(&root);
    assert_ne!(first, second);
    assert_eq!(store.driver.users(&child).unwrap(), 1);
    uncount();
    let used = fs::File::create(root.join("used")).unwrap();
    store.driver.get(&child, None).unwrap();
    assert_eq!((server_of(&root), store.driver.users(&child).unwrap()), (second, 2));
    drop(used);
    store.driver.put(&child).unwrap();
    assert!(is_mounted(&root));
    store.driver.put(&child).unwrap();
    assert!(!is_mounted(&root));
}
