//! `aufs fsck` on data roots in use: mounts, counts, busy layers; and what the command prints and exits with.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aufs_storage::container::{Container, ContainerState, ContainerStore};
use aufs_storage::driver::Removal;
use aufs_storage::fsck::{FsckOptions, Outcome, Report, Verdict, fsck};
use aufs_storage::image::{ImageStore, LoadOptions};
use aufs_testkit::layers::{archive, docker_save};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use store::{Store, id, is_mounted, server_of, skip};

const LOOK: FsckOptions = FsckOptions { repair: false, verify: false };
const REPAIR: FsckOptions = FsckOptions { repair: true, verify: false };

/// Makes a container, `one`, of an image.
fn with_container(store: &Store) -> (ContainerStore<'_>, Container) {
    let dir = tempfile::tempdir().unwrap();
    docker_save(dir.path(), "demo", &Value::Null, &[archive(&[("a", "a")]), archive(&[("b", "b")])]);
    let containers = ContainerStore::open(&store.driver).unwrap();
    containers.images().load(dir.path(), &LoadOptions::default(), &()).unwrap();
    let container = containers.create("demo", Some("one"), Vec::new()).unwrap();
    (containers, container)
}

fn root(store: &Store) -> PathBuf {
    store.at("..").canonicalize().unwrap()
}

/// The kinds of what was found.
fn kinds(report: &Report) -> Vec<String> {
    let kind = |it: &_| serde_json::to_value(it).unwrap()["kind"].as_str().unwrap().to_owned();
    report.findings.iter().map(|it| kind(&it.0.fault)).collect()
}

/// Fails unless exactly this is found, and a repair ends so.
fn mends(store: &Store, kind: &str, verdict: Verdict) -> Report {
    let looked = fsck(&root(store), LOOK).unwrap();
    assert_eq!(kinds(&looked), [kind], "{looked:#?}");
    let repaired = fsck(&root(store), REPAIR).unwrap();
    assert_eq!(repaired.verdict(), verdict, "{repaired:#?}");
    if verdict == Verdict::Repaired {
        let again = fsck(&root(store), LOOK).unwrap();
        assert_eq!(again.verdict(), Verdict::Clean, "{again:#?}");
    }
    repaired
}

#[test]
fn fuse_root_a_mount_without_server_goes() {
    if skip() {
        return;
    }
    let store = Store::new();
    let (containers, container) = with_container(&store);
    let tree = containers.start("one").unwrap();
    fs::write(tree.join("new"), "kept").unwrap();
    assert_eq!(fsck(&root(&store), REPAIR).unwrap().verdict(), Verdict::Clean, "one that is started is well");
    kill(Pid::from_raw(server_of(&tree)), Signal::SIGKILL).unwrap();
    mends(&store, "dead-mount", Verdict::Repaired);
    assert!(!is_mounted(&tree));
    assert_eq!(containers.inspect("one").unwrap().state, ContainerState::Dead);
    assert_eq!(store.driver.users(&container.id).unwrap(), 0);
    let tree = containers.start("one").unwrap();
    assert_eq!(fs::read_to_string(tree.join("new")).unwrap(), "kept");
    containers.stop("one").unwrap();
}

