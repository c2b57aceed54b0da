//! The FUSE device: one open connection to the kernel, and what only `ioctl(2)` does on it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aufs_host::errno_of;
use rustix::fs::{Mode, OFlags};
use rustix::io::{self, Errno};

/// `_IOR(229, 0, uint32_t)`: `FUSE_DEV_IOC_CLONE`.
const CLONE: libc::c_ulong = 0x8004_e500;
/// `_IOW(229, 1, struct fuse_backing_map)`: `FUSE_DEV_IOC_BACKING_OPEN`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
/// `_IOW(229, 2, uint32_t)`: `FUSE_DEV_IOC_BACKING_CLOSE`.
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// One descriptor of a connection; a reply must go to the one its request was read from.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Channel {
    /// Opens the device, which belongs to no connection until it is mounted.
    ///
    /// # Errors
    ///
    /// `ENOENT` without the device, `ENODEV` without the kernel module, `EACCES`.
    pub fn open() -> io::Result<Self> {
        let fd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens one more descriptor of this connection, with a queue of its own for replies.
    ///
    /// # Errors
    ///
    /// What `open(2)` and `FUSE_DEV_IOC_CLONE` report.
    pub fn another(&self) -> io::Result<Self> {
        let other = Self::open()?;
        let source = self.fd.as_raw_fd();
        ioctl(&other, CLONE, &raw const source)?;
        Ok(other)
    }
}

/// A file the kernel may read and write by itself; registered until dropped.
#[derive(Debug)]
pub struct Backing {
    channel: Arc<Channel>,
    id: i32,
}

impl Backing {
    /// Registers `file`, which may be an `O_PATH` handle.
    ///
    /// # Errors
    ///
    /// `EPERM` outside the initial user namespace, `ELOOP` where file systems are stacked too deep,
    /// `EOPNOTSUPP` where the file cannot be read and written so.
    pub fn register(channel: &Arc<Channel>, file: &File) -> io::Result<Self> {
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        let id = ioctl(channel, BACKING_OPEN, &raw const map)?;
        Ok(Self { channel: Arc::clone(channel), id })
    }

    /// Returns the number to answer an OPEN with.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Err(errno) = ioctl(&self.channel, BACKING_CLOSE, &raw const self.id)
            && errno != Errno::NOTCONN
        {
            tracing::debug!(%errno, id = self.id, "a backing file stays registered");
        }
    }
}

/// Sends `buffer` to the file system that `file` lies on, whose answer takes its place; `request` says how long it is.
///
/// # Errors
///
/// `EINVAL` when that length is not the buffer's; else what `ioctl(2)` reports, `ENOTTY` where nobody knows the request.
#[expect(unsafe_code, reason = "no crate wraps requests of our own")]
pub fn exchange(file: impl AsFd, request: u32, buffer: &mut [u8]) -> io::Result<()> {
    const LEN_BITS: u32 = 14;
    if (request >> 16) as usize & ((1 << LEN_BITS) - 1) != buffer.len() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the descriptor is open for the whole call, and the kernel reads and writes at most as many
    // bytes as the request says, which the buffer has.
    let result =
        unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::c_ulong::from(request), buffer.as_mut_ptr()) };
    if 0 <= result { Ok(()) } else { Err(errno_of(std::io::Error::last_os_error())) }
}

/// `ioctl(channel, request, argument)` - one of the requests above, whose argument the kernel reads.
#[expect(unsafe_code, reason = "neither nix nor rustix has the ioctls of the FUSE device")]
fn ioctl<T>(channel: &Channel, request: libc::c_ulong, argument: *const T) -> io::Result<i32> {
    // SAFETY: the descriptor is open for the whole call; each caller passes the structure its request
    // takes, alive for the call, and the kernel only reads it.
    let result = unsafe { libc::ioctl(channel.fd.as_raw_fd(), request, argument) };
    if 0 <= result {
        return Ok(result);
    }
    Err(errno_of(std::io::Error::last_os_error()))
}
