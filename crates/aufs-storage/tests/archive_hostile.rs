//! Layers that want out, or to hide what they should not: each an error that says so or a tree that is well-defined,
//! and never anything outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use archive_kit::{Raw, Scene, Tar, chain, lines, outcome};
use aufs_storage::archive::{ApplyOptions, apply};

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

/// A branch may hold anything before, links that lead out and files with names elsewhere among it.
#[test]
fn what_was_there_leads_nowhere_either() {
    let scratch = tempfile::tempdir().unwrap();
    let [outside, root] = ["outside", "root"].map(|it| scratch.path().join(it));
    let apply_to_root = |tar: Tar| {
        let directory = File::open(&root).unwrap();
        apply(directory.as_fd(), tar.end().as_slice(), &ApplyOptions::default()).map_err(|it| chain(&it))
    };
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(root.join(".wh..wh.apply/0")).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let meta = || fs::metadata(outside.join("secret")).unwrap();
    let before = (meta().mode(), meta().mtime(), meta().mtime_nsec());
    fs::hard_link(outside.join("secret"), root.join("shared")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../outside", root.join("relative")).unwrap();

    for link in ["absolute", "relative"] {
        let error = apply_to_root(Tar::new().file(format!("{link}/secret"), "x")).unwrap_err();
        assert_eq!(error, format!("apply \"{link}/secret\": a parent is no directory"));
    }
    apply_to_root(Tar::new().dir("absolute").file("absolute/secret", "x")).unwrap();
    // A further name of such a file does not bring attributes to the others.
    apply_to_root(Tar::new().raw(&Raw { mode: 0o777, ..Raw::new(b'1', "more").link("shared") })).unwrap();
    assert_eq!(meta().nlink(), 3);
    apply_to_root(Tar::new().file("shared", "x").dir("more")).unwrap();
    assert_eq!((meta().mode(), meta().mtime(), meta().mtime_nsec()), before);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!((fs::read_dir(&outside).unwrap().count(), meta().nlink()), (1, 1));

    // What an apply that was killed left is no obstacle.
    apply_to_root(Tar::new().file(".wh..wh.plnk/1", "data").link("a", ".wh..wh.plnk/1")).unwrap();
    let expected = [
        "a 644: data",
        "absolute/ 755",
        "absolute/secret 644: x",
        "more/ 755",
        "relative -> ../outside",
        "shared 644: x",
    ];
    assert_eq!(lines(&root), expected);
}
