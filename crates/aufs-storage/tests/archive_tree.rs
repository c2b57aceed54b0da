//! Archives into and out of trees that are in use: what may be replaced, what must not, and what is never half there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod archive_kit;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use archive_kit::{Raw, Scene, Tar, chain};
use aufs_storage::archive::{ApplyOptions, Form, Holes, Owners, PackOptions, Privileges, pack};
use aufs_testkit::needs::{Need, skips};

fn into_tree() -> ApplyOptions {
    ApplyOptions { owners: Owners::Caller, form: Form::Tree, ..ApplyOptions::default() }
}

fn refused(scene: &Scene, tar: Tar) -> String {
    chain(&scene.apply_with(&tar.end(), &into_tree()).unwrap_err())
}

#[test]
fn only_a_directory_takes_the_place_of_one() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root().join("d/kept")).unwrap();
    fs::write(scene.root().join("f"), "old").unwrap();
    symlink("d", scene.root().join("l")).unwrap();
    let onto_directory = "a directory is there, and only a directory can be copied onto it";
    let onto_file = "what is there is no directory, and no directory can be copied onto it";
    for (tar, expected) in [
        (Tar::new().file("d", "x"), format!("apply \"d\": {onto_directory}")),
        (Tar::new().symlink("d", "f"), format!("apply \"d\": {onto_directory}")),
        (Tar::new().fifo("d"), format!("apply \"d\": {onto_directory}")),
        (Tar::new().link("d", "f"), format!("apply \"d\": {onto_directory}")),
        (Tar::new().dir("f/"), format!("apply \"f/\": {onto_file}")),
        (Tar::new().dir("l/"), format!("apply \"l/\": {onto_file}")),
        (Tar::new().file("f/x", "x"), "apply \"f/x\": a parent is no directory".to_owned()),
    ] {
        assert_eq!(refused(&scene, tar), expected);
        assert_eq!(scene.lines(), ["d/ 755", "d/kept/ 755", "f 644: old", "l -> d"]);
    }
    let tar = Tar::new().dir("d/").file("d/new", "new").symlink("f", "d").file("l", "now a file");
    scene.apply_with(&tar.end(), &into_tree()).unwrap();
    let expected = ["d/ 755", "d/kept/ 755", "d/new 644: new", "f -> d", "l 644: now a file"];
    assert_eq!(scene.lines(), expected);
}

#[test]
fn names_that_unions_keep_are_refused() {
    let reserved = "its path has a name that begins with .wh., which unions keep for whiteouts";
    for name in [".wh.x", "d/.wh.x", ".wh..wh..opq", ".wh.d/x", ".wh..wh.plnk/1.2", ".wh."] {
        let scene = Scene::new();
        assert_eq!(refused(&scene, Tar::new().file(name, "")), format!("apply {name:?}: {reserved}"));
        assert_eq!(scene.lines(), [""; 0], "{name}");
    }
    let scene = Scene::new();
    let expected = reserved.replace("path", "target");
    assert_eq!(refused(&scene, Tar::new().link("a", ".wh..wh.plnk/1")), format!("apply \"a\": {expected}"));
    // On the host such a name is one like any other until somebody wants it in a union.
    fs::write(scene.root().join(".wh.x"), "kept").unwrap();
    let mut tar = Vec::new();
    let options = PackOptions { form: Form::Tree, ..PackOptions::default() };
    pack(File::open(scene.root()).unwrap().as_fd(), &mut tar, &options).unwrap();
    assert_eq!(tar.windows(4).filter(|it| it == b"kept").count(), 1);
}

#[test]
fn a_file_is_old_or_new_but_never_a_part() {
    let scene = Scene::new();
    fs::write(scene.root().join("f"), "old").unwrap();
    fs::hard_link(scene.root().join("f"), scene.root().join("other name")).unwrap();
    let cut =
        |name: &str| Tar::new().raw(&Raw { size: Some(5000), ..Raw::new(b'0', name).data("half") }).cut();
    for name in ["f", "g"] {
        let error = scene.apply_with(&cut(name), &into_tree()).unwrap_err();
        assert_eq!(chain(&error), format!("apply {name:?}: the archive ends in the middle of an entry"));
        assert_eq!(scene.lines(), ["f 644: old", "other name =f"]);
    }
    // A new file takes the name, and leaves the other one alone; so does a link, also one to itself.
    let tar = Tar::new().file("f", "new").link("g", "f").link("f", "g").link("f", "f");
    scene.apply_with(&tar.end(), &into_tree()).unwrap();
    assert_eq!(scene.lines(), ["f 644: new", "g =f", "other name 644: old"]);
}

