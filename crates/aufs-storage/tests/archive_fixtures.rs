//! The hostile layers of `fixtures/layers`: what they are, and what comes of each.
//!
//! The files are what the table here builds; `UPDATE_FIXTURES=1` writes them anew. The fuzz targets start from them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;

use archive_kit::{BLOCK, Raw, Scene, Tar, chain, put, seal};
use aufs_storage::archive::{ApplyOptions, CompressionLimits, Devices, Owners, apply, open_compressed};

/// Name, bytes, and how the result begins: `ok`, or what the error says.
type Fixture = (&'static str, Vec<u8>, &'static str);

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers")
}

fn changed(raw: &Raw, change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut header = Raw { uid: 0, gid: 0, ..raw.clone() }.header();
    change(&mut header);
    header.to_vec()
}

/// Names and links that want out.
fn escapes() -> Vec<Fixture> {
    let tar = Tar::of_root;
    vec![
        ("absolute-path.tar", tar().file("/etc/passwd", "x").end(), "ok"),
        ("dot-dot.tar", tar().file("../outside/secret", "x").end(), "its path leads out"),
        ("dot-dot-inside.tar", tar().file("a/../../outside/secret", "x").end(), "its path leads out"),
        (
            "symlink-then-through.tar",
            tar().symlink("l", "../outside").file("l/secret", "x").end(),
            "a parent is no directory",
        ),
        ("symlink-absolute.tar", tar().dir("tmp").symlink("l", "/tmp").file("l/x", "x").end(), "ok"),
        (
            "symlink-to-proc.tar",
            tar().symlink("l", "/proc/self/root").file("l/tmp/x", "x").end(),
            "a parent is no directory",
        ),
        ("hard-link-out.tar", tar().link("h", "../outside/secret").end(), "its target leads out"),
        (
            "hard-link-through-symlink.tar",
            tar().symlink("l", "../outside").link("h", "l/secret").end(),
            "a hard link to what",
        ),
        (
            "hard-link-to-symlink.tar",
            tar().symlink("l", "../outside/secret").link("h", "l").file("h", "x").end(),
            "ok",
        ),
        (
            "directory-over-symlink.tar",
            tar().symlink("l", "../outside").dir("l").file("l/secret", "x").end(),
            "ok",
        ),
        ("invalid-utf8.tar", tar().file(b"\xff\xc0", "x").end(), "ok"),
        (
            "zero-in-name.tar",
            tar().pax(&[("path", b"a\0b")]).file("c", "").end(),
            "extended header: a zero byte",
        ),
        (
            "deep.tar",
            tar().pax(&[("path", "d/".repeat(1500).as_bytes())]).dir("d").end(),
            "more than 1024 names",
        ),
    ]
}

/// Whiteouts and bookkeeping of aufs.
fn markers() -> Vec<Fixture> {
    let tar = Tar::of_root;
    vec![
        ("whiteout-of-dot-dot.tar", tar().file(".wh...", "").end(), "its path is a whiteout of no name"),
        ("whiteout-of-nothing.tar", tar().file("d/.wh.", "").end(), "its path is a whiteout of no name"),
        (
            "whiteout-as-parent.tar",
            tar().dir(".wh.a").file(".wh.a/b", "").end(),
            "its path lies below a whiteout",
        ),
        (
            "whiteouts-of-every-type.tar",
            tar()
                .link(".wh.a", ".wh..wh.aufs")
                .dir(".wh.b")
                .symlink(".wh.c", "..")
                .device(".wh.d", 0, 0)
                .end(),
            "ok",
        ),
        ("whiteout-beside-its-victim.tar", tar().file(".wh.d", "").file("d/x", "1").end(), "ok"),
        ("opaque-last.tar", tar().file("d/x", "1").link("d/.wh..wh..opq", "d/x").end(), "ok"),
        ("pseudo-link.tar", tar().file(".wh..wh.plnk/1.2", "xyz").link("a", ".wh..wh.plnk/1.2").end(), "ok"),
        (
            "pseudo-link-unknown.tar",
            tar().link("a", ".wh..wh.plnk/1.2").end(),
            "a hard link to an unknown pseudo-link",
        ),
        (
            "pseudo-link-out.tar",
            tar().link("a", ".wh..wh.plnk/../../outside/secret").end(),
            "its target leads out",
        ),
        (
            "pseudo-link-taken-over.tar",
            tar()
                .file(".wh..wh.plnk/1", "1")
                .symlink("l", ".wh..wh.apply")
                .symlink("l/0", "../../outside/secret")
                .link("a", ".wh..wh.plnk/1")
                .end(),
            "ok",
        ),
    ]
}

