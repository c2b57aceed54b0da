//! Copies between the host and containers: the rules of `docker cp`, owners, and trees that come back as they went.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use aufs_storage::archive::{Form, PackOptions, pack};
use aufs_storage::container::{Container, ContainerStore, CopyOptions};
use aufs_storage::driver::Removal;
use aufs_storage::image::LoadOptions;
use aufs_testkit::layers::docker_save;
use aufs_testkit::tree::{plant, read_lines};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use serde_json::Value;
use store::{Store, is_mounted, server_of, shown, skip};

const PLAIN: CopyOptions<'_> = CopyOptions { keeps_owners: false, follows_link: false, interrupt: None };
const FOLLOWED: CopyOptions<'_> = CopyOptions { keeps_owners: false, follows_link: true, interrupt: None };
const KEPT: CopyOptions<'_> = CopyOptions { keeps_owners: true, follows_link: false, interrupt: None };

/// What lies in `w`, in the image and on the host.
const WORLD: [&str; 10] = [
    "file: F",
    "dir/inner: I",
    "dir/sub/deep: D",
    "have/old: O",
    "taken: T",
    "to-have -> have",
    "to-taken -> taken",
    "to-new -> new",
    "to-file -> file",
    "to-dir -> dir",
];

/// Containers of an image of a planted tree, and a directory of the host.
struct Bed {
    store: Store,
    host: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { store: Store::new(), host: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.host.path().join(path)
    }

    /// Opens the containers, with an image, `it`, of what `w` of the host holds.
    fn containers(&self) -> ContainerStore<'_> {
        fs::create_dir_all(self.at("image/w")).unwrap();
        plant(&self.at("image/w"), &WORLD).unwrap();
        let dir = tempfile::tempdir().unwrap();
        docker_save(dir.path(), "it", &Value::Null, &[packed(&self.at("image"))]);
        let containers = ContainerStore::open(&self.store.driver).unwrap();
        containers.images().load(dir.path(), &LoadOptions::default(), &()).unwrap();
        containers
    }

    /// The tree `w` of a container as lines, however it is there.
    fn lines(&self, container: &Container) -> BTreeSet<String> {
        self.store.within(&container.id, |root| lines(&root.join("w")))
    }

    /// Checks that a container is mounted as it should be, and is used by nobody else.
    fn check(&self, container: &Container, is_started: bool) {
        let root = self.store.at("mnt").join(&container.id);
        assert_eq!(is_mounted(&root), is_started, "{}", container.name);
        assert_eq!(self.store.driver.users(&container.id).unwrap(), u64::from(is_started));
    }
}

fn lines(root: &Path) -> BTreeSet<String> {
    read_lines(root).unwrap().into_iter().filter(|it| !it.ends_with('/')).collect()
}

/// All there is to know of a tree, but for holes and fractions of seconds.
fn packed(root: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    let options = PackOptions { form: Form::Tree, ..PackOptions::default() };
    pack(File::open(root).unwrap().as_fd(), &mut tar, &options).unwrap();
    tar
}