#[test]
fn links_of_the_tree_are_those_of_its_root() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root().join("usr/lib")).unwrap();
    symlink("/usr/lib", scene.root().join("lib")).unwrap();
    symlink("../../../../../../outside", scene.root().join("out")).unwrap();
    let tar = Tar::new().file("lib/x", "x").link("y", "lib/x");
    scene.apply_with(&tar.end(), &into_tree()).unwrap();
    assert_eq!(fs::read_to_string(scene.root().join("usr/lib/x")).unwrap(), "x");
    assert_eq!(fs::metadata(scene.root().join("y")).unwrap().nlink(), 2);
    let parent = "a parent is no directory";
    assert_eq!(refused(&scene, Tar::new().file("out/x", "")), format!("apply \"out/x\": {parent}"));
    assert_eq!(
        refused(&scene, Tar::new().link("z", "out/secret")),
        "apply \"z\": a hard link to what the layer does not hold"
    );
}

#[test]
fn who_owns_a_copy_and_what_it_may_is_said() {
    if skips(&[Need::Root]) {
        return;
    }
    let scene = Scene::new();
    let program = Raw { mode: 0o6755, uid: 7, gid: 8, ..Raw::new(b'0', "p") };
    let mut capability = vec![1, 0, 0, 2];
    capability.resize(20, 0);
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.note", b"n")])
        .raw(&program)
        .file("implied/f", "")
        .end();
    let seen = |options: &ApplyOptions| {
        scene.apply_with(&tar, options).unwrap();
        let at = |name: &str| fs::symlink_metadata(scene.root().join(name)).unwrap();
        let mut value = [0; 64];
        let has =
            |name: &str, value: &mut [u8]| rustix::fs::getxattr(scene.root().join("p"), name, value).is_ok();
        let capable = has("security.capability", &mut value);
        assert!(has("user.note", &mut value));
        ((at("p").uid(), at("p").gid()), at("p").mode() & 0o7777, capable, at("implied").uid())
    };
    assert_eq!(seen(&ApplyOptions { owners: Owners::Archive, ..into_tree() }), ((7, 8), 0o6755, true, 0));
    let given = ApplyOptions { owners: Owners::Given { uid: 3, gid: 4 }, ..into_tree() };
    fs::remove_dir_all(scene.root().join("implied")).unwrap();
    assert_eq!(seen(&given), ((3, 4), 0o6755, true, 3));
    let dropped = ApplyOptions { privileges: Privileges::Drop, ..into_tree() };
    assert_eq!(seen(&dropped), ((0, 0), 0o755, false, 3));
}

#[test]
fn holes_stay_holes_and_others_read_them() {
    let (scene, copy) = (Scene::new(), Scene::new());
    let long = "n".repeat(200);
    let sizes =
        [("all", 1 << 30, None), ("end", 1 << 30, Some((1 << 30) - 3)), ("middle", 10 << 20, Some(5 << 20))];
    for (name, len, data) in sizes.into_iter().chain([(long.as_str(), 3 << 20, Some(0))]) {
        let file = File::create(scene.root().join(name)).unwrap();
        file.set_len(len).unwrap();
        if let Some(at) = data {
            file.write_all_at(b"abc", at).unwrap();
        }
    }
    fs::write(scene.root().join("dense"), "dense").unwrap();
    let mut tar = Vec::new();
    let options = PackOptions { holes: Holes::Mapped, ..PackOptions::default() };
    pack(File::open(scene.root()).unwrap().as_fd(), &mut tar, &options).unwrap();
    assert!(tar.len() < 100 << 10, "{} bytes", tar.len());
    copy.apply_with(&tar, &into_tree()).unwrap();
    let by_gnu = tempfile::tempdir().unwrap();
    let file = by_gnu.path().join("it.tar");
    fs::write(&file, &tar).unwrap();
    let gnu = Command::new("tar").arg("-C").arg(by_gnu.path()).arg("-xf").arg(&file).output();
    assert!(gnu.as_ref().is_ok_and(|it| it.status.success()), "{gnu:?}");
    for (name, len, data) in sizes.into_iter().chain([(long.as_str(), 3 << 20, Some(0))]) {
        for root in [copy.root(), by_gnu.path().to_owned()] {
            let file = File::open(root.join(name)).unwrap();
            let meta = file.metadata().unwrap();
            assert_eq!(meta.len(), len, "{name}");
            assert!(meta.blocks() * 512 <= 64 << 10, "{name} has {} blocks", meta.blocks());
            if let Some(at) = data {
                let mut bytes = [0; 3];
                file.read_exact_at(&mut bytes, at).unwrap();
                assert_eq!(&bytes, b"abc", "{name}");
            }
        }
    }
    assert_eq!(fs::read_to_string(copy.root().join("dense")).unwrap(), "dense");
    assert_eq!(fs::metadata(copy.root().join("dense")).unwrap().permissions().mode() & 0o777, 0o644);
}
