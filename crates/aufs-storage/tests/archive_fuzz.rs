//! Whatever the bytes are, unpacking ends, and nothing outside changes.
//!
//! `cargo test` replays the corpus in `__fuzz__` – of layers, those of `fixtures/layers` – and tries random inputs;
//! the same targets run under a fuzzer with `cargo bolero test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::path::Path;

use archive_kit::{BLOCK, Raw, Scene, Tar, paths_below, record, seal};
use aufs_storage::archive::{ApplyOptions, Devices, Form, Limits, Owners};
use aufs_storage::id::LayerId;
use aufs_storage::layers_file;
use bolero::check;

/// Random inputs of each kind that a plain `cargo test` tries.
const ITERATIONS: usize = 200;

fn options() -> ApplyOptions {
    let limits = Limits { entries: 100, bytes: 1 << 20, archive_bytes: 1 << 20, ..Limits::default() };
    ApplyOptions { limits, owners: Owners::Caller, devices: Devices::Refuse, ..ApplyOptions::default() }
}

/// Unpacks into a tree that is in use, which gets no whiteout, no draft, and loses no directory.
fn unpack_into_tree(tar: &[u8]) {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.root().join("d/a")).unwrap();
    std::fs::write(scene.root().join("a"), "old").unwrap();
    std::os::unix::fs::symlink("../outside", scene.root().join("l")).unwrap();
    drop(scene.apply_with(tar, &ApplyOptions { form: Form::Tree, ..options() }));
    assert!(scene.root().join("d/a").is_dir());
    for path in paths_below(&scene.root(), |_| true) {
        let name = path.file_name().unwrap().as_encoded_bytes();
        assert!(!name.starts_with(b".wh.") && !name.starts_with(b".aufs-"), "{path:?}");
    }
}

/// Unpacks, and what is unpacked can be packed and unpacked to the same bytes.
fn unpack(tar: &[u8]) {
    unpack_into_tree(tar);
    let scene = Scene::new();
    if let Ok(applied) = scene.apply_with(tar, &options()) {
        let packed = scene.pack().1;
        let again = Scene::new();
        let generous = ApplyOptions { limits: Limits::default(), ..options() };
        let second = again.apply_with(&packed, &generous).unwrap();
        assert_eq!(again.pack().1, packed);
        assert_eq!(second.size_bytes, applied.size_bytes);
    }
}

/// Makes the checksum of each block right that looks like a header, so that more than the checksum is tried.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let (blocks, _) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks.iter_mut().filter(|it| it[257..262] == *b"ustar") {
        seal(block);
    }
    bytes
}

#[test]
fn any_bytes_unpack_or_are_refused() {
    check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        unpack(bytes);
        unpack(&sealed(bytes));
    });
}

/// What names and targets are made of.
const NAMES: [&str; 20] = [
    "a",
    "b",
    "c",
    "d",
    "l",
    ".",
    "..",
    "",
    "/",
    ".wh.a",
    ".wh.d",
    ".wh..wh..opq",
    ".wh.",
    ".wh..",
    ".wh...",
    ".wh..wh.plnk",
    ".wh..wh.apply",
    "0",
    "outside",
    "secret",
];

/// Types of entries, the frequent ones more than once.
const FLAGS: [u8; 16] = *b"0000115522226x7L";

/// One entry: type, name, target or records, data.
type Step = (u8, Vec<u8>, Vec<u8>, Vec<u8>);

/// Where a byte changes and to what.
type Damage = Vec<(u16, u8)>;

fn path(parts: &[u8]) -> String {
    let names: Vec<&str> = parts.iter().take(6).map(|it| NAMES[usize::from(*it) % NAMES.len()]).collect();
    names.join("/")
}

/// What an extended header says.
fn records(parts: &[u8], data: &[u8]) -> Vec<u8> {
    let text = path(parts);
    let number = format!("{}", data.len());
    match data.first().unwrap_or(&0) % 6 {
        0 => record("path", text.as_bytes()),
        1 => record("linkpath", text.as_bytes()),
        2 => record("size", number.as_bytes()),
        3 => record("SCHILY.xattr.user.x", data),
        4 => [record("GNU.sparse.size", b"5000"), record("GNU.sparse.map", format!("9,{number}").as_bytes())]
            .concat(),
        _ => record("mtime", format!("-{number}.5").as_bytes()),
    }
}

fn build(steps: &[Step]) -> Vec<u8> {
    let steps = steps.iter().take(12);
    steps
        .fold(Tar::new(), |tar, (flag, name, target, data)| {
            let flag = FLAGS[usize::from(*flag) % FLAGS.len()];
            let raw = Raw::new(flag, path(name)).link(path(target));
            tar.raw(&match flag {
                b'0' | b'7' => raw.data(data),
                b'x' => raw.data(records(target, data)),
                b'L' => raw.data(path(target)),
                _ => raw,
            })
        })
        .end()
}

#[test]
fn random_layers_stay_inside() {
    check!().with_iterations(3 * ITERATIONS).with_type::<Vec<Step>>().for_each(|steps| unpack(&build(steps)));
}

#[test]
fn damaged_layers_stay_inside() {
    check!().with_iterations(2 * ITERATIONS).with_type::<(Vec<Step>, Damage, bool)>().for_each(
        |(steps, damage, is_sealed)| {
            let mut tar = build(steps);
            for (at, byte) in damage {
                let len = tar.len();
                tar[usize::from(*at) % len] = *byte;
            }
            unpack(&if *is_sealed { sealed(&tar) } else { tar });
        },
    );
}

#[test]
fn any_file_of_ancestors_reads_back_or_is_refused() {
    let own: LayerId = "own".parse().unwrap();
    check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
        if let Ok(ancestors) = layers_file::parse(&own, bytes) {
            assert!(!ancestors.contains(&own));
            assert_eq!(layers_file::parse(&own, layers_file::print(&ancestors).as_bytes()), Ok(ancestors));
        }
    });
}

/// A hostile layer may be one changed byte away from a worse one.
#[test]
fn damaged_fixtures_stay_inside() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers");
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for at in (0..bytes.len().min(3 * BLOCK)).step_by(127) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            unpack(&sealed(&damaged));
        }
    }
}

/// The corpora are where bolero looks for them.
#[test]
fn there_is_something_to_start_from() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__");
    for (target, count) in
        [("any_bytes_unpack_or_are_refused", 30), ("any_file_of_ancestors_reads_back_or_is_refused", 5)]
    {
        let corpus = directory.join(target).join("corpus");
        assert!(count <= std::fs::read_dir(&corpus).unwrap().count(), "{}", corpus.display());
    }
}
