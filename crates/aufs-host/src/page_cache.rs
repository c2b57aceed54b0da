//! What of a file lies in the page cache.

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io;

use crate::errno::last_errno;

/// Number of `cachestat(2)` on all architectures but alpha; libc names it for few of its targets.
const SYS_CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range` of `linux/mman.h`; all zero is the whole file.
#[repr(C)]
#[derive(Debug, Default)]
struct Range {
    off: u64,
    len: u64,
}

/// `struct cachestat` of `linux/mman.h`, in pages.
#[repr(C)]
#[derive(Debug, Default)]
struct Counts {
    nr_cache: u64,
    nr_dirty: u64,
    nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

/// Bytes of whole pages that the page cache holds of `file` under the inode that `file` was opened by.
///
/// A file system that shows files of another one may have pages of its own: each is asked by its own descriptor.
///
/// # Errors
///
/// What `cachestat(2)` reports; `ENOSYS` before Linux 6.5.
pub fn resident_bytes(file: impl AsFd) -> io::Result<u64> {
    Ok(cachestat(file)?.nr_cache * rustix::param::page_size() as u64)
}

/// `cachestat(file, whole, &counts, 0)` - counts the pages of a file by their state.
///
/// Source: `mm/filemap.c` and `include/uapi/linux/mman.h` of Linux 6.5.
#[expect(unsafe_code, reason = "neither nix nor rustix wraps cachestat(2)")]
fn cachestat(file: impl AsFd) -> io::Result<Counts> {
    let (range, mut counts) = (Range::default(), Counts::default());
    // SAFETY: the descriptor is open for the whole call, and both structures, laid out as the kernel's,
    // outlive it; it reads the first and writes the second.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_fd().as_raw_fd(),
            &raw const range,
            &raw mut counts,
            0 as libc::c_uint,
        )
    };
    if result == 0 { Ok(counts) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use rustix::io::Errno;

    use super::*;

    const TMPFS_MAGIC: i64 = 0x0102_1994;
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

    #[test]
    fn pages_come_with_writing_and_go_when_told() {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let page = rustix::param::page_size() as u64;
        match resident_bytes(&file) {
            Err(Errno::NOSYS) => return println!("skipped: Linux before 6.5"),
            empty => assert_eq!(empty, Ok(0)),
        }
        file.write_all(&vec![7; 3 * page as usize + 1]).unwrap();
        let (written, after) = match rustix::fs::fstatfs(&file).unwrap().f_type {
            TMPFS_MAGIC => (4 * page, 4 * page),
            // The pages are those of the file below.
            OVERLAYFS_SUPER_MAGIC => (0, 0),
            _ => (4 * page, 0),
        };
        assert_eq!(resident_bytes(&file), Ok(written));
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert_eq!(resident_bytes(&file), Ok(after));
        let mut other = tempfile::tempfile().unwrap();
        other.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(resident_bytes(&other), Ok(0), "another file");
    }
}
