//! Reads a directory of the host with `getdents64(2)` and a large buffer.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::{self, Errno};

/// One entry of a host directory.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// Its type, `Unknown` where the file system does not say.
    pub file_type: FileType,
    /// Its inode number.
    pub ino: u64,
}

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Returns what `keep` makes of each entry of `dir`, as [`visit`].
///
/// # Errors
///
/// As [`visit`].
pub fn read<T>(dir: impl AsFd, mut keep: impl FnMut(Listed<'_>) -> T) -> io::Result<Vec<T>> {
    let mut kept = Vec::new();
    visit(dir, false, |entry| kept.push(keep(entry)))?;
    Ok(kept)
}

/// Calls `take` for each entry of `dir`, `.` and `..` left out; `dir` may be an `O_PATH` handle.
///
/// One that is no such handle must not be read by others meanwhile; unless it
/// `is_new`, it is rewound first.
///
/// # Errors
///
/// What `openat(2)`, `lseek(2)` and `getdents64(2)` report.
pub fn visit(dir: impl AsFd, is_new: bool, mut take: impl FnMut(Listed<'_>)) -> io::Result<()> {
    let rewound = if is_new { Ok(0) } else { fs::seek(&dir, SeekFrom::Start(0)) };
    match rewound.and_then(|_| visit_rest(&dir, &mut take)) {
        // An O_PATH handle cannot be read, and says so.
        Err(Errno::BADF) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            visit_rest(fs::openat(&dir, ".", flags, Mode::empty())?, &mut take)
        }
        other => other,
    }
}

fn visit_rest(dir: impl AsFd, take: &mut impl FnMut(Listed<'_>)) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_LEN_BYTES);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            take(Listed { name, file_type: entry.file_type(), ino: entry.ino() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_reads_the_same_again_and_by_any_kind_of_handle() {
        let scratch = tempfile::tempdir().unwrap();
        for index in 0..3000 {
            std::fs::write(scratch.path().join(format!("name-{index}")), "").unwrap();
        }
        let open = |flags| fs::open(scratch.path(), flags | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (readable, pinned) = (open(OFlags::RDONLY), open(OFlags::PATH));
        let sorted = |dir: &std::os::fd::OwnedFd, is_new| {
            let mut names = Vec::new();
            visit(dir, is_new, |entry| names.push(entry.name.to_owned())).unwrap();
            names.sort();
            names
        };
        let names = sorted(&readable, true);
        assert_eq!(names.len(), 3000);
        for (dir, is_new) in [(&readable, false), (&pinned, true), (&pinned, false)] {
            assert_eq!(sorted(dir, is_new), names);
        }
    }
}