/// Each source and destination of docker's table, and what it leads to: lines that are new, or a part of the message.
type Case = (&'static str, &'static str, CopyOptions<'static>, Result<&'static [&'static str], &'static str>);

const TABLE: [Case; 28] = {
    const TREE: &[&str] = &["new/inner: I", "new/sub/deep: D"];
    const BELOW: &[&str] = &["have/dir/inner: I", "have/dir/sub/deep: D"];
    const CONTENT: &[&str] = &["have/inner: I", "have/sub/deep: D"];
    const ONTO: &str = "is not a directory, and a directory cannot be copied onto it";
    [
        ("file", "new", PLAIN, Ok(&["new: F"])),
        ("file", "new/", PLAIN, Err("new/ does not exist; make it first")),
        ("file", "taken", PLAIN, Ok(&["taken: F"])),
        ("file", "taken/", PLAIN, Err("taken/ is not a directory")),
        ("file", "have", PLAIN, Ok(&["have/file: F"])),
        ("file", "have/", PLAIN, Ok(&["have/file: F"])),
        ("file", "none/new", PLAIN, Err("none/new does not exist; make it first")),
        ("file", "taken/new", PLAIN, Err("taken/new is not a directory")),
        ("file/", "new", PLAIN, Err("file/ is not a directory")),
        ("file/.", "new", PLAIN, Err("file/. is not a directory")),
        ("none", "new", PLAIN, Err("none does not exist")),
        ("dir", "new", PLAIN, Ok(TREE)),
        ("dir", "new/", PLAIN, Ok(TREE)),
        ("dir/.", "new", PLAIN, Ok(TREE)),
        ("dir", "taken", PLAIN, Err(ONTO)),
        ("dir/.", "taken", PLAIN, Err(ONTO)),
        ("dir", "have", PLAIN, Ok(BELOW)),
        ("dir/", "have/.", PLAIN, Ok(BELOW)),
        ("dir/.", "have", PLAIN, Ok(CONTENT)),
        ("dir/sub/../.", "./have/x/..", PLAIN, Ok(CONTENT)),
        ("to-file", "new", PLAIN, Ok(&["new -> file"])),
        ("to-file", "new", FOLLOWED, Ok(&["new: F"])),
        ("to-dir", "have", PLAIN, Ok(&["have/to-dir -> dir"])),
        ("to-dir", "have", FOLLOWED, Ok(&["have/to-dir/inner: I", "have/to-dir/sub/deep: D"])),
        ("to-dir/.", "have", PLAIN, Ok(CONTENT)),
        ("file", "to-have", PLAIN, Ok(&["have/file: F"])),
        ("file", "to-taken", PLAIN, Ok(&["taken: F"])),
        ("file", "to-new", PLAIN, Ok(&["new: F"])),
    ]
};

/// Judges what a copy did to a tree.
fn judge(case: &Case, before: &BTreeSet<String>, after: &BTreeSet<String>, outcome: Result<(), String>) {
    let (from, to, ..) = case;
    let expected: &[&str] = match (&case.3, outcome) {
        (Ok(lines), outcome) => {
            assert_eq!(outcome, Ok(()), "{from} to {to}");
            lines
        }
        (Err(part), outcome) => {
            let message = outcome.unwrap_err();
            assert!(message.ends_with(part), "{from} to {to}: {message}");
            &[]
        }
    };
    let new: Vec<_> = after.difference(before).collect();
    assert_eq!(new, expected, "{from} to {to}");
    let gone: Vec<_> = before.difference(after).collect();
    let replaced = if expected == ["taken: F"] { &["taken: T"][..] } else { &[] };
    assert_eq!(gone, replaced, "{from} to {to}");
}

#[test]
fn fuse_root_the_table_of_docker_holds_inwards() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    plant(&bed.at("w"), &WORLD).unwrap();
    for (at, case) in TABLE.iter().enumerate() {
        let container = containers.create("it", Some("one"), Vec::new()).unwrap();
        let is_started = at % 2 == 0;
        if is_started {
            containers.start("one").unwrap();
        }
        let before = bed.lines(&container);
        // A container's path may begin with a slash or not.
        let to = format!("{}w/{}", if is_started { "/" } else { "" }, case.1);
        // Joined as text, since a path would lose what stands at its end.
        let from = format!("{}/{}", bed.at("w").display(), case.0);
        let copied = containers.copy_in("one", from.as_ref(), to.as_ref(), &case.2);
        bed.check(&container, is_started);
        let after = bed.lines(&container);
        judge(case, &before, &after, copied.map(drop).map_err(|error| error.kind.to_string()));
        // The layer tells of what was written, and of nothing else.
        let written = after.difference(&before).map(|it| it.split([':', ' ']).next().unwrap());
        let told: BTreeSet<_> = shown(&containers, "one").into_iter().collect();
        for path in written.clone() {
            let kind = if path == "taken" { "C" } else { "A" };
            assert!(told.contains(&format!("{kind} /w/{path}")), "{case:?}: {told:?}");
        }
        let is_above = |line: &str| written.clone().any(|it| format!("/w/{it}").starts_with(&line[2..]));
        assert!(told.iter().all(|it| is_above(it)), "{case:?}: {told:?}");
        containers.remove("one", Removal::Force).unwrap();
    }
    assert_eq!(lines(&bed.at("w")), WORLD.iter().map(|it| (*it).to_owned()).collect());
}

