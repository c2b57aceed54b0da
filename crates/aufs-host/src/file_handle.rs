//! What the host calls a file, whatever its names are: to open a directory again without walking to it.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io;

use crate::errno::last_errno;

/// Longest handle of any file system, in bytes: `MAX_HANDLE_SZ` of `fcntl.h`.
const LEN_BYTES_MAX: usize = 128;

/// The host's own name of a file; see `name_to_handle_at(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHandle {
    kind: i32,
    bytes: Box<[u8]>,
}

/// `struct file_handle` with room for the longest.
#[repr(C)]
struct Raw {
    len_bytes: u32,
    kind: i32,
    bytes: [u8; LEN_BYTES_MAX],
}

// The calls below take this for the C library's type.
const _: () = assert!(offset_of!(Raw, bytes) == offset_of!(libc::file_handle, f_handle));
const _: () = assert!(align_of::<Raw>() == align_of::<libc::file_handle>());

impl FileHandle {
    /// Returns the handle of the file that `fd` is open on.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the file system has none; else what `name_to_handle_at(2)` reports.
    #[expect(unsafe_code, reason = "neither nix nor rustix wraps name_to_handle_at(2)")]
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let mut raw = Raw { len_bytes: LEN_BYTES_MAX as u32, kind: 0, bytes: [0; LEN_BYTES_MAX] };
        let mut mount_id = 0;
        // SAFETY: the descriptor is open and the path a constant C string; `raw` is laid
        // out as the call expects, with room for as many bytes as it says.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_fd().as_raw_fd(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        if result != 0 {
            return Err(last_errno());
        }
        let len_bytes = (raw.len_bytes as usize).min(LEN_BYTES_MAX);
        Ok(Self { kind: raw.kind, bytes: raw.bytes[..len_bytes].into() })
    }

    /// Opens the directory, on the mount that `mount` is an ordinary descriptor on.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_DAC_READ_SEARCH` on the host; `ESTALE` when the directory is
    /// gone; else what `open_by_handle_at(2)` reports.
    #[expect(unsafe_code, reason = "neither nix nor rustix wraps open_by_handle_at(2)")]
    pub fn open_directory(&self, mount: impl AsFd) -> io::Result<OwnedFd> {
        let mut raw = Raw { len_bytes: self.bytes.len() as u32, kind: self.kind, bytes: [0; LEN_BYTES_MAX] };
        raw.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        let flags = (OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).bits().cast_signed();
        // SAFETY: the descriptor is open; `raw` is laid out as the call expects and holds as many bytes as it says.
        let fd = unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), (&raw mut raw).cast(), flags) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn root_a_directory_is_found_wherever_it_went_until_it_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let (old, new) = (scratch.path().join("old"), scratch.path().join("new"));
        fs::create_dir(&old).unwrap();
        let mount = File::open(scratch.path()).unwrap();
        let handle = FileHandle::of(File::open(&old).unwrap()).unwrap();
        let ino = fs::metadata(&old).unwrap().ino();
        fs::rename(&old, &new).unwrap();
        match handle.open_directory(&mount) {
            Err(Errno::PERM) => {
                let required = std::env::var("REQUIRE").unwrap_or_default().contains("root");
                assert!(!required, "root is required");
                return eprintln!("skipped: needs CAP_DAC_READ_SEARCH on the host");
            }
            found => assert_eq!(File::from(found.unwrap()).metadata().unwrap().ino(), ino),
        }
        fs::remove_dir(&new).unwrap();
        // A child that another test has forked holds what was open here until it becomes another program; a directory
        // that somebody has open can be opened after it was removed.
        let opened_again = || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            handle.open_directory(&mount).is_ok()
        };
        let n_tries = (0..1000).take_while(|_| opened_again()).count();
        assert!(n_tries < 1000, "the directory stays");
        assert_eq!(handle.open_directory(&mount).unwrap_err(), Errno::STALE);
    }
}
