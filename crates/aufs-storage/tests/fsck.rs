//! Every kind of damage is found, told of without a change on disk, and mended without a loss.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod kit;

use std::fs::{self, File};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use aufs_storage::fsck::{Fault, FsckOptions, Outcome, Report, Verdict, fsck};
use kit::damage::{Bed, CONTAINER, DEAD, state};
use kit::{open, skip};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde_json::json;

const LOOK: FsckOptions = FsckOptions { repair: false, verify: false };
const REPAIR: FsckOptions = FsckOptions { repair: true, verify: false };

fn look(bed: &Bed) -> Report {
    fsck(&bed.root(), LOOK).unwrap()
}

/// The kinds of what was found and not mended.
fn left(report: &Report) -> Vec<String> {
    let left = report.findings.iter().filter(|it| it.1 != Outcome::Repaired);
    let mut kinds: Vec<String> = left.map(|it| kind(&it.0.fault)).collect();
    kinds.sort();
    kinds
}

fn kind(fault: &Fault) -> String {
    serde_json::to_value(fault).unwrap()["kind"].as_str().unwrap().to_owned()
}

/// Damage, and the kinds of what is found then.
type Case = (&'static str, fn(&Bed), &'static [&'static str]);

/// What a command holds, and what it has made so far.
type AtWork = (&'static str, fn(&Bed));

/// Looks, and fails unless these kinds are found and nothing is changed.
fn found(bed: &Bed, case: &str, kinds: &[&str]) {
    let before = state(&bed.root());
    let report = look(bed);
    assert_eq!(left(&report), kinds, "{case}: {report:#?}");
    assert!(before == state(&bed.root()), "{case}: looking changed something");
}

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
        let report = look(&bed);
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
        (
            "a container without layer",
            |it| {
                ["layers", "diff", "mnt"]
                    .iter()
                    .for_each(|part| it.remove(format!("aufs/{part}/{CONTAINER}")))
            },
            &["layer-gone", "stale-count"],
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
        assert_eq!(bed.changed().is_some(), !case.contains("without layer"), "{case}");
    }
}

#[test]
fn root_what_a_load_needs_is_out_of_its_way() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    let whole = healthy.saved();
    let cases: &[Case] = &[
        ("a layer record that is garbage", |it| it.write(it.record_of(1), "{}"), &["malformed"]),
        ("an image that is garbage", |it| it.write(it.image_file(0), ""), &["malformed"]),
        (
            "images that were lost",
            |it| {
                it.remove(it.image_file(0));
                it.remove(it.image_file(1))
            },
            &["image-gone", "image-gone", "image-gone", "orphan"],
        ),
        (
            "a layer that is gone",
            |it| ["layers", "diff", "mnt"].iter().for_each(|part| it.remove(it.part(part, 1))),
            &["layer-gone", "stale-count"],
        ),
    ];
    for (case, damage, kinds) in cases {
        let bed = healthy.copy();
        damage(&bed);
        found(&bed, case, kinds);
        assert_eq!(fsck(&bed.root(), REPAIR).unwrap().verdict(), Verdict::Left, "{case}");
        bed.load(&healthy);
        let report = fsck(&bed.root(), REPAIR).unwrap();
        assert_eq!(left(&report), [""; 0], "{case}: {report:#?}");
        assert!(bed.saved() == whole, "{case}");
        assert_eq!(bed.changed().as_deref(), Some("changed"), "{case}");
    }
}

#[test]
fn root_a_tree_that_docker_wrote_is_good_data() {
    if skip() {
        return;
    }
    let bed = Bed::empty();
    for (layer, ancestors) in
        [("base", ""), ("top", "base\n"), ("c-init", "top\nbase\n"), ("c", "\nc-init\n\ntop\nbase\n")]
    {
        bed.write(format!("aufs/layers/{layer}"), ancestors);
        bed.write(format!("aufs/diff/{layer}/file"), layer);
        fs::create_dir_all(bed.at(format!("aufs/mnt/{layer}"))).unwrap();
    }
    for marker in [".wh..wh.aufs", ".wh.file", ".wh..wh.plnk/1.2"] {
        bed.write(format!("aufs/diff/top/{marker}"), "");
    }
    bed.write("image/aufs/repositories.json", "{}");
    found(&bed, "Docker's", &[]);
    let before = state(&bed.root());
    assert_eq!(fsck(&bed.root(), REPAIR).unwrap().verdict(), Verdict::Clean);
    assert!(before == state(&bed.root()));
    // What our own commands put beside it makes no difference.
    drop(open(&bed.root()));
    assert_eq!(fsck(&bed.root(), REPAIR).unwrap().verdict(), Verdict::Clean);
    assert!(fsck(&bed.root().join("image/aufs"), LOOK).is_err(), "no data root");
}

#[test]
fn root_what_a_command_is_about_to_finish_is_not_found() {
    if skip() {
        return;
    }
    // A command that makes an image, and one that makes a layer.
    let cases: [AtWork; 2] = [
        ("aufs-rs/splits", |it| {
            it.orphans();
            it.note(&["x", "y"]);
        }),
        ("aufs-rs/counts/z", |it| it.directory("aufs/diff/z")),
    ];
    for (lock, makes) in cases {
        let bed = Bed::new();
        if !bed.at(lock).exists() {
            bed.write(lock, "");
        }
        let held = File::open(bed.at(lock)).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        makes(&bed);
        let (tell, hear) = channel();
        let (root, again) = (bed.root(), bed.root());
        let looking = std::thread::spawn(move || tell.send(fsck(&root, REPAIR).unwrap()).unwrap());
        let early = hear.recv_timeout(Duration::from_millis(500));
        assert_eq!(early.unwrap_err(), RecvTimeoutError::Timeout, "{lock}: it waits");
        for path in ["aufs-rs/pending/note.json", "aufs/diff/z", "aufs-rs/counts/z"] {
            if bed.at(path).exists() {
                bed.remove(path);
            }
        }
        drop(held);
        let report = hear.recv_timeout(Duration::from_secs(60)).unwrap();
        looking.join().unwrap();
        assert_eq!(report.verdict(), Verdict::Clean, "{lock}: {report:#?}");
        assert_eq!(fsck(&again, LOOK).unwrap().verdict(), Verdict::Clean, "{lock}");
    }
}

#[test]
fn root_a_hundred_orphans_go_and_one_that_cannot_keeps_those_below_it() {
    if skip() {
        return;
    }
    let bed = Bed::new();
    let driver = open(&bed.root());
    let names: Vec<String> = (0..100).map(|it| format!("x{it:03}")).collect();
    let mut parent = None;
    for name in &names {
        let id = name.parse().unwrap();
        driver.create(&id, parent.as_ref(), &[]).unwrap();
        parent = Some(id);
    }
    bed.note(&names.iter().map(String::as_str).collect::<Vec<_>>());
    bed.write("aufs/mnt/x049/file", "somebody's");
    let report = fsck(&bed.root(), REPAIR).unwrap();
    let mut expected = vec!["mount-point-filled"; 1];
    expected.extend(["orphan"; 50]);
    assert_eq!(
        (report.findings.len(), left(&report)),
        (50 + 51, expected.iter().map(|it| (*it).to_owned()).collect())
    );
    bed.remove("aufs/mnt/x049/file");
    let report = fsck(&bed.root(), REPAIR).unwrap();
    assert_eq!(
        (report.verdict(), report.findings.len()),
        (Verdict::Repaired, 51),
        "the layers and their note"
    );
    assert_eq!(fsck(&bed.root(), LOOK).unwrap().verdict(), Verdict::Clean);
}

#[test]
fn root_files_are_compared_with_their_archives() {
    if skip() {
        return;
    }
    let verify = FsckOptions { repair: true, verify: true };
    let bed = Bed::new();
    let report = fsck(&bed.root(), verify).unwrap();
    assert_eq!((report.verdict(), report.verified, report.unverifiable), (Verdict::Clean, 4, 0));
    fs::write(bed.part("diff", 0).join("etc/passwd"), "toor").unwrap();
    fs::remove_file(bed.part("diff", 2).join("etc/hosts")).unwrap();
    let before = state(&bed.root());
    let report = fsck(&bed.root(), verify).unwrap();
    assert_eq!((report.verdict(), left(&report)), (Verdict::Left, vec!["content".to_owned(); 2]));
    assert!(before == state(&bed.root()));
    assert_eq!(
        fsck(&bed.root(), LOOK).unwrap().verdict(),
        Verdict::Clean,
        "it looks only when it is told to"
    );
}

/// What happens to an object, and by which number of the sorted list it is chosen.
#[derive(Debug, Clone)]
enum Damage {
    Remove(usize),
    Rename(usize, &'static str),
    Garbage(usize, Vec<u8>),
    Link(usize),
    File(usize),
    Swap(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0_usize..1000;
    let name = prop_oneof![Just("x"), Just("x.json"), Just("x-removing"), Just("a b"), Just("2147483647.1")];
    prop_oneof![
        3 => at.clone().prop_map(Damage::Remove),
        2 => (at.clone(), name).prop_map(|(at, name)| Damage::Rename(at, name)),
        3 => (at.clone(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, it)| Damage::Garbage(at, it)),
        1 => at.clone().prop_map(Damage::Link),
        1 => at.clone().prop_map(Damage::File),
        2 => (at.clone(), at).prop_map(|(at, other)| Damage::Swap(at, other)),
    ]
}

impl Damage {
    fn apply(&self, bed: &Bed) {
        let objects = bed.objects();
        let pick = |at: &usize| bed.at(&objects[at % objects.len()]);
        match self {
            Self::Remove(at) => bed.remove(pick(at)),
            Self::Rename(at, name) => {
                let path = pick(at);
                let to = path.with_file_name(name);
                if !to.exists() {
                    fs::rename(path, to).unwrap();
                }
            }
            Self::Garbage(at, bytes) => {
                let path = pick(at);
                if path.is_file() {
                    fs::write(path, bytes).unwrap();
                }
            }
            Self::Link(at) => bed.replace_by_link(&pick(at)),
            Self::File(at) => {
                let path = pick(at);
                bed.remove(&path);
                fs::write(path, "").unwrap();
            }
            Self::Swap(at, other) => {
                let (path, other) = (pick(at), pick(other));
                let is_within = path.starts_with(&other) || other.starts_with(&path);
                if !is_within {
                    renameat_with(CWD, path, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        }
    }
}

#[test]
fn root_whatever_is_damaged_nothing_good_goes() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    healthy.saved();
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let run = runner.run(&prop::collection::vec(damage(), 1..5), |damages| {
        let bed = healthy.copy();
        damages.iter().for_each(|it| it.apply(&bed));
        let before = state(&bed.root());
        let Ok(report) = fsck(&bed.root(), LOOK) else {
            // Without aufs/ there is no data root.
            prop_assert!(!bed.at("aufs").exists());
            return Ok(());
        };
        prop_assert!(before == state(&bed.root()), "looking changed something");
        let good = bed.good();
        let repaired = fsck(&bed.root(), REPAIR).unwrap();
        prop_assert_eq!(report.findings.is_empty(), repaired.findings.is_empty());
        let after = state(&bed.root());
        for path in &good {
            let (was, is) = (before.get(path), after.get(path));
            prop_assert!(was == is, "{}: {was:?} is {is:?} now; {repaired:#?}", path.display());
        }
        let again = fsck(&bed.root(), REPAIR).unwrap();
        prop_assert!(after == state(&bed.root()), "a second repair changed something: {again:#?}");
        prop_assert!(again.findings.iter().all(|it| it.1 != Outcome::Repaired), "{again:#?}");
        prop_assert_eq!(left(&again), left(&repaired));
        Ok(())
    });
    run.unwrap();
}
