//! Layers that want out, want more than there is, or are no layers: each an error that says so or a tree that is
//! well-defined, and never anything outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::os::fd::AsFd;

use archive_kit::{BLOCK, Raw, Scene, Tar, chain, outcome, put, seal};
use aufs_storage::archive::{
    ApplyOptions, ArchiveErrorKind, CompressionLimits, Limited, Limits, apply, open_compressed,
};

/// What must come of a layer.
type Expected<'a> = Result<&'a [&'a str], &'a str>;

fn check(table: &[(&str, Tar, Expected<'_>)]) {
    for (case, tar, expected) in table {
        let expected = expected.map(|it| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(outcome(&tar.clone().end()), expected.map_err(str::to_owned), "{case}");
    }
}

#[test]
fn names_cannot_lead_out() {
    let outside = Scene::new().outside();
    let absolute = outside.join("secret").to_str().unwrap().to_owned();
    assert!(outcome(&Tar::new().file(&absolute, "x").end()).is_ok());
    let tar = Tar::new;
    check(&[
        ("absolute", tar().file("/etc/passwd", "x"), Ok(&["etc/ 755", "etc/passwd 644: x"])),
        ("slashes", tar().file("//a//b", "x"), Ok(&["a/ 755", "a/b 644: x"])),
        (
            "up",
            tar().file("../outside/secret", "x"),
            Err("apply \"../outside/secret\": its path leads out of the layer"),
        ),
        ("only up", tar().dir(".."), Err("apply \"..\": its path leads out of the layer")),
        (
            "down and up",
            tar().file("a/../../outside/secret", "x"),
            Err("apply \"a/../../outside/secret\": its path leads out of the layer"),
        ),
        ("absolute up", tar().file("/../x", "x"), Err("apply \"/../x\": its path leads out of the layer")),
        ("up inside", tar().file("a/../b", "x"), Ok(&["b 644: x"])),
        (
            "zero byte",
            tar().pax(&[("path", b"a\0b")]).file("c", ""),
            Err("apply layer: extended header: a zero byte in path"),
        ),
        ("zero byte in a long name", tar().gnu_long(b'L', b"a\0/../x").file("c", "y"), Ok(&["a 644: y"])),
        ("no UTF-8", tar().file(b"\xff\xfe", "x"), Ok(&["\\xff\\xfe 644: x"])),
        ("control characters", tar().file("a\x1b[31m\n", "x"), Ok(&["a\\x1b[31m\\n 644: x"])),
        ("empty", tar().file("", "x"), Ok(&[])),
        ("the root", tar().raw(&Raw { mode: 0, ..Raw::new(b'5', "./") }).file("a", ""), Ok(&["a 644: "])),
        ("the root as a link", tar().symlink(".", "../outside").file("a", ""), Ok(&["a 644: "])),
    ]);
    let long = "n".repeat(256);
    let error = outcome(&Tar::new().pax(&[("path", long.as_bytes())]).file("a", "").end()).unwrap_err();
    assert!(error.ends_with("…: its path has a name of more than 255 bytes"), "{error}");
    assert!(error.chars().count() < 300, "{error}");
}

#[test]
fn symbolic_links_cannot_lead_out() {
    let tar = Tar::new;
    check(&[
        (
            "through a link up",
            tar().symlink("l", "../outside").file("l/secret", "x"),
            Err("apply \"l/secret\": a parent is no directory"),
        ),
        (
            "through a link to where the layer has something",
            tar().dir("outside").symlink("l", "../outside").file("l/secret", "x"),
            Ok(&["l -> ../outside", "outside/ 755", "outside/secret 644: x"]),
        ),
        (
            "through an absolute link",
            tar().dir("etc").symlink("l", "/etc").file("l/passwd", "x"),
            Ok(&["etc/ 755", "etc/passwd 644: x", "l -> /etc"]),
        ),
        (
            "through two links",
            tar().dir("d").symlink("a", "b").symlink("b", "../../d").file("a/x", "x"),
            Ok(&["a -> b", "b -> ../../d", "d/ 755", "d/x 644: x"]),
        ),
        (
            "through a link below",
            tar().dir("d").dir("e").symlink("d/l", "/e").file("d/l/s/x", "x"),
            Ok(&["d/ 755", "d/l -> /e", "e/ 755", "e/s/ 755", "e/s/x 644: x"]),
        ),
        (
            "through a circle",
            tar().symlink("a", "b").symlink("b", "a").file("a/x", "x"),
            Err("apply \"a/x\": a parent is no directory"),
        ),
        (
            "through /proc",
            tar().symlink("l", "/proc/self/cwd").file("l/x", "x"),
            Err("apply \"l/x\": a parent is no directory"),
        ),
        ("a file over a link", tar().symlink("l", "../outside/secret").file("l", "x"), Ok(&["l 644: x"])),
        (
            "a directory over a link",
            tar().symlink("l", "../outside").dir("l").file("l/secret", "x"),
            Ok(&["l/ 755", "l/secret 644: x"]),
        ),
        (
            "a link over its directory, then below",
            tar().file("d/x", "1").symlink("d", "e").dir("e").file("d/y", "2"),
            Ok(&["d -> e", "e/ 755", "e/y 644: 2"]),
        ),
        (
            "a directory that the chain of links led to goes",
            tar()
                .dir("a/b/c")
                .symlink("l", "a/b/c")
                .symlink("a/b/c/s", "/a")
                .file("l/s/x", "1")
                .file("l/s/b", "2")
                .file("l/y", "3"),
            Err("apply \"l/y\": a parent is no directory"),
        ),
        (
            "a directory that a link led to goes",
            tar().dir("a/b").symlink("l", "a/b").file("l/x", "1").file("a", "2").file("l/y", "3"),
            Err("apply \"l/y\": a parent is no directory"),
        ),
        ("without a target", tar().symlink("l", ""), Err("apply \"l\": its target is empty")),
        (
            "a whiteout through a link",
            tar().symlink("l", "../outside").file("l/.wh.secret", ""),
            Err("apply \"l/.wh.secret\": a parent is no directory"),
        ),
    ]);
}

#[test]
fn hard_links_cannot_lead_out() {
    let tar = Tar::new;
    let missing = "a hard link to what the layer does not hold";
    let error = |path: &str, what: &str| format!("apply {path:?}: {what}");
    let [up, absolute, through] =
        ["its target leads out of the layer", missing, missing].map(|it| error("h", it));
    check(&[
        ("up", tar().link("h", "../outside/secret"), Err(&up)),
        ("absolute", tar().link("h", "/etc/hostname"), Err(&absolute)),
        ("through a link", tar().symlink("l", "../outside").link("h", "l/secret"), Err(&through)),
        (
            "to a symbolic link",
            tar().symlink("l", "../outside/secret").link("h", "l"),
            Ok(&["h -> ../outside/secret", "l =h"]),
        ),
        (
            "to a symbolic link, then a file over it",
            tar().symlink("l", "../outside/secret").link("h", "l").file("h", "x"),
            Ok(&["h 644: x", "l -> ../outside/secret"]),
        ),
        ("to a later file", tar().link("h", "f").file("f", ""), Err(&error("h", missing))),
        ("to itself", tar().file("h", "x").link("h", "./h"), Err(&error("h", missing))),
        (
            "to itself through a link",
            tar().dir("d").file("d/h", "x").symlink("l", "d").link("l/h", "d/h"),
            Err(&error("l/h", missing)),
        ),
        ("to a directory", tar().dir("d").link("h", "d"), Err(&error("h", "a hard link to a directory"))),
        ("to the root", tar().link("h", "."), Err(&error("h", "a hard link to a directory"))),
        ("to nothing", tar().link("h", ""), Err(&error("h", "its target is empty"))),
        (
            "to a whiteout",
            tar().file(".wh.a", "").link("h", ".wh.a"),
            Err(&error("h", "a hard link to a whiteout")),
        ),
        (
            "over a directory with its target",
            tar().file("d/f", "x").link("d", "d/f"),
            Err(&error("d", missing)),
        ),
        (
            "absolute, inside",
            tar().file("a/f", "x").link("h", "/a/f"),
            Ok(&["a/ 755", "a/f 644: x", "h =a/f"]),
        ),
    ]);
}

#[test]
fn whiteouts_hide_names_and_nothing_else() {
    let tar = Tar::new;
    let nothing = |path: &str| format!("apply {path:?}: its path is a whiteout of no name");
    check(&[
        ("of nothing", tar().file(".wh.", ""), Err(&nothing(".wh."))),
        ("of .", tar().file("a/.wh..", ""), Err(&nothing("a/.wh.."))),
        ("of ..", tar().file("a/.wh...", ""), Err(&nothing("a/.wh..."))),
        ("of .. as a directory", tar().dir(".wh.../"), Err(&nothing(".wh.../"))),
        ("of ...", tar().file(".wh....", ""), Ok(&[".wh...."])),
        ("as a parent", tar().file(".wh.a/b", ""), Err("apply \".wh.a/b\": its path lies below a whiteout")),
        (
            "below an opaque marker",
            tar().file("d/.wh..wh..opq/b", ""),
            Err("apply \"d/.wh..wh..opq/b\": its path lies below a whiteout"),
        ),
        (
            "of every type, with data",
            tar()
                .file(".wh.a", "data")
                .dir(".wh.b")
                .symlink(".wh.c", "/etc")
                .fifo(".wh.d")
                .device(".wh.e", 0, 0)
                .link(".wh.f", ".wh.a")
                .link(".wh.g", ".wh..wh.aufs"),
            Ok(&[".wh.a", ".wh.b", ".wh.c", ".wh.d", ".wh.e", ".wh.f", ".wh.g"]),
        ),
        (
            "opaque of every type",
            tar().dir("a/.wh..wh..opq").link("b/.wh..wh..opq", "x").symlink(".wh..wh..opq", ".."),
            Ok(&[".wh..wh..opq", "a/ 755", "a/.wh..wh..opq", "b/ 755", "b/.wh..wh..opq"]),
        ),
        ("twice", tar().file(".wh.a", "").dir(".wh.a"), Ok(&[".wh.a"])),
        (
            "of a file of the same layer",
            tar().file(".wh.a", "").file("a", "x").file("b", "x").file(".wh.b", ""),
            Ok(&["a 644: x", "b 644: x"]),
        ),
        (
            "of a directory of the same layer",
            tar().file(".wh.d", "").file("d/x", "1"),
            Ok(&["d/ 755", "d/.wh..wh..opq", "d/x 644: 1"]),
        ),
        (
            "of a directory that went again",
            tar().file("d/.wh.x", "").file("d/x", "").file("d", "y"),
            Ok(&["d 644: y"]),
        ),
    ]);
}

#[test]
fn bookkeeping_stays_behind_and_pseudo_links_become_files() {
    let tar = Tar::new;
    check(&[
        (
            "of old images",
            tar().dir("./").file(".wh..wh.aufs", "").dir(".wh..wh.orph").dir(".wh..wh.plnk").file("a", "x"),
            Ok(&["a 644: x"]),
        ),
        ("below", tar().file(".wh..wh.orph/x/y", "1").file("d/.wh..wh.e.1a2b/x", "2"), Ok(&[])),
        ("by another path", tar().symlink("d", ".").file("d/.wh..wh.plnk/1", "x"), Ok(&["d -> ."])),
        (
            "names of one file",
            tar()
                .file(".wh..wh.plnk/1.2", "xyz")
                .link("d/a", ".wh..wh.plnk/1.2")
                .link("b", "/.wh..wh.plnk/1.2"),
            Ok(&["b 644: xyz", "d/ 755", "d/a =b"]),
        ),
        (
            "the last of two counts",
            tar().file(".wh..wh.plnk/1", "1").file(".wh..wh.plnk/1", "2").link("a", ".wh..wh.plnk/1"),
            Ok(&["a 644: 2"]),
        ),
        ("unused", tar().file(".wh..wh.plnk/1", "1"), Ok(&[])),
        (
            "unknown",
            tar().link("a", ".wh..wh.plnk/1"),
            Err("apply \"a\": a hard link to an unknown pseudo-link"),
        ),
        (
            "known, but not of a file",
            tar().symlink(".wh..wh.plnk/1", "x").link("a", ".wh..wh.plnk/1"),
            Err("apply \"a\": a hard link to an unknown pseudo-link"),
        ),
        (
            "up from there",
            tar().link("a", ".wh..wh.plnk/../../outside/secret"),
            Err("apply \"a\": its target leads out of the layer"),
        ),
        (
            "into another one's",
            tar().file(".wh..wh.plnk/1", "1").link("a", ".wh..wh.apply/0"),
            Err("apply \"a\": a hard link to what the layer does not hold"),
        ),
        (
            "onto another one's",
            tar().file(".wh..wh.plnk/1", "1").file(".wh..wh.apply/0", "2").link("a", ".wh..wh.plnk/1"),
            Ok(&["a 644: 1"]),
        ),
        (
            "taken away through a link",
            tar()
                .file(".wh..wh.plnk/1", "1")
                .symlink("l", ".wh..wh.apply")
                .file("l/0", "2")
                .link("a", ".wh..wh.plnk/1"),
            Ok(&["a 644: 2", "l -> .wh..wh.apply"]),
        ),
    ]);
}

#[test]
fn entries_come_over_what_is_there() {
    let tar = Tar::new;
    check(&[
        ("file over file", tar().file("a", "1").file("a", "2"), Ok(&["a 644: 2"])),
        (
            "over one of two names",
            tar().file("a", "1").link("b", "a").file("a", "2"),
            Ok(&["a 644: 2", "b 644: 1"]),
        ),
        ("fifo over file", tar().file("a", "1").fifo("a"), Ok(&["a 644 fifo"])),
        ("file over fifo", tar().fifo("a").file("a", "1"), Ok(&["a 644: 1"])),
        (
            "file over a full directory",
            tar().file("d/e/f", "1").file("d/g", "2").file("d", "3"),
            Ok(&["d 644: 3"]),
        ),
        (
            "directory over file",
            tar().file("d", "1").dir("d").file("d/x", "2"),
            Ok(&["d/ 755", "d/x 644: 2"]),
        ),
        (
            "directory over directory",
            tar().file("d/x", "1").raw(&Raw { mode: 0o700, ..Raw::new(b'5', "d") }),
            Ok(&["d/ 700", "d/x 644: 1"]),
        ),
        (
            "below a file",
            tar().file("a", "1").file("a/b", "2"),
            Err("apply \"a/b\": a parent is no directory"),
        ),
        ("link over link", tar().symlink("l", "a").symlink("l", "b"), Ok(&["l -> b"])),
    ]);
}

#[test]
fn limits_are_errors_of_their_own() {
    let tar = Tar::new;
    let small = Limits {
        entries: 3,
        bytes: 1000,
        archive_bytes: 20_000,
        path_len_bytes: 40,
        depth: 3,
        link_len_bytes: 10,
        xattr_bytes: 100,
        extended_header_bytes: 2000,
        extents: 2,
        held_bytes: 1000,
    };
    let long_value = vec![b'v'; 3000];
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,0,1,0,2,0,3,0")];
    for (what, max, layer) in [
        (Limited::Entries, 3, tar().dir("a").dir("b").dir("./").file("c", "")),
        (Limited::Bytes, 1000, tar().file("a", vec![0; 600]).file("b", vec![0; 600])),
        (
            Limited::Bytes,
            1000,
            tar().raw(&Raw { size: Some(10_000), ..Raw::new(b'0', "a") }).bytes(&[0; 10_240]),
        ),
        (Limited::ArchiveBytes, 20_000, tar().raw(&Raw { size: Some(10 << 30), ..Raw::new(b'0', "a") })),
        (Limited::ArchiveBytes, 20_000, tar().bytes(&[0; 30_000])),
        (Limited::ArchiveBytes, 20_000, tar().pax(&[("size", b"99999999999999999")]).file("a", "")),
        (Limited::PathLen, 40, tar().file("12345678/".repeat(5), "")),
        (Limited::Depth, 3, tar().file("a/b/c/d", "")),
        (Limited::LinkLen, 10, tar().symlink("l", "12345678901")),
        (Limited::LinkLen, 10, tar().link("l", "12345678901")),
        (Limited::XattrBytes, 100, tar().pax(&[("SCHILY.xattr.user.a", &long_value[..101])]).file("a", "")),
        (Limited::ExtendedHeaderBytes, 2000, tar().pax(&[("comment", &long_value)]).file("a", "")),
        (Limited::ExtendedHeaderBytes, 2000, tar().gnu_long(b'L', &long_value).file("a", "")),
        (Limited::ExtendedHeaderBytes, 2000, tar().raw(&Raw { size: Some(19_000), ..Raw::new(b'x', "p") })),
        (Limited::Extents, 2, tar().pax(sparse).file("a", "")),
        (Limited::HeldBytes, 1000, (0..9).fold(tar(), |tar, at| tar.file(format!("{at}/{at}/a"), ""))),
    ] {
        let limits =
            if what == Limited::HeldBytes { Limits { entries: 100, ..small.clone() } } else { small.clone() };
        let options = ApplyOptions { limits, ..ApplyOptions::default() };
        let error = Scene::new().apply_with(&layer.end(), &options).unwrap_err();
        match error.kind {
            ArchiveErrorKind::Limit { what: found, max: found_max } => {
                assert_eq!((found, found_max), (what, max))
            }
            _ => panic!("{what:?}: {}", chain(&error)),
        }
    }
}

#[test]
fn ten_gigabytes_are_not_believed() {
    // The size is within the default limits, so it is the data that is missing.
    let claimed = Tar::new().raw(&Raw { size: Some(10 << 30), ..Raw::new(b'0', "a") }).file("b", "x").end();
    let scene = Scene::new();
    let error = scene.apply(&claimed).unwrap_err();
    assert_eq!(chain(&error), "apply \"a\": the archive ends in the middle of an entry");
    assert!(std::fs::metadata(scene.root().join("a")).unwrap().len() < 10_000);
    let too_large = Tar::new().raw(&Raw { size: Some(1 << 30), ..Raw::new(b'x', "a") }).end();
    assert_eq!(
        outcome(&too_large).unwrap_err(),
        "apply layer: more than 1048576 bytes of an extended header"
    );
    let error =
        outcome(&Tar::new().pax(&[("size", b"18446744073709551615")]).file("a", "").end()).unwrap_err();
    assert_eq!(error, format!("apply layer: more than {} bytes of archive", 128_u64 << 30));
    // A hole costs nothing, but what it claims counts.
    let hole: &[(&str, &[u8])] =
        &[("GNU.sparse.realsize", b"9223372036854775807"), ("GNU.sparse.map", b"0,0")];
    let error = outcome(&Tar::new().pax(hole).file("a", "").end()).unwrap_err();
    assert_eq!(error, format!("apply \"a\": more than {} bytes of files", 64_u64 << 30));
}

#[test]
fn a_bomb_ends_before_it_fills_the_disk() {
    use std::io::Write;
    let size: usize = 32 << 20;
    let mut tar = Tar::new().raw(&Raw { size: Some(size as u64), ..Raw::new(b'0', "zeros") }).cut();
    tar.resize(tar.len() + size + 2 * BLOCK, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let bombs = [gzip.finish().unwrap(), zstd::encode_all(tar.as_slice(), 3).unwrap()];
    let limits = CompressionLimits { ratio: 20, ratio_from_bytes: 1 << 20, ..CompressionLimits::default() };
    for bomb in bombs {
        let scene = Scene::new();
        let root = std::fs::File::open(scene.root()).unwrap();
        let reader = open_compressed(bomb.as_slice(), &limits).unwrap();
        let error = apply(root.as_fd(), reader, &ApplyOptions::default()).unwrap_err();
        assert_eq!(chain(&error), "apply \"zeros\": more than 20 bytes for each compressed one");
        assert!(std::fs::metadata(scene.root().join("zeros")).unwrap().len() < 16 << 20);
        let lenient = CompressionLimits { ratio: u64::MAX, ..limits.clone() };
        let reader = open_compressed(bomb.as_slice(), &lenient).unwrap();
        let applied = apply(root.as_fd(), reader, &ApplyOptions::default()).unwrap();
        assert_eq!((applied.size_bytes, applied.archive_bytes), (size as u64, tar.len() as u64));
    }
}

#[test]
fn a_cut_archive_is_an_error_or_ends_between_two_entries() {
    let long = vec![b'n'; 150];
    let parts = [
        Tar::new().file("a", vec![b'a'; 1300]).cut(),
        Tar::new().pax(&[("path", b"renamed"), ("comment", &vec![b'c'; 700])]).file("b", "b").cut(),
        Tar::new().gnu_long(b'L', &long).file("c", vec![b'c'; BLOCK]).cut(),
        Tar::new().dir("d").symlink("e", "f").cut(),
    ];
    let whole = [parts.concat(), vec![0; 2 * BLOCK]].concat();
    // Where an archive may end: behind each entry.
    let mut ends = vec![0];
    ends.extend(parts.iter().scan(0, |end, part| {
        *end += part.len();
        Some(*end)
    }));
    ends.extend([whole.len() - 3 * BLOCK, whole.len() - BLOCK, whole.len()]);
    for len in (0..=whole.len()).step_by(BLOCK) {
        let came = outcome(&whole[..len]);
        assert_eq!(came.is_ok(), ends.contains(&len), "{len}: {came:?}");
        if let Err(error) = came {
            let is_known = error.ends_with("the archive ends in the middle of an entry")
                || error.ends_with("an extended header belongs to no entry");
            assert!(is_known, "{len}: {error}");
        }
        for odd in [len + 1, len + 511] {
            if odd < whole.len() && odd != whole.len() - BLOCK {
                assert!(outcome(&whole[..odd]).is_err(), "{odd}");
            }
        }
    }
}

#[test]
fn damaged_headers_say_where_they_are() {
    let damaged = |at: usize, change: &dyn Fn(&mut [u8; BLOCK])| {
        let mut header = Raw::new(b'0', "b").header();
        change(&mut header);
        outcome(&Tar::new().file("a", vec![0; at]).bytes(&header).end())
    };
    let error = damaged(0, &|header| header[10] ^= 1).unwrap_err();
    assert_eq!(error, "apply layer: the header at byte 512: the checksum is wrong");
    let sealed = |at: usize, bytes: &[u8]| {
        damaged(100, &|header| {
            put(header, at, bytes);
            seal(header);
        })
    };
    for (at, bytes, name) in [
        (100, &b"zz"[..], "mode"),
        (108, &[0xff; 8], "uid"),
        (108, b"-1", "uid"),
        (116, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "gid"),
        (116, &[0x80, 0, 0, 1, 0, 0, 0, 0], "gid"),
        (124, b"99999999999", "size"),
        (124, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "size"),
        (136, b"x", "mtime"),
    ] {
        let error =
            format!("apply layer: the header at byte 1024: the field {name} holds no number that fits");
        assert_eq!(sealed(at, bytes), Err(error), "{name}");
    }
    assert_eq!(sealed(156, b"V"), Err("apply layer: entries of type 0x56 are not known".to_owned()));
    let after = Tar::new().bytes(&[0; BLOCK]).file("a", "").end();
    assert_eq!(
        outcome(&after).unwrap_err(),
        "apply layer: the header at byte 512: something follows a zero block"
    );
    let dangling = Tar::new().pax(&[("path", b"x")]).end();
    assert_eq!(
        outcome(&dangling).unwrap_err(),
        "apply layer: the header at byte 1024: an extended header belongs to no entry"
    );
    assert_eq!(outcome(b""), Ok(Vec::new()));
    assert!(outcome(b"no archive at all").is_err());
    assert!(outcome(&[b'x'; 4096]).is_err());
}

#[test]
fn long_values_and_deep_paths_are_fine() {
    let value = vec![b'v'; 65_000];
    let scene = Scene::new();
    let tar = Tar::new().pax(&[("comment", &value), ("SCHILY.xattr.user.note", b"x")]).file("a", "x").end();
    let applied = scene.apply(&tar).unwrap();
    assert_eq!(applied.refused_xattrs, 0);
    assert_eq!(scene.lines(), ["a 644: x"]);
    // What no file system takes is the host's answer, not ours.
    let tar = Tar::new().pax(&[("SCHILY.xattr.user.note", &vec![b'v'; 65_537])]).file("a", "x").end();
    assert!(outcome(&tar).unwrap_err().starts_with("apply \"a\": setxattr: "));
    for depth in [40, 1000] {
        let path = "d/".repeat(depth) + "f";
        let tar = Tar::new().pax(&[("path", path.as_bytes())]).file("x", "deep").file("g", "").cut();
        let tar =
            Tar::new().bytes(&tar).pax(&[("path", path.replace('f', "h").as_bytes())]).file("x", "").end();
        let scene = Scene::new();
        scene.apply(&tar).unwrap();
        assert_eq!(scene.lines().len(), depth + 3);
        // Its removal takes no more descriptors than its making.
        scene.apply(&Tar::new().file("d", "").end()).unwrap();
        assert_eq!(scene.lines(), ["d 644: ", "g 644: "]);
    }
}
