//! The rules of a check and a repair: what is good data, who is waited for, what a load mends.

mod kit;

use std::fs::{self, File};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use aufs_storage::fsck::{FsckOptions, Verdict, fsck};
use kit::damage::{Bed, CONTAINER, Case, LOOK, REPAIR, found, left, state};
use kit::{open, skip};
use rustix::fs::{FlockOperation, flock};

/// What a command holds, and what it has made so far.
type AtWork = (&'static str, fn(&Bed));

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
fn root_a_removal_of_a_container_is_ended_where_nothing_of_it_is_left() {
    if skip() {
        return;
    }
    let healthy = Bed::new();
    let parts = ["aufs/layers", "aufs/diff", "aufs/mnt", "aufs-rs/counts"];
    for with_init in [true, false] {
        let bed = healthy.copy();
        parts.iter().for_each(|it| bed.remove(format!("{it}/{CONTAINER}")));
        if !with_init {
            parts.iter().for_each(|it| bed.remove(format!("{it}/{CONTAINER}-init")));
        }
        found(&bed, "a killed removal", if with_init { &["orphan"] } else { &["layer-gone"] });
        assert_eq!(fsck(&bed.root(), REPAIR).unwrap().verdict(), Verdict::Repaired);
        assert_eq!(fsck(&bed.root(), LOOK).unwrap().verdict(), Verdict::Clean);
        assert_eq!((bed.names("aufs/layers").len(), bed.names("aufs-rs/containers").len()), (4, 0));
        assert!(bed.saved() == healthy.copy().saved());
    }
    // A home on a disk that is not there takes no record with it.
    let bed = healthy.copy();
    ["aufs/layers", "aufs/diff", "aufs/mnt"].iter().for_each(|it| bed.remove(it));
    let records =
        ["images", "layers", "tags", "containers", "splits"].map(|it| bed.names(format!("aufs-rs/{it}")));
    assert_eq!(fsck(&bed.root(), REPAIR).unwrap().verdict(), Verdict::Left);
    let after =
        ["images", "layers", "tags", "containers", "splits"].map(|it| bed.names(format!("aufs-rs/{it}")));
    assert_eq!(records, after);
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
