//! Where the bytes of files are: allocation, holes, copies by the kernel, sizes of the file system.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{
    FallocateFlags, SeekFrom, copy_file_range, fallocate, ioctl_ficlone, seek, sendfile, statfs, statvfs,
};
use twin::{Place, plays_alike};

const MIB: u64 = 1 << 20;

fn both(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Data at 1 and 5 MiB of 8.
fn sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(8 * MIB).unwrap();
    for at in [1, 5] {
        file.write_all_at(&vec![b'd'; 64 << 10], at * MIB).unwrap();
    }
    file.sync_all().unwrap();
}

/// Where data begins and ends, as long as there is some.
fn map_of(file: &File) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(data) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(data)).unwrap();
        found.push((data, at));
    }
    found
}

/// The file's length, where its data is, and a sum of its bytes.
fn look(place: &mut Place, what: &str, path: &Path) {
    let file = File::open(path).unwrap();
    let bytes = fs::read(path).unwrap();
    let sum = bytes.iter().zip(1_u64..).fold(0_u64, |sum, (byte, n)| sum.wrapping_add(u64::from(*byte) * n));
    place.saw(what, (bytes.len(), map_of(&file), sum));
    let stat = fs::metadata(path).unwrap();
    place.saw(format!("{what}, is sparse"), stat.blocks() * 512 < stat.len());
}

#[test]
fn fuse_root_holes_are_found_and_stay_across_copy_up() {
    plays_alike(
        |base| sparse(&base.join("f")),
        |place| {
            let path = place.path("f");
            look(place, "before", &path);
            let file = both(&path);
            for offset in [0, MIB, MIB + 10, 5 * MIB + (64 << 10), 8 * MIB - 1, 8 * MIB, 9 * MIB] {
                place.tried(format!("data from {offset}"), seek(&file, SeekFrom::Data(offset)));
                place.tried(format!("hole from {offset}"), seek(&file, SeekFrom::Hole(offset)));
            }
            file.write_all_at(b"x", 3 * MIB).unwrap();
            file.sync_all().unwrap();
            look(place, "after a write", &path);
            file.set_len(20 * MIB).unwrap();
            look(place, "longer", &path);
            file.set_len(2 * MIB).unwrap();
            look(place, "shorter", &path);
        },
    );
}

#[test]
fn fuse_root_allocation_works_as_on_a_plain_directory() {
    plays_alike(
        |base| {
            for n in 0..8 {
                sparse(&base.join(format!("f{n}")));
            }
            fs::write(base.join("short"), "short").unwrap();
        },
        |place| {
            use FallocateFlags as F;
            let keep = F::KEEP_SIZE;
            for (n, (flags, offset, len)) in [
                (F::empty(), 0, 2 * MIB),
                (F::empty(), 7 * MIB, 3 * MIB),
                (keep, 8 * MIB, MIB),
                (keep | F::PUNCH_HOLE, MIB, 4096),
                (F::ZERO_RANGE, 5 * MIB, 8192),
                (F::ZERO_RANGE, 7 * MIB, 2 * MIB),
                (F::ZERO_RANGE | keep, 7 * MIB, 2 * MIB),
                (F::UNSHARE_RANGE, 0, MIB),
            ]
            .into_iter()
            .enumerate()
            {
                let path = place.path(format!("f{n}"));
                let what = format!("{flags:?} at {offset}");
                place.tried(&what, fallocate(both(&path), flags, offset, len));
                let stat = fs::metadata(&path).unwrap();
                place.saw(&what, stat.len());
                place.saw(&what, fs::read(&path).unwrap().iter().filter(|it| **it == b'd').count());
            }
            let path = place.path("short");
            place.tried("punch without keeping", fallocate(both(&path), F::PUNCH_HOLE, 0, 1));
            place.tried("nothing", fallocate(both(&path), F::empty(), 0, 0));
            place.tried("a reader", fallocate(File::open(&path).unwrap(), F::empty(), 0, 10));
            for flags in [F::COLLAPSE_RANGE, F::INSERT_RANGE] {
                let refused = fallocate(both(place.path("f0")), flags, 0, 4096);
                if !place.is_plain() {
                    // FUSE forwards neither.
                    assert_eq!(refused, Err(rustix::io::Errno::OPNOTSUPP), "{flags:?}");
                }
            }
            // What the two did to the plain file is not to be compared.
            fs::remove_file(place.path("f0")).unwrap();
        },
    );
}

