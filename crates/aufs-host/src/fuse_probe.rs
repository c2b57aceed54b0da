//! Asks the kernel by a real FUSE mount what its FUSE can do.
//!
//! The INIT request names the protocol version and the features; whether passthrough works
//! is known only when the kernel has taken a backing file: in a user namespace INIT
//! advertises it, and `FUSE_DEV_IOC_BACKING_OPEN` answers `EPERM` all the same.
//!
//! Source of layouts and numbers: `include/uapi/linux/fuse.h`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::private_child::{self, Namespaces, Step, Teller, TrialError, c_path};

/// `FUSE_INIT_EXT`: the second flag word counts.
const INIT_EXT: u64 = 1 << 30;
/// `FUSE_PASSTHROUGH`: the kernel may read and write backing files itself.
const PASSTHROUGH: u64 = 1 << 37;
/// `FUSE_OVER_IO_URING`: requests may travel by io_uring.
const OVER_IO_URING: u64 = 1 << 41;
const OPCODE_INIT: u32 = 26;
/// `FUSE_MIN_READ_BUFFER`: the kernel refuses to fill a smaller one.
const READ_BUFFER_LEN: usize = 8192;
const IN_HEADER_LEN: usize = 40;

/// What the kernel's FUSE said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseProbe {
    /// Major and minor number of the protocol.
    pub abi: (u32, u32),
    /// Whether INIT advertises passthrough.
    pub advertises_passthrough: bool,
    /// Whether INIT advertises io_uring; it does only while the switch of the module is on.
    pub advertises_io_uring: bool,
    /// Whether the kernel took a backing file; `None` where passthrough is not advertised.
    pub backing_open: Option<Result<(), TrialError>>,
}

/// Mounts FUSE in a private mount namespace, answers INIT, and offers a backing file.
///
/// `scratch` is an absolute path of a directory; a tmpfs hides it from the trial only.
///
/// # Errors
///
/// The step that was refused before the kernel's INIT was known.
#[expect(unsafe_code, reason = "calls `private_child::run`")]
pub fn probe(namespaces: Namespaces, scratch: &Path) -> Result<FuseProbe, TrialError> {
    let target = c_path(&scratch.join("mount"))?;
    let backing = c_path(&scratch.join("backing"))?;

    // SAFETY: `mount_and_ask` makes syscalls on the texts made above and on buffers on the stack.
    let report = unsafe {
        private_child::run(namespaces, scratch, |teller| mount_and_ask(&target, &backing, teller))
    }?;
    let Some(init) = InitRequest::parse(&report.payload) else {
        report.end?;
        return Err(Step::ReadInit.refused(Errno::PROTO));
    };
    Ok(FuseProbe {
        abi: (init.major, init.minor),
        advertises_passthrough: init.flags & PASSTHROUGH != 0,
        advertises_io_uring: init.flags & OVER_IO_URING != 0,
        backing_open: (init.flags & PASSTHROUGH != 0).then_some(report.end),
    })
}

/// Runs in the child: syscalls only. Tells the INIT request as it was read.
fn mount_and_ask(target: &CStr, backing: &CStr, teller: &Teller<'_>) -> Result<(), TrialError> {
    rustix::fs::mkdir(target, Mode::RWXU).map_err(|errno| Step::FillScratch.refused(errno))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(backing, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Step::FillScratch.refused(errno))?;

    // Opened here, since the kernel wants the device opened in the user namespace of the mount.
    let device = rustix::fs::open(c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Step::OpenFuse.refused(errno))?;
    let mut options = [0_u8; 64];
    let options = fuse_options(&mut options, device.as_raw_fd()).ok_or(Step::Mount.refused(Errno::INVAL))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"aufs-trial", target, c"fuse", flags, Some(options))
        .map_err(|errno| Step::Mount.refused(errno))?;

    let mut request = [0_u8; READ_BUFFER_LEN];
    let len = rustix::io::read(&device, &mut request).map_err(|errno| Step::ReadInit.refused(errno))?;
    let request = request.get(..len).unwrap_or_default();
    teller.tell(request);
    let init = InitRequest::parse(request).ok_or(Step::ReadInit.refused(Errno::PROTO))?;
    if init.flags & PASSTHROUGH == 0 {
        return Ok(());
    }
    rustix::io::write(&device, &init_reply(&init)).map_err(|errno| Step::ReplyInit.refused(errno))?;
    open_backing(rustix::fd::AsFd::as_fd(&device), file.as_raw_fd())
        .map_err(|errno| Step::OpenBacking.refused(errno))
}

/// Registers `file` as a backing file, as the server does before a passthrough open.
#[expect(unsafe_code, reason = "no crate wraps this ioctl")]
fn open_backing(device: BorrowedFd<'_>, file: i32) -> Result<(), Errno> {
    /// `struct fuse_backing_map`.
    #[repr(C)]
    struct BackingMap {
        fd: i32,
        flags: u32,
        padding: u64,
    }
    /// `_IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)`.
    const BACKING_OPEN: libc::Ioctl = (1 << 30 | 16 << 16 | 229 << 8 | 1) as libc::Ioctl;

    let map = BackingMap { fd: file, flags: 0, padding: 0 };
    // SAFETY: the ioctl reads 16 bytes at the pointer, which is what `map` has, and keeps none of it.
    // Its descriptor is borrowed for the call. The id it returns goes away with the device.
    let id = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) };
    // SAFETY: errno belongs to this thread and is read right after the call that set it.
    if 0 < id { Ok(()) } else { Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() })) }
}

/// The fields of an INIT request that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InitRequest {
    unique: u64,
    major: u32,
    minor: u32,
    flags: u64,
}

