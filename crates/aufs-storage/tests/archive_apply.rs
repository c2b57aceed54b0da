//! What the formats of tar say reaches the branch: names, numbers, times, owners, attributes, holes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use archive_kit::{BLOCK, Raw, Scene, Tar, chain, lines, outcome, put, seal};
use aufs_storage::archive::{Applied, ApplyOptions, Devices, Owners};
use aufs_testkit::needs::{Need, skips};

/// Needs a program of the host.
fn program(name: &'static str) -> bool {
    Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success())
}

#[test]
fn names_and_numbers_come_from_every_format() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    let there =
        |content: &str| Ok(vec![format!("{}/ 755", "d".repeat(120)), format!("{long} 644: {content}")]);
    let pax = Tar::new().pax(&[("path", long.as_bytes())]).file("short", "pax");
    assert_eq!(outcome(&pax.end()), there("pax"));
    let gnu = Tar::new().gnu_long(b'L', &long).file("short", "gnu");
    assert_eq!(outcome(&gnu.end()), there("gnu"));
    // Of both, the long name of GNU counts, as for Go.
    let both = Tar::new().pax(&[("path", b"pax")]).gnu_long(b'L', &long).file("short", "both");
    assert_eq!(outcome(&both.end()), there("both"));
    // The last of several extended headers counts, whole.
    let twice = Tar::new().pax(&[("path", b"a"), ("size", b"3")]).pax(&[("uid", b"0")]);
    let options = ApplyOptions { owners: Owners::Caller, ..ApplyOptions::default() };
    let scene = Scene::new();
    scene.apply_with(&twice.file("b", "12345").end(), &options).unwrap();
    assert_eq!(scene.lines(), ["b 644: 12345"]);
    // An empty record takes nothing away from the header.
    assert_eq!(outcome(&Tar::new().pax(&[("path", b"")]).file("b", "").end()).unwrap(), ["b 644: "]);
    // The size of the extended header is what data is measured by.
    let sized = Tar::new().pax(&[("size", b"5")]).raw(&Raw { size: Some(0), ..Raw::new(b'0', "a") });
    assert_eq!(outcome(&sized.data(b"12345").file("b", "").end()).unwrap(), ["a 644: 12345", "b 644: "]);
    let target = "t".repeat(200);
    for tar in [
        Tar::new().pax(&[("linkpath", target.as_bytes())]).symlink("l", "short"),
        Tar::new().gnu_long(b'K', &target).symlink("l", "short"),
    ] {
        assert_eq!(outcome(&tar.end()).unwrap(), [format!("l -> {target}")]);
    }
}

#[test]
fn base_256_and_padded_numbers_are_read() {
    let uid = rustix::process::geteuid().as_raw().to_be_bytes();
    let mut header = Raw::new(b'0', "a").header();
    put(&mut header, 108, &[0x80, 0, 0, 0, uid[0], uid[1], uid[2], uid[3]]);
    put(&mut header, 124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
    put(&mut header, 136, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf6]);
    put(&mut header, 100, b"    644 ");
    seal(&mut header);
    let scene = Scene::new();
    scene.apply(&Tar::new().bytes(&header).data(b"data").end()).unwrap();
    assert_eq!(scene.lines(), ["a 644: data"]);
    assert_eq!(fs::metadata(scene.root().join("a")).unwrap().mtime(), -10);
}

#[test]
fn global_headers_say_nothing() {
    // As git-archive(1) writes it: a comment, which must not be taken for a name.
    let tar = Tar::new()
        .raw(&Raw::new(b'g', "pax_global_header").data(archive_kit::record("path", b"../evil")))
        .file("a", "1")
        .raw(&Raw::new(b'g', "g").data(vec![b'x'; 3 << 20]))
        .file("b", "2");
    assert_eq!(outcome(&tar.end()).unwrap(), ["a 644: 1", "b 644: 2"]);
}

