//! Listings: positions, numbers, types, and entries that come and go meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode, RawDir, SeekFrom, mknodat, seek};
use twin::{Place, plays_alike};

/// Name, number, type and the position behind each entry from where `dir` stands, at most `count`.
fn entries(dir: &File, count: usize) -> Vec<(String, u64, FileType, u64)> {
    let mut found = Vec::new();
    // Small, so that a long listing takes many calls.
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut raw = RawDir::new(dir, &mut buffer);
    while let Some(entry) = raw.next() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push((name, entry.ino(), entry.file_type(), entry.next_entry_cookie()));
        if found.len() == count {
            break;
        }
    }
    found
}

fn names(entries: &[(String, u64, FileType, u64)]) -> BTreeSet<String> {
    entries.iter().map(|it| it.0.clone()).collect()
}

fn many(base: &Path) {
    fs::create_dir(base.join("d")).unwrap();
    for n in 0..300 {
        fs::write(base.join(format!("d/file-{n:03}")), "x").unwrap();
    }
}

#[test]
fn fuse_root_listings_tell_numbers_and_types_as_stat_does() {
    plays_alike(
        |base| {
            fs::create_dir_all(base.join("d/sub")).unwrap();
            fs::write(base.join("d/file"), "x").unwrap();
            fs::hard_link(base.join("d/file"), base.join("d/link")).unwrap();
            symlink("file", base.join("d/symlink")).unwrap();
            mknodat(rustix::fs::CWD, base.join("d/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        },
        |place| {
            let check = |place: &mut Place, what: &str| {
                let dir = File::open(place.path("d")).unwrap();
                let mut told = BTreeMap::new();
                for (name, ino, file_type, _) in entries(&dir, usize::MAX) {
                    let stat = fs::symlink_metadata(place.path("d").join(&name)).unwrap();
                    let is_type = FileType::from_raw_mode(stat.mode()) == file_type;
                    // Of `..` of a mount's root the mount cannot know.
                    told.insert(name, (stat.ino() == ino, is_type));
                }
                place.saw(what, told);
            };
            check(place, "at first");
            let before = fs::metadata(place.path("d/file")).unwrap();
            fs::write(place.path("d/file"), "copied up").unwrap();
            fs::write(place.path("d/new"), "new").unwrap();
            fs::rename(place.path("d/symlink"), place.path("d/moved")).unwrap();
            check(place, "after changes");
            let after = fs::metadata(place.path("d/file")).unwrap();
            place.saw("the same entry", (before.ino() == after.ino(), before.dev() == after.dev()));
            let link = fs::metadata(place.path("d/link")).unwrap();
            place.saw("the same file", (link.ino() == after.ino(), link.nlink()));
            fs::set_permissions(place.path("d/link"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            check(place, "after a change by the other name");
        },
    );
}

#[test]
fn fuse_root_positions_lead_back_to_the_same_entries() {
    plays_alike(many, |place| {
        let dir = File::open(place.path("d")).unwrap();
        let all = entries(&dir, usize::MAX);
        place.saw("each once", (all.len(), names(&all).len()));
        place.saw("at the end", entries(&dir, usize::MAX).len());
        // The first ones last: with udba=reval the beginning reads the directory anew, which ends older positions.
        for at in [7, 150, 299, 301, 1, 0] {
            seek(&dir, SeekFrom::Start(all[at].3)).unwrap();
            let rest = entries(&dir, usize::MAX);
            let expected: Vec<_> = all[at + 1..].iter().map(|it| &it.0).collect();
            place.saw(format!("from {at}"), rest.iter().map(|it| &it.0).collect::<Vec<_>>() == expected);
        }
        seek(&dir, SeekFrom::Start(0)).unwrap();
        place.saw("rewound", names(&entries(&dir, usize::MAX)) == names(&all));
    });
}

#[test]
fn fuse_root_a_listing_is_whole_while_entries_come_and_go() {
    plays_alike(many, |place| {
        let dir = File::open(place.path("d")).unwrap();
        let mut seen = Vec::new();
        let mut round = 0;
        loop {
            let some = entries(&dir, 20);
            let Some(last) = some.last() else { break };
            let position = last.3;
            seen.extend(some.iter().map(|it| it.0.clone()));
            // Every third of the old ones goes, some are renamed away, new ones come.
            for n in (round * 9..(round + 1) * 9).filter(|n| n % 3 == 0 && *n < 300) {
                fs::remove_file(place.path(format!("d/file-{n:03}"))).unwrap();
            }
            if round < 10 {
                let (old, new) = (format!("d/file-{:03}", 299 - round * 3), format!("d/moved-{round}"));
                fs::rename(place.path(old), place.path(new)).unwrap();
            }
            // New names come last in a union, so whoever makes one for each call never sees the end.
            if round < 10 {
                fs::write(place.path(format!("d/new-{round}")), "new").unwrap();
            }
            round += 1;
            seek(&dir, SeekFrom::Start(position)).unwrap();
        }
        let distinct: BTreeSet<_> = seen.iter().filter(|it| it.starts_with("file-")).collect();
        place.saw("none twice", distinct.len() == seen.iter().filter(|it| it.starts_with("file-")).count());
        let stayed: Vec<_> = fs::read_dir(place.path("d"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|it| it.starts_with("file-"))
            .collect();
        place.saw("all that stayed", stayed.iter().all(|it| distinct.contains(it)));
        // How many calls it took depends on the host, and so does what is left.
        fs::remove_dir_all(place.path("d")).unwrap();
    });
}

#[test]
fn fuse_root_emptying_a_directory_while_listing_it_works() {
    plays_alike(many, |place| {
        for entry in fs::read_dir(place.path("d")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        place.tried("empty", fs::remove_dir(place.path("d")));
        place.saw("gone", fs::exists(place.path("d")).unwrap());
    });
}

#[test]
fn fuse_root_renaming_what_is_listed_meets_each_entry_once() {
    plays_alike(many, |place| {
        // So many that the host lists them in several calls, as programs that rename while they list do.
        for n in 300..2000 {
            fs::write(place.path(format!("d/file-{n:04}")), "").unwrap();
        }
        let dir = File::open(place.path("d")).unwrap();
        let mut met = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut raw = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = raw.next() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                fs::rename(place.path("d").join(&name), place.path("d").join(format!("{name}.b"))).unwrap();
                met.push(name);
            }
            assert!(met.len() < 10_000, "without an end");
        }
        // A host may list some under both names; a union never does.
        place.saw("each once", place.is_plain() || met.len() == 2000);
        fs::remove_dir_all(place.path("d")).unwrap();
    });
}

#[test]
fn fuse_root_times_of_directories_move_with_their_entries() {
    plays_alike(
        |base| {
            fs::create_dir_all(base.join("d/sub")).unwrap();
            fs::create_dir(base.join("e")).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(base.join("d").join(name), name).unwrap();
            }
        },
        |place| {
            type Deed = (&'static str, fn(&Path) -> std::io::Result<()>);
            let deeds: [Deed; 9] = [
                ("create", |base| fs::write(base.join("d/new"), "")),
                ("mkdir", |base| fs::create_dir(base.join("d/newdir"))),
                ("symlink", |base| symlink("a", base.join("d/l"))),
                ("link", |base| fs::hard_link(base.join("d/a"), base.join("d/a2"))),
                ("unlink", |base| fs::remove_file(base.join("d/b"))),
                ("rmdir", |base| fs::remove_dir(base.join("d/sub"))),
                ("rename inside", |base| fs::rename(base.join("d/c"), base.join("d/c2"))),
                ("rename out", |base| fs::rename(base.join("d/c2"), base.join("e/c"))),
                ("rename in", |base| fs::rename(base.join("e/c"), base.join("d/c"))),
            ];
            for (what, act) in deeds {
                for dir in ["d", "e"] {
                    File::open(place.path(dir)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
                }
                place.tried(what, act(&place.path("")));
                for dir in ["d", "e"] {
                    let stat = fs::metadata(place.path(dir)).unwrap();
                    place.saw(format!("{dir} after {what}"), stat.mtime() != 0);
                }
            }
            for n in 0..2 {
                File::open(place.path("d")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
                fs::write(place.path("d/a"), "changed").unwrap();
                fs::set_permissions(
                    place.path("d/a"),
                    std::os::unix::fs::PermissionsExt::from_mode(0o600 + n),
                )
                .unwrap();
                place.saw("after a change inside", fs::metadata(place.path("d")).unwrap().mtime());
            }
        },
    );
}