#[test]
fn fuse_root_what_is_mounted_is_counted_or_unmounted() {
    if skip() {
        return;
    }
    let store = Store::new();
    let (containers, container) = with_container(&store);
    let count = |layer: &str| store.at("../aufs-rs/counts").join(layer);

    // A start that was killed between mounting and counting.
    let tree = containers.start("one").unwrap();
    fs::write(count(container.id.as_str()), "").unwrap();
    mends(&store, "uncounted-mount", Verdict::Repaired);
    assert!(is_mounted(&tree));
    assert_eq!(store.driver.users(&container.id).unwrap(), 1);
    containers.stop("one").unwrap();
    assert!(!is_mounted(&tree));

    // A layer that nobody is to have mounted: while a program uses it, it stays.
    let init = id(format!("{}-init", container.id));
    let tree = store.driver.get(&init, None).unwrap();
    fs::write(count(init.as_str()), "garbage").unwrap();
    let held = fs::File::open(tree.join("a")).unwrap();
    let report = mends(&store, "uncounted-mount", Verdict::Left);
    assert!(matches!(&report.findings[0].1, Outcome::Failed(why) if why.contains("in use")), "{report:#?}");
    drop(held);
    mends(&store, "uncounted-mount", Verdict::Repaired);
    assert!(!is_mounted(&tree));

    // Somebody else's mount is not ours to take away.
    mount(Some("tmpfs"), &tree, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let looked = fsck(&root(&store), REPAIR).unwrap();
    umount2(&tree, MntFlags::MNT_DETACH).unwrap();
    assert_eq!((kinds(&looked), looked.verdict()), (vec!["foreign-mount".to_owned()], Verdict::Left));

    // Nor is that of a layer that nothing of ours tells of, which Docker may have counted.
    store.create("base", "");
    let other = store.create("other", "base");
    let tree = store.driver.get(&other, None).unwrap();
    fs::remove_file(count("other")).unwrap();
    assert_eq!(fsck(&root(&store), REPAIR).unwrap().verdict(), Verdict::Clean);
    assert!(is_mounted(&tree));
    store.driver.put(&other).unwrap();
}

#[test]
fn fuse_root_an_orphan_goes_when_nobody_uses_it() {
    if skip() {
        return;
    }
    let store = Store::new();
    drop(with_container(&store));
    let (base, top) = (store.create("x", ""), store.create("y", "x"));
    fs::write(store.at("../aufs-rs/pending/note.json"), json!({"layers": ["x", "y"]}).to_string()).unwrap();
    fs::write(store.at("diff/x/file"), "x").unwrap();
    let tree = store.driver.get(&top, None).unwrap();
    let held = fs::File::open(tree.join("file")).unwrap();
    let report = fsck(&root(&store), REPAIR).unwrap();
    assert_eq!((kinds(&report), report.verdict()), (vec!["orphan".to_owned(); 2], Verdict::Left));
    assert!(
        store.driver.exists(&base).unwrap() && is_mounted(&tree),
        "a layer stays with that which is used"
    );
    drop(held);
    let report = fsck(&root(&store), REPAIR).unwrap();
    assert_eq!(report.verdict(), Verdict::Repaired, "{report:#?}");
    assert!(!is_mounted(&tree) && !store.at("diff/x").exists() && !store.at("mnt/y").exists());
    assert_eq!(fsck(&root(&store), LOOK).unwrap().verdict(), Verdict::Clean);

    // What is mounted in what is to go is unmounted, and nothing of it goes.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "kept").unwrap();
    let inside = store.at("diff/z-removing/volume");
    fs::create_dir_all(&inside).unwrap();
    mount(Some(outside.path()), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mends(&store, "removing", Verdict::Repaired);
    assert!(!is_mounted(&inside) && !inside.exists());
    assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "kept");
}

#[test]
fn fuse_root_commands_at_work_leave_nothing_to_find() {
    if skip() {
        return;
    }
    let store = Store::new();
    let (containers, _) = with_container(&store);
    let other = tempfile::tempdir().unwrap();
    docker_save(other.path(), "other", &Value::Null, &[archive(&[("a", "a")]), archive(&[("c", "c")])]);
    std::thread::scope(|scope| {
        let lives = scope.spawn(|| {
            for round in 0..12 {
                let name = format!("two-{round}");
                containers.create("demo", Some(&name), Vec::new()).unwrap();
                containers.start(&name).unwrap();
                containers.stop(&name).unwrap();
                containers.remove(&name, Removal::IfUnused).unwrap();
            }
        });
        let images = scope.spawn(|| {
            let driver = store.again();
            let images = ImageStore::open(&driver).unwrap();
            for _ in 0..12 {
                images.load(other.path(), &LoadOptions::default(), &()).unwrap();
                images.remove("other").unwrap();
                store.create("layer", "");
                store.remove(&id("layer"));
            }
        });
        let mut looks = 0;
        while !(lives.is_finished() && images.is_finished()) {
            let report = fsck(&root(&store), if looks % 2 == 0 { LOOK } else { REPAIR }).unwrap();
            assert_eq!(report.verdict(), Verdict::Clean, "look {looks}: {report:#?}");
            looks += 1;
            // A look asks each mount, which is in use for that moment; it is not to be so all the time.
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("{looks} looks");
    });
}

fn aufs(root: &Path, words: &[&str]) -> Output {
    let mut aufs = Command::new(env!("CARGO_BIN_EXE_aufs"));
    aufs.arg("fsck").arg("--root").arg(root).args(words).stdin(Stdio::null()).output().unwrap()
}

/// A directory that cannot be written to through a mount of its own, which goes with it.
struct ReadOnly(tempfile::TempDir);

impl ReadOnly {
    fn new(of: &Path) -> Self {
        let at = tempfile::tempdir().unwrap();
        mount(Some(of), at.path(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let bed = Self(at);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, bed.0.path(), None::<&str>, flags, None::<&str>).unwrap();
        bed
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("a mount stays: {error}");
        }
    }
}

#[test]
fn fuse_root_the_command_tells_and_exits_as_fsck_does() {
    if skip() {
        return;
    }
    let store = Store::new();
    drop(with_container(&store));
    let root = root(&store);
    let told = |root: &Path, words: &[&str]| {
        let output = aufs(root, words);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{words:?}");
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap().replace(root.to_str().unwrap(), "ROOT"),
        )
    };
    let read_only = ReadOnly::new(&root);
    for words in [&[][..], &["--repair"]] {
        assert_eq!(told(read_only.0.path(), words), (0, "ROOT: 0 found, 0 repaired\n".to_owned()));
    }
    fs::create_dir(store.at("diff/x-removing")).unwrap();
    fs::write(store.at("mnt/\u{1b}[2J"), "").unwrap();
    let removing = "aufs/diff/x-removing: a deletion did not end";
    let unknown = "aufs/mnt/?[2J: nothing of the driver is called so; it is left alone; move it away";
    let lines = format!("{removing}; --repair would remove it\n{unknown}\n");
    let summary = "ROOT: 2 found, 0 repaired, 1 to be repaired by --repair\n";
    for root in [&root, read_only.0.path()] {
        assert_eq!(told(root, &[]), (4, format!("{lines}{summary}")));
    }
    let (code, text) = told(read_only.0.path(), &["--repair"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("not repaired: ") && text.contains("Read-only file system"), "{text}");
    drop(read_only);

    let (code, text) = told(&root, &["--repair", "--verify", "--json"]);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &found["repaired"], &found["left"], &found["verified"]),
        (4, &json!(1), &json!(1), &json!(2))
    );
    let first = json!({
        "path": "aufs/diff/x-removing", "fault": {"kind": "removing"}, "message": "a deletion did not end",
        "repair": "remove it", "why_not": null, "outcome": "repaired", "error": null,
    });
    assert_eq!(found["findings"][0], first);
    fs::remove_file(store.at("mnt/\u{1b}[2J")).unwrap();
    fs::create_dir(store.at("diff/x-removing")).unwrap();
    let expected = format!("{removing}; repaired: removed\nROOT: 1 found, 1 repaired; 2 layers verified\n");
    assert_eq!(told(&root, &["--repair", "--verify"]), (1, expected));
    assert_eq!(told(&root, &["--verify"]), (0, "ROOT: 0 found, 0 repaired; 2 layers verified\n".to_owned()));

    for (root, words, code, expected) in [
        (
            root.join("none"),
            &[][..],
            8,
            "aufs fsck: check ROOT/none: realpath ROOT/none: No such file or directory",
        ),
        (
            root.join("aufs"),
            &["--repair"],
            8,
            "aufs fsck: check ROOT/aufs: stat ROOT/aufs/aufs: No such file or directory",
        ),
        (root.clone(), &["--fast"], 2, "aufs: unexpected argument '--fast' found"),
    ] {
        let output = aufs(&root, words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        let expected = expected.replace("ROOT", store.at("..").canonicalize().unwrap().to_str().unwrap());
        assert!(text.starts_with(&expected) && text.lines().count() == 1, "{text}");
    }
}
