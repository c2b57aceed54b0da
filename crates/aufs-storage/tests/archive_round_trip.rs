//! Random branches, packed and unpacked, are the same branches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use archive_kit::{Scene, lines, pack_dir, paths_below, without_moot_whiteouts};
use aufs_storage::changes;
use proptest::prelude::*;

/// One entry of a random tree; parents are made for it.
#[derive(Debug, Clone)]
enum Planted {
    File {
        content: Vec<u8>,
        mode: u32,
        mtime: u32,
    },
    Directory {
        mode: u32,
        mtime: u32,
    },
    Symlink(String),
    Fifo(u32),
    /// A further name of the file planted first.
    Link,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => "\\.wh\\.[a-d]",
        1 => Just(".wh..wh..opq".to_owned()),
        1 => "[ -.0-~ä-ü\n]{1,130}".prop_filter("no name", |it| it != "." && it != ".." && it.len() < 255
            && (!it.starts_with(".wh.") )),
    ]
}

fn planted() -> impl Strategy<Value = Planted> {
    prop_oneof![
        3 => (prop::collection::vec(any::<u8>(), 0..2000), 0..0o10000_u32, any::<u32>())
            .prop_map(|(content, mode, mtime)| Planted::File { content, mode, mtime }),
        1 => (0..0o10000_u32, any::<u32>()).prop_map(|(mode, mtime)| Planted::Directory { mode: mode | 0o700, mtime }),
        1 => "[a-z/.]{1,150}".prop_map(Planted::Symlink),
        1 => (0..0o1000_u32).prop_map(Planted::Fifo),
        1 => Just(Planted::Link),
    ]
}

fn is_marker(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".wh.")
}

/// Makes the entries that can be made, by other means than the code under test.
fn plant(root: &Path, entries: &BTreeMap<Vec<String>, Planted>) {
    let mut first = None;
    let mut directories = Vec::new();
    for (path, entry) in entries {
        let (base, above) = path.split_last().unwrap();
        let at = path.iter().fold(root.to_owned(), |at, name| at.join(name));
        if above.iter().any(|it| is_marker(OsStr::new(it)))
            || fs::create_dir_all(at.parent().unwrap()).is_err()
        {
            continue;
        }
        let mode = |mode: u32| fs::Permissions::from_mode(mode);
        let time = |seconds: u32| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.into());
        match entry {
            _ if is_marker(OsStr::new(base)) => {
                fs::write(&at, "").and_then(|()| fs::set_permissions(&at, mode(0o444)))
            }
            Planted::File { content, mode: bits, mtime } => fs::write(&at, content).and_then(|()| {
                first.get_or_insert_with(|| at.clone());
                let file = File::options().write(true).open(&at)?;
                file.set_permissions(mode(bits | 0o400))?;
                file.set_modified(time(*mtime))
            }),
            Planted::Directory { mode, mtime } => {
                directories.push((at.clone(), *mode, time(*mtime)));
                fs::create_dir_all(&at)
            }
            Planted::Symlink(target) => symlink(target, &at),
            Planted::Fifo(bits) => {
                let mode = rustix::fs::Mode::from_raw_mode(*bits);
                rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, mode, 0)
                    .map_err(io::Error::from)
            }
            Planted::Link => match &first {
                Some(first) => fs::hard_link(first, &at),
                None => Ok(()),
            },
        }
        .ok(); // What stands in the way of another entry stays away.
    }
    for (path, mode, time) in directories.iter().rev() {
        if let Ok(directory) = File::open(path)
            && directory.metadata().unwrap().is_dir()
        {
            directory.set_permissions(fs::Permissions::from_mode(*mode)).unwrap();
            directory.set_modified(*time).unwrap();
        }
    }
}

/// All that a layer keeps of a tree.
fn kept(top: &Path) -> Vec<String> {
    let mut lines = lines(top);
    for path in paths_below(top, |it| !is_marker(it.file_name().unwrap())) {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        lines.push(format!("{name} {} {} {}", meta.mtime(), meta.uid(), meta.gid()));
        if meta.is_file() {
            lines.push(format!("{name} {:?}", fs::read(&path).unwrap()));
        }
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn an_unpacked_branch_is_the_same_branch(
        entries in prop::collection::btree_map(prop::collection::vec(name(), 1..4), planted(), 0..12)
    ) {
        let scene = Scene::new();
        plant(&scene.root(), &entries);
        let (packed, tar) = scene.pack();
        // The same tree gives the same bytes, in whatever order its directories list.
        prop_assert_eq!(&pack_dir(&scene.root()).1, &tar);
        let again = Scene::new();
        let applied = again.apply(&tar).unwrap();
        without_moot_whiteouts(&scene.root());
        prop_assert_eq!(kept(&again.root()), kept(&scene.root()));
        prop_assert_eq!(&again.pack().1, &tar);
        prop_assert_eq!((applied.entries, applied.archive_bytes), (packed.entries, packed.archive_bytes));
        let size = changes::size(File::open(scene.root()).unwrap().as_fd()).unwrap();
        prop_assert_eq!(applied.size_bytes, size);
    }
}