#[test]
fn times_are_kept_to_the_nanosecond_and_set_last() {
    let tar = Tar::new()
        .raw(&Raw { mtime: 500, mode: 0o555, ..Raw::new(b'5', "d") })
        .pax(&[("mtime", b"1350244992.023960108"), ("atime", b"1350244993.5")])
        .file("d/a", "x")
        .raw(&Raw { mtime: 700, ..Raw::new(b'2', "d/l") }.link("a"))
        .raw(&Raw { mtime: 800, ..Raw::new(b'5', "d/e") })
        .file("d/e/f", "")
        .pax(&[("mtime", b"-1.5"), ("atime", b"-9")])
        .file("old", "");
    let scene = Scene::new();
    scene.apply(&tar.end()).unwrap();
    let meta = |path: &str| fs::symlink_metadata(scene.root().join(path)).unwrap();
    assert_eq!((meta("d").mtime(), meta("d").permissions().mode() & 0o777), (500, 0o555));
    assert_eq!((meta("d/a").mtime(), meta("d/a").mtime_nsec()), (1_350_244_992, 23_960_108));
    assert_eq!((meta("d/a").atime(), meta("d/a").atime_nsec()), (1_350_244_993, 500_000_000));
    assert_eq!((meta("d/l").mtime(), meta("d/e").mtime()), (700, 800));
    // Nothing is read before it was written.
    assert_eq!((meta("old").mtime(), meta("old").mtime_nsec(), meta("old").atime()), (-2, 500_000_000, -2));
    fs::set_permissions(scene.root().join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn attributes_of_a_directory_that_went_reach_no_other() {
    let tar = Tar::new()
        .raw(&Raw { mode: 0o711, mtime: 6, ..Raw::new(b'5', "e") })
        .raw(&Raw { mode: 0o700, mtime: 5, ..Raw::new(b'5', "d") })
        .symlink("d", "e");
    let scene = Scene::new();
    scene.apply(&tar.end()).unwrap();
    assert_eq!(scene.lines(), ["d -> e", "e/ 711"]);
    assert_eq!(fs::metadata(scene.root().join("e")).unwrap().mtime(), 6);
}

#[test]
fn missing_parents_and_modes_do_not_depend_on_the_umask() {
    let tar = Tar::new()
        .file("implied/deep/a", "x")
        .raw(&Raw { mode: 0o666, ..Raw::new(b'0', "all") })
        .raw(&Raw { mode: 0o2777, ..Raw::new(b'5', "group") })
        .file("group/a", "")
        .raw(&Raw { mode: 0o4755, ..Raw::new(b'0', "setuid") })
        // Before POSIX a slash made a directory, and types stood in front of the mode.
        .raw(&Raw { mode: 0o040_711, magic: [0; 8], ..Raw::new(0, "v7/") });
    let expected = [
        "all 666: ",
        "group/ 2777",
        "group/a 644: ",
        "implied/ 755",
        "implied/deep/ 755",
        "implied/deep/a 644: x",
        "setuid 4755: ",
        "v7/ 711",
    ];
    assert_eq!(outcome(&tar.end()).unwrap(), expected);
}

#[test]
fn a_hard_link_has_the_attributes_of_its_last_entry() {
    let tar = Tar::new()
        .file("a", "x")
        .raw(&Raw { mode: 0o600, mtime: 77, ..Raw::new(b'1', "b").link("a") })
        .symlink("l", "a")
        .link("m", "l");
    let scene = Scene::new();
    scene.apply(&tar.end()).unwrap();
    assert_eq!(scene.lines(), ["a 600: x", "b =a", "l -> a", "m =l"]);
    assert_eq!(fs::metadata(scene.root().join("a")).unwrap().mtime(), 77);
}

#[test]
fn attributes_are_set_and_hold_any_bytes() {
    let value: &[u8] = b"line\nfeed\0and=more\xff";
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.user.note", value), ("SCHILY.xattr.user.empty", b"")])
        .file("a", "x")
        .pax(&[("SCHILY.xattr.user.dir", b"d"), ("SCHILY.xattr.security.selinux", b"label")])
        .dir("d");
    let scene = Scene::new();
    let applied = scene.apply(&tar.end()).unwrap();
    assert_eq!(applied.refused_xattrs, 0);
    let get = |path: &str, name: &str| {
        let mut value = [0; 100];
        let len = rustix::fs::getxattr(scene.root().join(path), name, &mut value).ok()?;
        Some(value[..len].to_vec())
    };
    assert_eq!(get("a", "user.note").as_deref(), Some(value));
    assert_eq!(get("a", "user.empty"), Some(Vec::new()));
    assert_eq!(get("d", "user.dir").as_deref(), Some(&b"d"[..]));
    assert_eq!(get("d", "security.selinux"), None);
    // What nobody can set is counted and no error, as for Docker.
    let odd = Tar::new().pax(&[("SCHILY.xattr.nonsense.x", b"1")]).file("a", "").end();
    assert_eq!(scene.apply(&odd).unwrap().refused_xattrs, 1);
}

/// A sparse file of 5000 bytes with `ab` at 1000 and `cd` at 4998, in each of the four ways.
fn sparse_files() -> [(&'static str, Vec<u8>); 4] {
    let mut old = Raw { magic: *b"ustar  \0", ..Raw::new(b'S', "s").data("abcd") }.header();
    let mut more = [0; BLOCK];
    for (at, number) in
        [(386, 1000), (398, 2), (410, 2000), (422, 0), (434, 3000), (446, 0), (458, 4000), (470, 0)]
    {
        put(&mut old, at, format!("{number:011o}").as_bytes());
    }
    old[482] = 1;
    put(&mut old, 483, format!("{:011o}", 5000).as_bytes());
    seal(&mut old);
    put(&mut more, 0, format!("{:011o}\0{:011o}", 4998, 2).as_bytes());
    let one: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut map = b"2\n1000\n2\n4998\n2\n".to_vec();
    map.resize(BLOCK, 0);
    map.extend_from_slice(b"abcd");
    let zero_zero: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"2"),
        ("GNU.sparse.offset", b"4998"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    let zero_one: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"5000"), ("GNU.sparse.name", b"s"), ("GNU.sparse.map", b"1000,2,4998,2")];
    [
        ("old GNU", Tar::new().bytes(&old).bytes(&more).data(b"abcd").file("next", "").end()),
        ("0.0", Tar::new().pax(zero_zero).file("s", "abcd").file("next", "").end()),
        ("0.1", Tar::new().pax(zero_one).file("GNUSparseFile.0/s", "abcd").file("next", "").end()),
        ("1.0", Tar::new().pax(one).file("GNUSparseFile.0/s", map).file("next", "").end()),
    ]
}

#[test]
fn sparse_files_keep_their_holes() {
    let mut expected = vec![0; 5000];
    expected[1000..1002].copy_from_slice(b"ab");
    expected[4998..].copy_from_slice(b"cd");
    for (version, tar) in sparse_files() {
        let scene = Scene::new();
        let applied = scene.apply(&tar).unwrap_or_else(|error| panic!("{version}: {}", chain(&error)));
        assert_eq!(fs::read(scene.root().join("s")).unwrap(), expected, "{version}");
        assert_eq!((applied.entries, applied.size_bytes), (2, 5000), "{version}");
    }
    for (map, error) in [
        (&b"1000,2,500,2"[..], "the pieces overlap or pass the end"),
        (b"1000,2,4999,2", "the pieces overlap or pass the end"),
        (b"1000,2", "the data is not as long as the map says"),
        (b"1000,2,3", "the map is malformed"),
    ] {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"5000"), ("GNU.sparse.map", map)];
        let came = outcome(&Tar::new().pax(records).file("s", "abcd").end());
        assert_eq!(came, Err(format!("apply layer: sparse file: {error}")));
    }
}