#[test]
fn fuse_root_the_kernel_copies_into_out_of_and_within_a_union() {
    plays_alike(
        |base| {
            sparse(&base.join("from"));
            fs::write(base.join("to"), "0123456789").unwrap();
            fs::write(base.join("small"), "small").unwrap();
        },
        |place| {
            let outside = tempfile::tempdir().unwrap();
            let (out, back) = (outside.path().join("out"), outside.path().join("back"));
            File::create(&out).unwrap();
            fs::write(&back, "from outside").unwrap();

            let from = File::open(place.path("from")).unwrap();
            let copied = copy_file_range(&from, Some(&mut (MIB - 5)), both(&out), None, 100);
            if !place.is_plain() {
                // Between two types of file systems the kernel leaves it to the caller, as cp(1) then does.
                assert_eq!(copied, Err(rustix::io::Errno::XDEV));
            }
            let copied =
                copy_file_range(&from, Some(&mut (MIB - 5)), both(place.path("to")), Some(&mut 3), 10);
            place.tried("within", copied);
            place.saw("within", fs::read(place.path("to")).unwrap());
            let reader = File::open(&back).unwrap();
            let copied = copy_file_range(&reader, Some(&mut 5), both(place.path("to")), Some(&mut 0), 100);
            if !place.is_plain() {
                assert_eq!(copied, Err(rustix::io::Errno::XDEV));
            }
            fs::write(place.path("to"), "0123456789").unwrap();
            let target = File::open(place.path("to")).unwrap();
            place.tried("into a reader", copy_file_range(&from, Some(&mut 0), target, None, 1));
            let to = both(place.path("to"));
            place.tried("overlapping", copy_file_range(&to, Some(&mut 0), &to, Some(&mut 2), 5));

            let sent = sendfile(both(&out), &from, Some(&mut (5 * MIB - 3)), 6);
            place.tried("sent out", sent);
            let sent = sendfile(both(place.path("small")), &reader, None, 4);
            place.tried("sent into", sent);
            place.tried("small", fs::read_to_string(place.path("small")));
            place.tried("copied whole", fs::copy(place.path("from"), place.path("copy")));
            place.tried("copied out whole", fs::copy(place.path("from"), outside.path().join("whole")));
            let same =
                fs::read(place.path("copy")).unwrap() == fs::read(outside.path().join("whole")).unwrap();
            place.saw("the same", same);
        },
    );
}

#[test]
fn fuse_root_clones_of_whole_files_are_refused() {
    plays_alike(
        |base| {
            fs::write(base.join("from"), "from").unwrap();
            fs::write(base.join("to"), "to").unwrap();
        },
        |place| {
            if place.is_plain() {
                return; // A host may have them; FUSE does not forward them.
            }
            let outside = tempfile::tempdir().unwrap();
            let out = File::create(outside.path().join("out")).unwrap();
            let from = File::open(place.path("from")).unwrap();
            let within = ioctl_ficlone(both(place.path("to")), &from).unwrap_err();
            assert!(matches!(within, rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::XDEV), "{within:?}");
            let beyond = ioctl_ficlone(&out, &from).unwrap_err();
            assert_eq!(beyond, rustix::io::Errno::XDEV);
            assert_eq!(fs::read_to_string(place.path("to")).unwrap(), "to");
        },
    );
}

#[test]
fn fuse_root_sizes_are_those_of_the_writable_branch() {
    plays_alike(
        |base| fs::write(base.join("f"), "x").unwrap(),
        |place| {
            const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
            let sizes = statvfs(place.path("f")).unwrap();
            place.saw("blocks", (sizes.f_blocks, sizes.f_frsize, sizes.f_bsize, sizes.f_files));
            place.saw(
                "some are free",
                0 < sizes.f_bfree && sizes.f_bavail <= sizes.f_bfree && 0 < sizes.f_ffree,
            );
            if !place.is_plain() {
                assert_eq!(sizes.f_namemax, 242);
                assert_eq!(statfs(place.path(".")).unwrap().f_type, FUSE_SUPER_MAGIC);
            }
        },
    );
}
