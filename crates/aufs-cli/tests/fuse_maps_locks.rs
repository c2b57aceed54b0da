//! Mappings, locks and watches of files that are copied up meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aufs_testkit::process::{Mapping, Share};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::fs::{Mode, chmod};
use twin::{Place, Stage, plays_alike};

const PAGE: usize = 4096;

fn pages(path: &Path) {
    fs::write(path, vec![b'a'; 3 * PAGE]).unwrap();
}

fn both(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn fuse_root_a_shared_mapping_writes_to_the_copy() {
    plays_alike(
        |base| pages(&base.join("f")),
        |place| {
            let file = both(&place.path("f"));
            let map = Mapping::new(file.as_fd(), 3 * PAGE).unwrap();
            place.saw("mapped", text(&map.read(PAGE, 4).unwrap()));
            map.write(PAGE, b"MAPS").unwrap();
            map.sync().unwrap();
            place.saw("read through the file", at(&file, PAGE as u64));
            place.saw("read by another", text(&fs::read(place.path("f")).unwrap()[PAGE - 2..PAGE + 6]));
            file.write_all_at(b"WRIT", 10).unwrap();
            place.saw("mapped after a write", text(&map.read(10, 4).unwrap()));
            drop(file);
            map.write(2 * PAGE, b"LATE").unwrap();
            map.sync().unwrap();
            drop(map);
            place.saw("written after close", text(&fs::read(place.path("f")).unwrap()[2 * PAGE..][..6]));
        },
    );
}

fn at(file: &File, offset: u64) -> String {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset).unwrap();
    text(&bytes)
}

#[test]
fn fuse_root_a_private_mapping_stays_private_across_copy_up() {
    plays_alike(
        |base| pages(&base.join("f")),
        |place| {
            let reader = File::open(place.path("f")).unwrap();
            let map = Mapping::with(reader.as_fd(), 3 * PAGE, Share::Private).unwrap();
            map.write(PAGE, b"MINE").unwrap();
            chmod(place.path("f"), Mode::from_raw_mode(0o600)).unwrap();
            both(&place.path("f")).write_all_at(b"file", PAGE as u64).unwrap();
            place.saw("mapped", text(&map.read(PAGE, 6).unwrap()));
            place.saw("file", text(&fs::read(place.path("f")).unwrap()[PAGE..][..6]));
        },
    );
}

/// What a mapping that was made before the copy-up shows of a later write.
#[test]
fn fuse_root_a_mapping_of_a_reader_shows_what_its_descriptor_does() {
    plays_alike(
        |base| pages(&base.join("f")),
        |place| {
            let reader = File::open(place.path("f")).unwrap();
            let map = Mapping::with(reader.as_fd(), 3 * PAGE, Share::ReadOnly).unwrap();
            place.saw("before", text(&map.read(PAGE, 4).unwrap()));
            let writer = both(&place.path("f"));
            writer.write_all_at(b"NEWS", PAGE as u64).unwrap();
            writer.sync_all().unwrap();
            let mapped = text(&map.read(PAGE, 4).unwrap());
            place.saw("as by the descriptor", mapped == at(&reader, PAGE as u64));
            // In passthrough mode both stay with the lower file, as in overlayfs.
            let is_new = mapped == "NEWS";
            place.saw("is new", is_new || place.stage == Stage::Passthrough && place.is_below());
            drop((map, reader));
            place.saw("a new reader", at(&File::open(place.path("f")).unwrap(), PAGE as u64));
        },
    );
}

/// Takes a POSIX lock as another process would.
fn lock_elsewhere(path: &Path, operation: FlockOperation) -> io::Result<()> {
    let run = || {
        unshare(CloneFlags::CLONE_FILES).unwrap(); // POSIX locks belong to a table of descriptors.
        let file = both(path);
        Ok(fcntl_lock(&file, operation)?)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn exclusive(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

#[test]
fn fuse_root_locks_of_writers_hold_across_copy_up() {
    plays_alike(
        |base| pages(&base.join("f")),
        |place| {
            let (first, second) = (both(&place.path("f")), both(&place.path("f")));
            place.tried("first", exclusive(&first));
            place.tried("second", exclusive(&second));
            second.write_all_at(b"x", 0).unwrap();
            place.tried("second after a write", exclusive(&second));
            place.tried("a third", exclusive(&both(&place.path("f"))));
            drop(first);
            place.tried("second when the first is closed", exclusive(&second));
            drop(second);

            let holder = both(&place.path("f"));
            place.tried("POSIX", fcntl_lock(&holder, FlockOperation::NonBlockingLockExclusive));
            let other = |place: &mut Place, what| {
                let tried = lock_elsewhere(&place.path("f"), FlockOperation::NonBlockingLockShared);
                place.tried(what, tried);
            };
            other(place, "another process");
            holder.write_all_at(b"x", 0).unwrap();
            other(place, "another process after a write");
            drop(holder);
            other(place, "another process at last");
        },
    );
}

#[test]
fn fuse_root_locks_of_readers_hold_across_copy_up_but_in_passthrough() {
    plays_alike(
        |base| pages(&base.join("f")),
        |place| {
            let reader = File::open(place.path("f")).unwrap();
            place.tried("reader", flock(&reader, FlockOperation::NonBlockingLockShared));
            let writer = both(&place.path("f"));
            writer.write_all_at(b"x", 0).unwrap();
            let refused = exclusive(&writer).is_err();
            // There the copy is another inode for the kernel: its rule of one backing file for each.
            place.saw("refused", refused || place.stage == Stage::Passthrough && place.is_below());
            drop(reader);
            place.tried("writer alone", exclusive(&writer));
        },
    );
}

fn events_of(watch: impl AsFd) -> Vec<String> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watch, &mut buffer);
    let mut found = Vec::new();
    while let Ok(event) = reader.next() {
        found.push(format!("{:?} {:?}", event.events(), event.file_name()));
    }
    found
}

#[test]
fn fuse_root_watches_tell_the_same_across_copy_up() {
    plays_alike(
        |base| {
            fs::create_dir(base.join("d")).unwrap();
            pages(&base.join("d/f"));
            pages(&base.join("d/g"));
        },
        |place| {
            let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
            for name in ["d/f", "d"] {
                add_watch(&watch, place.path(name), WatchFlags::ALL_EVENTS - WatchFlags::ACCESS).unwrap();
            }
            let file = both(&place.path("d/f"));
            file.write_all_at(b"x", 0).unwrap();
            drop(file);
            place.saw("write", events_of(&watch));
            chmod(place.path("d/f"), Mode::from_raw_mode(0o600)).unwrap();
            place.saw("chmod", events_of(&watch));
            fs::write(place.path("d/g"), "short").unwrap();
            place.saw("rewrite", events_of(&watch));
            fs::rename(place.path("d/g"), place.path("d/h")).unwrap();
            place.saw("rename", events_of(&watch));
            fs::rename(place.path("d/h"), place.path("d/f")).unwrap();
            place.saw("rename over", events_of(&watch));
            fs::remove_file(place.path("d/f")).unwrap();
            fs::create_dir(place.path("d/e")).unwrap();
            place.saw("remove and make", events_of(&watch));
        },
    );
}