impl InitRequest {
    /// Reads `struct fuse_in_header` and `struct fuse_init_in`; the latter grew with 7.36.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        if word(4)? != OPCODE_INIT {
            return None;
        }
        let unique = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
        let [major, minor] = [word(IN_HEADER_LEN)?, word(IN_HEADER_LEN + 4)?];
        let mut flags = u64::from(word(IN_HEADER_LEN + 12)?);
        if flags & INIT_EXT != 0 {
            flags |= u64::from(word(IN_HEADER_LEN + 16)?) << 32;
        }
        Some(Self { unique, major, minor, flags })
    }
}

/// Makes the reply that accepts passthrough and nothing else.
fn init_reply(init: &InitRequest) -> [u8; 80] {
    let mut reply = [0_u8; 80];
    let flags = INIT_EXT | PASSTHROUGH;
    let [low, high] = [flags as u32, (flags >> 32) as u32];
    // `struct fuse_out_header` (16 bytes), then `struct fuse_init_out` (64 bytes).
    for (at, value) in [
        (0, 80_u32),
        (16, init.major),
        (20, init.minor),
        (28, low),
        (36, 65536), // max_write
        (40, 1),     // time_gran, in nanoseconds
        (48, high),
        (52, 1), // max_stack_depth: backing files lie on plain file systems
    ] {
        put(&mut reply, at, &value.to_ne_bytes());
    }
    put(&mut reply, 8, &init.unique.to_ne_bytes());
    reply
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in target.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// Writes the mount options into `buffer`. Written by hand, since the child must not allocate.
fn fuse_options(buffer: &mut [u8; 64], device: i32) -> Option<&CStr> {
    let mut digits = [0_u8; 10];
    let mut left = u32::try_from(device).ok()?;
    let mut start = digits.len();
    loop {
        start -= 1;
        *digits.get_mut(start)? = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let digits = digits.get(start..)?;
    put(buffer, 0, b"fd=");
    put(buffer, 3, digits);
    put(buffer, 3 + digits.len(), b",rootmode=40000,user_id=0,group_id=0\0");
    CStr::from_bytes_until_nul(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init_request(minor: u32, flags: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        for (at, value) in [
            (0, len as u32),
            (4, OPCODE_INIT),
            (40, 7),
            (44, minor),
            (48, 131_072),
            (52, flags as u32),
            (56, (flags >> 32) as u32),
        ] {
            put(&mut bytes, at, &value.to_ne_bytes());
        }
        put(&mut bytes, 8, &2_u64.to_ne_bytes());
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn init_requests_of_old_and_new_kernels_are_read() {
        let parsed = |minor, flags| Some(InitRequest { unique: 2, major: 7, minor, flags });
        for (case, bytes, expected) in [
            ("5.10", init_request(31, 0xff, 56), parsed(31, 0xff)),
            ("6.18", init_request(45, INIT_EXT | PASSTHROUGH, 104), parsed(45, INIT_EXT | PASSTHROUGH)),
            ("second word without its flag", init_request(45, PASSTHROUGH, 104), parsed(45, 0)),
            ("cut", init_request(45, INIT_EXT, 58), None),
            ("empty", Vec::new(), None),
            ("another request", vec![0; 104], None),
        ] {
            assert_eq!(InitRequest::parse(&bytes), expected, "{case}");
        }
    }

    #[test]
    fn options_name_the_descriptor() {
        for (device, expected) in [(0, "fd=0"), (7, "fd=7"), (1024, "fd=1024"), (i32::MAX, "fd=2147483647")] {
            let mut buffer = [0; 64];
            let options = fuse_options(&mut buffer, device).unwrap().to_str().unwrap();
            assert_eq!(options, format!("{expected},rootmode=40000,user_id=0,group_id=0"));
        }
        assert_eq!(fuse_options(&mut [0; 64], -1), None);
    }

    /// Whether a test that needs root and `/dev/fuse` can run; prints why not.
    fn can_mount() -> bool {
        let required = |need| std::env::var("REQUIRE").is_ok_and(|it| it.split(',').any(|it| it == need));
        if !rustix::process::geteuid().is_root() {
            assert!(!required("root"), "REQUIRE names root, but this is not root");
            eprintln!("skipped: not root");
            return false;
        }
        if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
            assert!(!required("fuse"), "REQUIRE names fuse, but /dev/fuse: {error}");
            eprintln!("skipped: /dev/fuse: {error}");
            return false;
        }
        true
    }

    #[test]
    fn fuse_root_the_kernel_answers() {
        if !can_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let probe = probe(Namespaces::Mount, scratch.path()).unwrap();
        assert_eq!(probe.abi.0, 7);
        assert_eq!(probe.backing_open.is_some(), probe.advertises_passthrough);
        // 7.40 is Linux 6.9, the first with passthrough; it may be configured out.
        assert!(!probe.advertises_passthrough || 40 <= probe.abi.1, "{probe:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(scratch.path().to_str().unwrap()));
    }

    #[test]
    fn fuse_root_a_user_namespace_gets_no_backing_file() {
        if !can_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        match probe(Namespaces::UserAndMount, scratch.path()) {
            // The claim is about kernels that have passthrough; the others have nothing to refuse.
            Ok(probe) if probe.advertises_passthrough => {
                assert_eq!(probe.backing_open, Some(Err(Step::OpenBacking.refused(Errno::PERM))));
            }
            Ok(probe) => assert_eq!(probe.backing_open, None),
            Err(refusal) => assert!(
                matches!(refusal.step, Step::Unshare | Step::MapIds | Step::MakePrivate),
                "only a host without user namespaces may refuse: {refusal}"
            ),
        }
    }
}
