//! Every kind of damage is found, told of without a change on disk, and mended without a loss.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod kit;

use std::fs;

use aufs_storage::fsck::{Verdict, fsck};
use kit::damage::{Bed, CONTAINER, Case, DEAD, LOOK, REPAIR, found, left, state};
use kit::{open, skip};
use serde_json::json;

#[test]
fn root_what_can_be_mended_is() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    let cases: &[Case] = &[
        ("no mount point", |it| fs::remove_dir(it.part("mnt", 1)).unwrap(), &["mount-point-gone"]),
        (
            "no file of an image's layer",
            |it| fs::remove_file(it.part("layers", 1)).unwrap(),
            &["layers-file-gone"],
        ),
        ("no file of a container", |it| it.remove(format!("aufs/layers/{CONTAINER}")), &["layers-file-gone"]),
        (
            "no file of an init layer",
            |it| it.remove(format!("aufs/layers/{CONTAINER}-init")),
            &["layers-file-gone"],
        ),
        (
            "a killed removal of a container",
            |it| {
                it.remove(format!("aufs/layers/{CONTAINER}"));
                it.remove(format!("aufs/mnt/{CONTAINER}"));
            },
            &["layers-file-gone"],
        ),
        (
            "a file that is garbage",
            |it| fs::write(it.part("layers", 2), "../..\n").unwrap(),
            &["layers-file"],
        ),
        (
            "a file that is endless",
            |it| fs::write(it.part("layers", 2), vec![b'\n'; 17 << 20]).unwrap(),
            &["layers-file"],
        ),
        (
            "a layer left out",
            |it| fs::write(it.part("layers", 2), format!("{}\n", it.layers[0])).unwrap(),
            &["ancestors"],
        ),
        (
            "a cycle",
            |it| fs::write(it.part("layers", 1), format!("{}\n", it.layers[2])).unwrap(),
            &["ancestors"],
        ),
        (
            "an ancestor that is not there",
            |it| fs::write(it.part("layers", 0), "x\n").unwrap(),
            &["ancestors"],
        ),
        ("a killed creation", |it| it.directory("aufs/diff/x"), &["half-layer"]),
        (
            "a killed creation, later",
            |it| {
                it.directory("aufs/diff/x");
                it.directory("aufs/mnt/x")
            },
            &["half-layer"],
        ),
        ("a mount point alone", |it| it.directory("aufs/mnt/x"), &["half-layer"]),
        (
            "deletions",
            |it| {
                it.write(format!("aufs/diff/{}-removing/etc/passwd", it.layers[1]), "root");
                it.directory("aufs/mnt/x-removing");
            },
            &["removing", "removing"],
        ),
        (
            "drafts",
            |it| {
                it.write(format!("aufs-rs/drafts/{DEAD}.0"), "{");
                it.write(format!("aufs-rs/splits/{DEAD}.1"), "");
            },
            &["draft", "draft"],
        ),
        ("a count of no layer", |it| it.write("aufs-rs/counts/x", ""), &["stale-count"]),
        (
            "a count of another start",
            |it| it.count(0, &json!({"boot": "then", "mount": 7, "count": 2})),
            &["stale-count"],
        ),
        (
            "a count of a mount that is gone",
            |it| it.count(1, &json!({"boot": boot(), "mount": 7, "count": 2})),
            &["stale-count"],
        ),
        (
            "a count that is garbage",
            |it| it.write(format!("aufs-rs/counts/{}", it.layers[1]), "{"),
            &["stale-count"],
        ),
        ("a lock of no container", |it| it.write("aufs-rs/locks/x", ""), &["stale-lock"]),
        ("a name that is garbage", |it| it.write(it.first("aufs-rs/tags"), "{}"), &["malformed"]),
        ("a note that is garbage", |it| it.write("aufs-rs/pending/x.json", "\0"), &["malformed"]),
        ("a name of no image", |it| it.tag("gone:1", &"0".repeat(64)), &["image-gone"]),
        ("a note of nothing", |it| it.note(&["x", "y"]), &["unfinished"]),
        (
            "a killed load",
            |it| {
                it.orphans();
                it.note(&["x", "y"])
            },
            &["orphan", "orphan"],
        ),
        (
            "a killed load on an image's layer",
            |it| {
                open(&it.root()).create(&"x".parse().unwrap(), Some(&it.layers[0]), &[]).unwrap();
                it.note(&["x"]);
            },
            &["orphan"],
        ),
        (
            "a killed removal of an image",
            |it| {
                it.orphans();
                it.note(&["x", "y"]);
                it.remove("aufs/layers/y");
            },
            &["orphan", "orphan"],
        ),
        (
            "records that no image has",
            |it| {
                it.write(format!("aufs-rs/splits/{}", "1".repeat(64)), "");
                it.record(&"2".repeat(64), "x");
            },
            &["unused", "unused"],
        ),
        (
            "records and layers that no image has",
            |it| {
                it.orphans();
                it.record(&"2".repeat(64), "x");
                it.record(&"3".repeat(64), "y");
                it.write(format!("aufs-rs/splits/{}", "3".repeat(64)), "");
            },
            &["orphan", "orphan"],
        ),
    ];
    let whole = healthy.saved();
    for (case, damage, kinds) in cases {
        let bed = healthy.copy();
        damage(&bed);
        found(&bed, case, kinds);
        let report = fsck(&bed.root(), REPAIR).unwrap();
        assert_eq!((report.verdict(), left(&report)), (Verdict::Repaired, vec![]), "{case}: {report:#?}");
        let report = fsck(&bed.root(), LOOK).unwrap();
        assert_eq!(report.verdict(), Verdict::Clean, "{case}, again: {report:#?}");
        assert!(bed.saved() == whole, "{case}: what is saved is other than before");
        assert_eq!(bed.changed().as_deref(), Some("changed"), "{case}");
        for part in ["layers", "diff", "mnt"] {
            assert_eq!(
                bed.names(format!("aufs/{part}")),
                healthy.names(format!("aufs/{part}")),
                "{case}: {part}"
            );
        }
        for id in bed.names("aufs/layers") {
            let of = |it: &Bed| fs::read_to_string(it.at(format!("aufs/layers/{id}"))).unwrap();
            assert_eq!(of(&bed), of(&healthy), "{case}: {id}");
        }
        for dir in ["images", "layers", "containers", "splits"] {
            assert_eq!(
                bed.names(format!("aufs-rs/{dir}")),
                healthy.names(format!("aufs-rs/{dir}")),
                "{case}: {dir}"
            );
        }
        for dir in ["pending", "drafts", "locks"] {
            assert_eq!(bed.names(format!("aufs-rs/{dir}")), [""; 0], "{case}: {dir}");
        }
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[test]
fn root_what_cannot_be_mended_is_left_as_it_is() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    let cases: &[Case] = &[
        (
            "what nobody knows",
            |it| {
                for path in [
                    "aufs/x",
                    "aufs-rs/x",
                    "aufs/layers/a b",
                    "aufs/mnt/a b",
                    "aufs-rs/images/x",
                    "aufs-rs/tags/x.json",
                    "aufs-rs/drafts/x",
                ] {
                    it.write(path, "");
                }
                it.write("aufs/diff/a b/file", "");
            },
            &["unknown"; 8],
        ),
        ("a link to a layer", |it| it.replace_by_link(&it.part("diff", 2)), &["wrong-type"]),
        ("a link to a mount point", |it| it.replace_by_link(&it.part("mnt", 2)), &["wrong-type"]),
        ("a link to a file of layers/", |it| it.replace_by_link(&it.part("layers", 0)), &["wrong-type"]),
        ("a link to an image", |it| it.replace_by_link(&it.at(it.first("aufs-rs/images"))), &["wrong-type"]),
        (
            "a link to a count",
            |it| it.replace_by_link(&it.at(format!("aufs-rs/counts/{}", it.layers[0]))),
            &["wrong-type"],
        ),
        (
            "a file for a directory",
            |it| {
                fs::remove_dir(it.part("mnt", 1)).unwrap();
                fs::write(it.part("mnt", 1), "").unwrap();
            },
            &["wrong-type"],
        ),
        ("a directory for a file", |it| it.directory("aufs/layers/x"), &["wrong-type"]),
        ("a link to all images", |it| it.replace_by_link(&it.at("aufs-rs/images")), &["wrong-type"]),
        ("half a layer of somebody", |it| it.write("aufs/diff/x/file", ""), &["half-layer"]),
        (
            "files at a mount point",
            |it| fs::write(it.part("mnt", 1).join("file"), "").unwrap(),
            &["mount-point-filled"],
        ),
        ("no content", |it| fs::remove_dir_all(it.part("diff", 1)).unwrap(), &["content-gone"]),
        ("an image that is garbage", |it| it.write(it.first("aufs-rs/images"), "{}"), &["malformed"]),
        (
            "an image that is garbage, and orphans",
            |it| {
                it.write(it.first("aufs-rs/images"), "{}");
                it.orphans();
                it.note(&["x", "y"]);
            },
            &["malformed", "orphan", "orphan"],
        ),
        ("an image that was lost", |it| it.remove(it.image_file(1)), &["image-gone", "orphan"]),
        (
            "an image that was lost, of a container",
            |it| it.remove(it.image_file(0)),
            &["image-gone", "image-gone"],
        ),
        ("a layer that nothing tells of", |it| it.remove(it.record_of(2)), &["layer-unknown"]),
        (
            "a layer that is gone",
            |it| {
                ["layers", "diff", "mnt"]
                    .iter()
                    .for_each(|part| it.remove(format!("aufs/{part}/{}", it.layers[2])))
            },
            &["layer-gone", "stale-count"],
        ),
        (
            "a container that is garbage",
            |it| it.write(format!("aufs-rs/containers/{CONTAINER}.json"), "{"),
            &["malformed"],
        ),
        ("no split", |it| it.remove(it.split_of(1)), &["split-gone"]),
        (
            "somebody's layer on nothing",
            |it| {
                it.orphans();
                it.remove("aufs/layers/x");
                it.remove("aufs/diff/x");
                it.remove("aufs/mnt/x");
                it.remove("aufs-rs/counts/x")
            },
            &["ancestor-gone"],
        ),
        (
            "somebody's layers on each other",
            |it| {
                it.orphans();
                it.write("aufs/layers/x", "y\n")
            },
            &["cycle", "cycle"],
        ),
        (
            "somebody's layer that left one out",
            |it| {
                it.orphans();
                open(&it.root()).create(&"z".parse().unwrap(), Some(&"y".parse().unwrap()), &[]).unwrap();
                it.write("aufs/layers/z", "y\n");
            },
            &["disagrees"],
        ),
        (
            "somebody's layer that is garbage",
            |it| {
                it.orphans();
                it.write("aufs/layers/y", "-\n")
            },
            &["layers-file"],
        ),
    ];
    for (case, damage, kinds) in cases {
        let bed = healthy.copy();
        damage(&bed);
        found(&bed, case, kinds);
        // What can be mended besides is; what is left is what was found.
        let report = fsck(&bed.root(), REPAIR).unwrap();
        assert_eq!(report.verdict(), Verdict::Left, "{case}: {report:#?}");
        let before = state(&bed.root());
        let again = fsck(&bed.root(), REPAIR).unwrap();
        assert_eq!(left(&again), left(&report), "{case}");
        assert!(before == state(&bed.root()), "{case}: a repair that mends nothing changes nothing");
        assert_eq!(bed.changed().as_deref(), Some("changed"), "{case}");
    }
}
