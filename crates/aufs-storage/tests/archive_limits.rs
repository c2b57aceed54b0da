//! Layers that want more than there is, and archives that are cut, damaged or none: each an error that says so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::os::fd::AsFd;

use archive_kit::{BLOCK, Raw, Scene, Tar, chain, outcome, put, seal};
use aufs_storage::archive::{
    ApplyOptions, ArchiveErrorKind, CompressionLimits, Limited, Limits, apply, open_compressed,
};

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