#[test]
fn what_was_applied_is_counted_as_the_directory_counts() {
    let tar = Tar::new()
        .file("a", "12345")
        .link("b", "a")
        .symlink("l", "abc")
        .file("twice", "123")
        .file("twice", "1234567")
        .file(".wh.gone", "")
        .file(".wh..wh.aufs", "bookkeeping")
        .dir("d")
        .end();
    let scene = Scene::new();
    let applied = scene.apply(&[&tar[..], &[7; 100]].concat()).unwrap();
    let expected = Applied {
        entries: 8,
        size_bytes: 5 + 3 + 7,
        archive_bytes: tar.len() as u64 + 100,
        skipped_bookkeeping: 1,
        ..Applied::default()
    };
    assert_eq!(applied, expected);
    // What was there before counts along.
    let applied = scene.apply(&Tar::new().file("e", "12").end()).unwrap();
    assert_eq!((applied.entries, applied.size_bytes), (1, 17));
}

#[test]
fn devices_are_made_skipped_or_refused() {
    let tar = Tar::new().device("null", 1, 3).fifo("pipe").end();
    let options = |devices| ApplyOptions { devices, ..ApplyOptions::default() };
    let refused = Scene::new().apply_with(&tar, &options(Devices::Refuse)).unwrap_err();
    assert_eq!(chain(&refused), "apply \"null\": a device node, which is not allowed here");
    let scene = Scene::new();
    let applied = scene.apply_with(&tar, &options(Devices::MakeOrSkip)).unwrap();
    if applied.skipped_devices == 0 {
        assert_eq!(scene.lines(), ["null 644 1:3", "pipe 644 fifo"]);
    } else {
        assert_eq!((applied.skipped_devices, scene.lines()), (1, vec!["pipe 644 fifo".to_owned()]));
        let error = Scene::new().apply_with(&tar, &options(Devices::Make)).unwrap_err();
        assert_eq!(chain(&error), "apply \"null\": a device node, which is not allowed here");
    }
}