/// Archives that are none, or claim too much.
fn formats() -> Vec<Fixture> {
    let tar = Tar::of_root;
    let huge = Raw { size: Some(10 << 30), ..Raw::new(b'0', "a") };
    let overlapping: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"3,2,1,2")];
    let global = Raw::new(b'g', "g").data(archive_kit::record("path", b"../evil"));
    vec![
        ("ten-gigabytes.tar", tar().raw(&huge).end(), "the archive ends in the middle"),
        (
            "huge-extended-header.tar",
            tar().raw(&Raw { flag: b'x', ..huge.clone() }).end(),
            "more than 1048576 bytes of an extended header",
        ),
        (
            "huge-size-record.tar",
            tar().pax(&[("size", b"18446744073709551615")]).file("a", "").end(),
            "more than",
        ),
        (
            "negative-size.tar",
            changed(&Raw::new(b'0', "a"), |header| {
                put(header, 124, &[0xff; 12]);
                seal(header);
            }),
            "the header at byte 0: the field size",
        ),
        (
            "wrong-checksum.tar",
            changed(&Raw::new(b'0', "a"), |header| header[0] = b'b'),
            "the header at byte 0: the checksum",
        ),
        (
            "cut.tar",
            tar().file("a", [1; 600]).cut()[..BLOCK + 300].to_vec(),
            "the archive ends in the middle",
        ),
        (
            "malformed-record.tar",
            tar().raw(&Raw::new(b'x', "p").data("99 path=a\n")).file("b", "").end(),
            "extended header: a record",
        ),
        (
            "overlapping-pieces.tar",
            tar().pax(overlapping).file("a", "abcd").end(),
            "sparse file: the pieces overlap",
        ),
        ("global-header.tar", tar().raw(&global).file("a", "").end(), "ok"),
        ("unknown-type.tar", tar().raw(&Raw::new(b'V', "volume")).end(), "entries of type 0x56"),
        ("duplicates.tar", tar().file("a", "1").file("a", "2").dir("a").file("a/b", "3").end(), "ok"),
        ("fifo-over-file.tar", tar().file("a", "1").fifo("a").end(), "ok"),
        ("device-over-file.tar", tar().file("a", "1").device("a", 1, 3).end(), "ok"),
        ("file-over-directory.tar", tar().file("d/e/f", "1").file("d", "2").end(), "ok"),
        ("below-a-file.tar", tar().file("a", "1").file("a/b", "2").end(), "a parent is no directory"),
        ("bomb.tar.gz", bomb(), "more than 500 bytes for each compressed one"),
    ]
}

/// Ten megabytes of zeros, which are ten kilobytes; with its size as time of nobody.
fn bomb() -> Vec<u8> {
    let size: usize = 10 << 20;
    let mut tar = Tar::of_root().raw(&Raw { size: Some(size as u64), ..Raw::new(b'0', "zeros") }).cut();
    tar.resize(tar.len() + size + 2 * BLOCK, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn each_hostile_layer_ends_as_it_must() {
    let fixtures = [escapes(), markers(), formats()].concat();
    let directory = directory();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes, _) in &fixtures {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
    let names: BTreeSet<String> = fixtures.iter().map(|it| it.0.to_owned()).collect();
    let there = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), names);

    let options =
        ApplyOptions { owners: Owners::Caller, devices: Devices::MakeOrSkip, ..ApplyOptions::default() };
    let compression = CompressionLimits { ratio_from_bytes: 1 << 20, ..CompressionLimits::default() };
    for (name, bytes, expected) in &fixtures {
        let read = fs::read(directory.join(name)).unwrap();
        // What a version of the compressor makes of the same bytes is its own affair.
        assert!(
            &read == bytes || name.ends_with(".gz"),
            "{name} is not what the table says; UPDATE_FIXTURES=1"
        );
        let scene = Scene::new();
        let root = fs::File::open(scene.root()).unwrap();
        let reader = open_compressed(read.as_slice(), &compression).unwrap();
        let came = match apply(root.as_fd(), reader, &options) {
            Ok(_) => "ok".to_owned(),
            Err(error) => chain(std::error::Error::source(&error).unwrap()),
        };
        assert!(came.starts_with(expected), "{name}: {came}");
        scene.check();
    }
}