#[test]
fn fuse_root_the_table_of_docker_holds_outwards() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let container = containers.create("it", Some("one"), Vec::new()).unwrap();
    for (at, case) in TABLE.iter().enumerate() {
        let is_started = TABLE.len() / 2 <= at;
        if is_started {
            containers.start("one").unwrap();
        }
        let dir = bed.at(at.to_string());
        plant(&dir, &WORLD).unwrap();
        let before = lines(&dir);
        let (from, to) = (format!("w/{}", case.0), format!("{}/{}", dir.display(), case.1));
        let copied = containers.copy_out("one", from.as_ref(), to.as_ref(), &case.2);
        bed.check(&container, is_started);
        judge(case, &before, &lines(&dir), copied.map(drop).map_err(|error| error.kind.to_string()));
    }
    assert_eq!(shown(&containers, "one"), [""; 0], "reading leaves nothing in the layer");
}

#[test]
fn fuse_root_owners_come_along_when_asked_for() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let container = containers.create("it", Some("one"), Vec::new()).unwrap();
    // A directory that the image has, too, gets the attributes of the one that is copied onto it.
    plant(&bed.at("w"), &["dir/program: P", "dir/link -> program"]).unwrap();
    for (path, uid, gid, mode) in [("w/dir/program", 7, 8, 0o6755), ("w/dir", 9, 10, 0o2711)] {
        chown(bed.at(path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(bed.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let device = bed.at("w/device");
    mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
    std::os::unix::fs::lchown(bed.at("w/dir/link"), Some(11), Some(12)).unwrap();
    let times = File::open(bed.at("w/dir")).unwrap();
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    times.set_modified(past).unwrap();
    let seen = |root: &Path| {
        ["dir", "dir/program", "dir/link"].map(|path| {
            let meta = fs::symlink_metadata(root.join(path)).unwrap();
            (meta.uid(), meta.gid(), if path == "dir/link" { 0 } else { meta.mode() & 0o7777 })
        })
    };
    let in_container = || bed.store.within(&container.id, |root| seen(&root.join("w")));
    let kept = [(9, 10, 0o2711), (7, 8, 0o6755), (11, 12, 0)];
    containers.copy_in("one", &bed.at("w/dir"), Path::new("w"), &PLAIN).unwrap();
    assert_eq!(in_container(), [(0, 0, 0o2711), (0, 0, 0o6755), (0, 0, 0)]);
    containers.copy_in("one", &bed.at("w/dir"), Path::new("w"), &KEPT).unwrap();
    assert_eq!(in_container(), kept);
    let modified = bed.store.within(&container.id, |root| fs::metadata(root.join("w/dir")).unwrap().mtime());
    assert_eq!(modified, 1_000_000_000);
    let outside = bed.at("outside");
    fs::create_dir(&outside).unwrap();
    containers.copy_out("one", Path::new("w/dir"), &outside, &PLAIN).unwrap();
    assert_eq!(seen(&outside), [(0, 0, 0o711), (0, 0, 0o755), (0, 0, 0)], "no rights on the host");
    containers.copy_out("one", Path::new("w/dir"), &outside, &KEPT).unwrap();
    assert_eq!(seen(&outside), kept);
    // Nor does a device come out by itself.
    containers.copy_in("one", &device, Path::new("w/dir"), &PLAIN).unwrap();
    let copied = containers.copy_out("one", Path::new("w/dir"), &outside, &PLAIN).unwrap();
    assert_eq!((copied.skipped_devices, outside.join("dir/device").exists()), (1, false));
    containers.copy_out("one", Path::new("w/dir/device"), &outside, &PLAIN).unwrap_err();
    containers.copy_out("one", Path::new("w/dir/device"), &outside, &KEPT).unwrap();
    assert_eq!(fs::metadata(outside.join("device")).unwrap().rdev(), makedev(1, 3));
    // And one on the host stays what it is.
    containers.copy_out("one", Path::new("w/file"), &outside.join("device"), &PLAIN).unwrap_err();
    bed.check(&container, false);
}

/// A tree with what is hard to copy.
fn plant_odd(root: &Path) {
    let long = "l".repeat(200);
    plant(root, &["a =1: linked", "d/b =1: linked", &format!("{long}: long"), "with space: s", "empty/"])
        .unwrap();
    let odd = root.join(OsString::from_vec(b"odd \xff\n\t\x01".to_vec()));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("-"), "in it").unwrap();
    symlink(OsStr::from_bytes(b"\xfe/nowhere"), root.join("dangling")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("dangling too")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o640)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"data", 32 << 20).unwrap();
    let mut capability = vec![1, 0, 0, 2];
    capability.resize(20, 0);
    for (path, name, value) in [
        ("a", "user.note", &b"n\n\0"[..]),
        ("d", "user.dir", b"d"),
        ("with space", "security.capability", &capability),
    ] {
        rustix::fs::setxattr(root.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let mut deep = root.to_owned();
    (0..50).for_each(|_| deep.push("deep"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("end"), "of it").unwrap();
    chown(root.join("d"), Some(1234), Some(0x7fff_fffe)).unwrap();
}

#[test]
fn fuse_root_a_tree_comes_back_as_it_went() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let containers = bed.containers();
    let one = containers.create("it", Some("one"), Vec::new()).unwrap();
    plant_odd(&bed.at("odd"));
    let lowers = || -> Vec<_> {
        let layers = bed.store.names("diff").into_iter().filter(|it| *it != one.id.as_str());
        layers.map(|it| packed(&bed.store.at("diff").join(it))).collect()
    };
    let before = lowers();
    for is_started in [false, true] {
        if is_started {
            containers.start("one").unwrap();
        }
        let (there, back) = (format!("w/odd-{is_started}"), bed.at(format!("back-{is_started}")));
        let copied = containers.copy_in("one", &bed.at("odd"), there.as_ref(), &KEPT).unwrap();
        assert_eq!((copied.skipped_sockets, copied.refused_xattrs), (0, 0));
        bed.store.within(&one.id, |root| {
            let sparse = fs::metadata(root.join(&there).join("sparse")).unwrap();
            assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
        });
        // Over itself once more: files are replaced, directories merge.
        containers.copy_in("one", &bed.at("odd/."), there.as_ref(), &KEPT).unwrap();
        containers.copy_out("one", there.as_ref(), &back, &KEPT).unwrap();
        bed.check(&one, is_started);
        assert!(packed(&bed.at("odd")) == packed(&back), "it came back otherwise");
        assert!(fs::metadata(back.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(fs::metadata(back.join("a")).unwrap().nlink(), 2);
    }
    assert!(lowers() == before, "a lower layer changed");
    // What is left in the layer has its final name.
    let own = bed.store.at("diff").join(&one.id).join("w");
    assert_eq!(store::names(&own), ["odd-false", "odd-true"]);

    // A container whose server died is copied from all the same.
    let root = bed.store.at("mnt").join(&one.id);
    kill(Pid::from_raw(server_of(&root)), Signal::SIGKILL).unwrap();
    containers.copy_out("one", Path::new("w/odd-true/a"), &bed.at("of the dead"), &PLAIN).unwrap();
    assert_eq!(fs::read_to_string(bed.at("of the dead")).unwrap(), "linked");
    assert_eq!(bed.store.driver.users(&one.id).unwrap(), 0);
}