#[test]
fn root_devices_come_over_what_is_there() {
    if skips(&[Need::Root]) {
        return;
    }
    let tar = Tar::new()
        .file("a", "1")
        .device("a", 1, 3)
        .file("d/x", "")
        .raw(&Raw { device: (7, 300), mode: 0o660, ..Raw::new(b'4', "d") })
        .device("z", 0, 0)
        .device("b", 1, 5)
        .file("b", "2");
    let expected = ["a 644 1:3", "b 644: 2", "d 660 7:300", "z 644 0:0"];
    assert_eq!(outcome(&tar.end()).unwrap(), expected);
}

#[test]
fn root_owners_are_kept_and_do_not_cost_set_id_bits_or_capabilities() {
    if skips(&[Need::Root]) {
        return;
    }
    // cap_net_raw+ep, second revision.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let owned = |flag, name: &str| Raw { uid: 1234, gid: 5678, mode: 0o6755, ..Raw::new(flag, name) };
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .raw(&owned(b'0', "a").data("x"))
        .raw(&owned(b'5', "d"))
        .raw(&owned(b'2', "l").link("a"))
        .raw(&owned(b'6', "p"))
        .pax(&[("uid", b"4000000000"), ("gid", b"2097152")])
        .file("big", "")
        .file("d/implied/x", "");
    let scene = Scene::new();
    scene.apply(&tar.clone().end()).unwrap();
    let meta = |path: &str| fs::symlink_metadata(scene.root().join(path)).unwrap();
    for path in ["a", "d", "l", "p"] {
        assert_eq!((meta(path).uid(), meta(path).gid()), (1234, 5678), "{path}");
        assert!(path == "l" || meta(path).mode() & 0o7777 == 0o6755, "{path}: {:o}", meta(path).mode());
    }
    assert_eq!((meta("big").uid(), meta("big").gid()), (4_000_000_000, 2_097_152));
    assert_eq!((meta("d/implied").uid(), meta("d/implied").gid()), (0, 0));
    let mut value = [0; 100];
    let len = rustix::fs::getxattr(scene.root().join("a"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..len], capability);
    // The caller's, where that is asked for.
    let scene = Scene::new();
    scene
        .apply_with(&tar.end(), &ApplyOptions { owners: Owners::Caller, ..ApplyOptions::default() })
        .unwrap();
    assert_eq!(fs::metadata(scene.root().join("a")).unwrap().uid(), 0);
}

#[test]
fn what_gnu_tar_writes_is_read_in_each_of_its_formats() {
    if !program("tar") {
        eprintln!("skipped: needs tar");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(130), "n".repeat(130));
    fs::create_dir_all(source.path().join("a/b")).unwrap();
    fs::create_dir_all(source.path().join(&long)).unwrap();
    fs::write(source.path().join("a/b/file"), "content").unwrap();
    fs::hard_link(source.path().join("a/b/file"), source.path().join("z")).unwrap();
    std::os::unix::fs::symlink("../".repeat(60) + "x", source.path().join("a/link")).unwrap();
    let sparse = fs::File::create(source.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for (format, sparse_version) in [
        ("gnu", None),
        ("posix", Some("0.0")),
        ("posix", Some("0.1")),
        ("posix", Some("1.0")),
        ("oldgnu", None),
    ] {
        let mut command = Command::new("tar");
        command.arg("-C").arg(source.path()).args([
            "--sparse",
            &format!("--format={format}"),
            "-cf",
            "-",
            ".",
        ]);
        command.args(sparse_version.map(|it| format!("--sparse-version={it}")));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let scene = Scene::new();
        let applied = scene.apply(&output.stdout).unwrap();
        assert_eq!(scene.lines(), lines(source.path()), "{format} {sparse_version:?}");
        let [there, here] = [source.path(), &scene.root()].map(|it| fs::read(it.join("sparse")).unwrap());
        assert!(there == here, "{format} {sparse_version:?}: the sparse file differs");
        assert_eq!(applied.archive_bytes, output.stdout.len() as u64);
    }
}
