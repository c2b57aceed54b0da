//! A small file system in memory, served over whichever transport, and the mount it hangs at.

mod tree;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use aufs_fusedev::abi::flags::InitFlags;
use aufs_fusedev::abi::opcode::Opcode;
use aufs_fusedev::device::Channel;
use aufs_fusedev::init::{RING_DEPTH, Wanted};
use aufs_fusedev::notify::Notifier;
use aufs_fusedev::session::{Session, SessionError};
use aufs_fusedev::stats::Stats;
use aufs_fusedev::transport::{InUse, Transport};
use nix::fcntl::{Flock, FlockArg};
use rustix::mount::{MountFlags, UnmountFlags};

pub use self::tree::{BIG, BIG_LEN_BYTES, MANY, MANY_DIR, MANY_FIRST, Toy, big_byte};

/// What may be changed for the whole machine, while no other test depends on it.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
const LOCK: &str = "/tmp/enable-uring.lock";

/// Settings of the machine, until this is dropped.
pub struct Settings {
    before: Vec<(&'static str, String)>,
    _lock: Flock<File>,
}

impl Settings {
    /// Takes the lock and sets the switch to `switch`, and `kernel.io_uring_disabled` to `disabled`.
    pub fn set(switch: &str, disabled: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(LOCK)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let mut settings = Self { before: Vec::new(), _lock: lock };
        for (path, value) in [(SWITCH, switch), (DISABLED, disabled)] {
            let before = std::fs::read_to_string(path)?;
            std::fs::write(path, value)?;
            settings.before.push((path, before));
        }
        Ok(settings)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            if let Err(error) = std::fs::write(path, value) {
                eprintln!("{path} stays changed: {error}");
            }
        }
    }
}

/// Why FUSE over io_uring cannot be tried here.
pub fn missing_switch() -> Option<String> {
    let writable = OpenOptions::new().write(true).open(SWITCH);
    writable.err().map(|error| format!("needs {SWITCH}: {error}"))
}

pub fn wanted() -> Wanted {
    Wanted {
        flags: InitFlags::PARALLEL_DIROPS | InitFlags::BIG_WRITES | InitFlags::ASYNC_READ,
        request_len_bytes_max: 1 << 20,
        readahead_len_bytes: 1 << 20,
        background_max: 64,
        stack_depth_max: 0,
        ring_depth: RING_DEPTH,
    }
}

/// A mount of the toy, taken away when this is dropped.
pub struct Mounted {
    pub directory: tempfile::TempDir,
    is_mounted: bool,
}

impl Mounted {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts a file system that nobody serves yet.
    pub fn new() -> io::Result<(Self, Channel)> {
        let directory = tempfile::Builder::new().prefix("fusedev-").tempdir()?;
        let channel = Channel::open()?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", channel.as_fd().as_raw_fd());
        let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).map_err(io::Error::other)?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("toy", directory.path(), "fuse.toy", flags, Some(data))?;
        Ok((Self { directory, is_mounted: true }, channel))
    }

    pub fn unmount(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_mounted, false) {
            rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH)?;
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.directory.path().display());
        }
    }
}

/// The toy with a thread that serves it.
pub struct Served {
    pub mounted: Mounted,
    pub toy: Arc<Toy>,
    pub in_use: InUse,
    pub notifier: Notifier,
    stats: Arc<Stats>,
    server: Option<JoinHandle<Result<(), SessionError>>>,
}

impl Served {
    /// Serves over `transport` as the machine is set up now.
    pub fn with(wanted: &Wanted, transport: Transport, readers: usize) -> Result<Self, SessionError> {
        let io = |error: io::Error| SessionError::Thread(error);
        let (mounted, channel) = Mounted::new().map_err(io)?;
        let session = Session::open(channel, |_| *wanted, transport)?;
        let toy = Arc::new(Toy::new(session.interrupts()));
        let (in_use, handler) = (session.in_use(), Arc::clone(&toy));
        let (notifier, stats) = (session.notifier(), Arc::clone(session.stats()));
        let server = std::thread::Builder::new()
            .name("toy-server".to_owned())
            .spawn(move || session.run(&handler, readers))
            .map_err(io)?;
        Ok(Self { mounted, toy, in_use, notifier, stats, server: Some(server) })
    }

    /// Serves over io_uring or the device, whatever the machine's settings are.
    pub fn over(transport: Transport) -> Result<Self, SessionError> {
        let switch = if transport == Transport::Device { "N" } else { "Y" };
        // The kernel looks at the switch when the rings are set up, and never again.
        let settings = Settings::set(switch, "0").map_err(SessionError::Thread)?;
        let served = Self::with(&wanted(), transport, 2)?;
        drop(settings);
        Ok(served)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.mounted.path().join(name)
    }

    /// Returns how many requests of this kind were answered.
    pub fn count(&self, opcode: Opcode) -> u64 {
        self.stats.snapshot().iter().find(|it| it.opcode == opcode).map_or(0, |it| it.count)
    }

    /// Unmounts, and returns how serving ended.
    pub fn end(mut self) -> Result<(), SessionError> {
        self.mounted.unmount().map_err(SessionError::Thread)?;
        self.join()
    }

    /// Waits until serving ends, and returns how.
    pub fn join(&mut self) -> Result<(), SessionError> {
        match self.server.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(SessionError::Thread(io::Error::other("the server panicked"))),
            None => Ok(()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.toy.open_gate();
        if let Err(error) = self.mounted.unmount() {
            return eprintln!("still mounted, so the server is left alone: {error}");
        }
        if let Err(error) = self.join() {
            eprintln!("serving ended with {error}");
        }
    }
}
