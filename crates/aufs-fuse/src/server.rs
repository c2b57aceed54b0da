//! A mounted union and its serving threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aufs_fusedev::abi::flags::InitFlags;
use aufs_fusedev::device::Channel;
use aufs_fusedev::init::{RING_DEPTH, Wanted};
use aufs_fusedev::session::{Session, SessionError};
use aufs_fusedev::transport::WhyDevice;
use aufs_union::branch::BranchIndex;
use aufs_union::{Change, Union};
use rustix::io::Errno;
use tracing::info;

use crate::kernel_mount;
use crate::opens::Backings;
use crate::options::{DataMode, ServeOptions};
use crate::serve::Served;
use crate::shared::{About, REQUEST_LEN_BYTES_MAX, Shared, Wire};

/// Why a union is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FuseError {
    /// The FUSE device cannot be opened.
    #[error("cannot open /dev/fuse: {0}; load the fuse module, or pass the device into the container")]
    Device(Errno),
    /// The kernel refuses the mount.
    #[error("cannot mount at {mountpoint}: {errno}{remedy}", mountpoint = mountpoint.display())]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        errno: Errno,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Passthrough was demanded and the kernel does not grant it.
    #[error("the kernel grants no passthrough here: {reason}; use data=auto")]
    NoPassthrough {
        /// What the kernel said.
        reason: String,
    },
    /// io_uring was demanded and cannot be had.
    #[error("no transport by io_uring: {0}; use transport=auto")]
    NoIoUring(WhyDevice),
    /// The conversation with the kernel broke.
    #[error("cannot serve {mountpoint}: {source}", mountpoint = mountpoint.display())]
    Serve {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: SessionError,
    },
}

impl FuseError {
    /// Returns the errno a mount call reports.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Device(errno) | Self::Mount { errno, .. } => *errno,
            Self::NoPassthrough { .. } | Self::NoIoUring(_) => Errno::OPNOTSUPP,
            Self::Serve { source, .. } => source.errno(),
        }
    }
}

/// A mounted union, ready to be served.
#[derive(Debug)]
pub struct Server {
    session: Session,
    served: Arc<Served>,
    mountpoint: PathBuf,
    threads: usize,
}

impl Server {
    /// Mounts `union` at `mountpoint` and settles with the kernel how to talk.
    ///
    /// # Errors
    ///
    /// See [`FuseError`]; after an error nothing is mounted.
    pub fn mount(union: Union, mountpoint: &Path, options: &ServeOptions) -> Result<Self, FuseError> {
        let mode = wanted_mode(&union, options)?;
        let device = Channel::open().map_err(FuseError::Device)?;
        kernel_mount::attach(&device, mountpoint, &options.flags).map_err(|errno| FuseError::Mount {
            mountpoint: mountpoint.to_owned(),
            errno,
            remedy: remedy_for(errno),
        })?;
        Self::settle(union, device, mountpoint, mode, options).inspect_err(|_| {
            if let Err(errno) = kernel_mount::detach(mountpoint) {
                tracing::warn!(%errno, "the failed mount stays; remove it with umount -l");
            }
        })
    }

    fn settle(
        union: Union,
        device: Channel,
        mountpoint: &Path,
        mode: DataMode,
        options: &ServeOptions,
    ) -> Result<Self, FuseError> {
        let fail = |source| FuseError::Serve { mountpoint: mountpoint.to_owned(), source };
        let session =
            Session::open(device, &wanted(mode, &union), options.transport).map_err(|error| match error {
                SessionError::NoIoUring(why) => FuseError::NoIoUring(why),
                source => fail(source),
            })?;
        let flags = session.agreed().flags;
        let data = match mode {
            DataMode::Passthrough if !flags.contains(InitFlags::PASSTHROUGH) => {
                if options.data == DataMode::Passthrough {
                    let reason = "it does not offer FUSE passthrough (kernel 6.9 or later does)".to_owned();
                    return Err(FuseError::NoPassthrough { reason });
                }
                DataMode::Cached
            }
            mode => mode,
        };
        let wire = Wire {
            backings: Backings::new(session.channel()),
            notifier: session.notifier(),
            stats: Arc::clone(session.stats()),
            interrupts: Arc::clone(session.interrupts()),
            about: About {
                transport: session.in_use(),
                minor: session.agreed().minor,
                since: Instant::now(),
            },
        };
        let shared = Arc::new(Shared::new(union, data, options.volatile, wire));
        let watching = Arc::downgrade(&shared);
        shared.union.observe(move |change| {
            let Some(shared) = watching.upgrade() else { return };
            match change {
                // The server's tag of a node is its number; the kernel does not know the others.
                Change::Attributes { server_tag: 0 } => (),
                Change::Attributes { server_tag } => shared.invalidate(server_tag),
                Change::CopiedUp(report) => shared.copy_ups.note(&report),
                _ => (),
            }
        });
        if data != DataMode::Passthrough {
            kernel_mount::raise_read_ahead(mountpoint, READ_AHEAD_LEN_BYTES);
        }
        info!(data = data.as_str(), transport = %session.in_use(), mountpoint = %mountpoint.display(), "mounted");
        let threads = options.threads.unwrap_or_else(default_threads);
        Ok(Self { session, served: Arc::new(Served { shared }), mountpoint: mountpoint.to_owned(), threads })
    }

    /// Returns the data mode in use, never [`DataMode::Auto`].
    pub fn data_mode(&self) -> DataMode {
        self.served.shared.data
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    ///
    /// [`FuseError::Serve`] when the conversation with the kernel broke.
    pub fn run(self) -> Result<(), FuseError> {
        let Self { session, served, mountpoint, threads } = self;
        session.run(&served, threads).map_err(|source| FuseError::Serve { mountpoint, source })
    }
}

/// How far the kernel reads ahead where pages are its own; a request carries as much at most.
const READ_AHEAD_LEN_BYTES: u32 = REQUEST_LEN_BYTES_MAX;

/// Returns the mode to ask the kernel for, never [`DataMode::Auto`].
fn wanted_mode(union: &Union, options: &ServeOptions) -> Result<DataMode, FuseError> {
    let can_pass = if options.revalidate {
        // Changes behind the union are seen only when the server is asked each time.
        Err("udba=reval needs every open")
    } else if union.has_host_privilege() {
        Ok(())
    } else {
        Err("it needs root in the initial user namespace")
    };
    match (options.data, can_pass) {
        (DataMode::Auto | DataMode::Passthrough, Ok(())) => Ok(DataMode::Passthrough),
        (DataMode::Passthrough, Err(reason)) => Err(FuseError::NoPassthrough { reason: reason.to_owned() }),
        (DataMode::Auto | DataMode::NoOpen, _) if options.revalidate => Ok(DataMode::Cached),
        (DataMode::Auto | DataMode::NoOpen, _) => Ok(DataMode::NoOpen),
        (DataMode::Cached, _) => Ok(DataMode::Cached),
    }
}

/// Returns what a server of this data mode can make use of.
fn wanted(mode: DataMode, union: &Union) -> Wanted {
    let mut flags = InitFlags::ASYNC_READ
        | InitFlags::BIG_WRITES
        | InitFlags::DONT_MASK
        | InitFlags::DO_READDIRPLUS
        | InitFlags::READDIRPLUS_AUTO
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::POSIX_ACL
        | InitFlags::ABORT_ERROR
        | InitFlags::CACHE_SYMLINKS
        | InitFlags::NO_OPENDIR_SUPPORT
        | InitFlags::HANDLE_KILLPRIV_V2
        | InitFlags::SETXATTR_EXT
        | InitFlags::HAS_EXPIRE_ONLY;
    if union.revalidates() {
        flags |= InitFlags::AUTO_INVAL_DATA;
    }
    flags |= match mode {
        // Never ATOMIC_O_TRUNC: the kernel would take truncations for done that no OPEN told the server of.
        // Never a late answer to a write that no branch may take.
        DataMode::NoOpen if union.writable_branch() == Some(BranchIndex(0)) => {
            InitFlags::NO_OPEN_SUPPORT | InitFlags::WRITEBACK_CACHE
        }
        DataMode::NoOpen => InitFlags::NO_OPEN_SUPPORT,
        DataMode::Passthrough => InitFlags::ATOMIC_O_TRUNC | InitFlags::PASSTHROUGH,
        DataMode::Cached | DataMode::Auto => InitFlags::ATOMIC_O_TRUNC,
    };
    Wanted {
        flags,
        request_len_bytes_max: REQUEST_LEN_BYTES_MAX,
        readahead_len_bytes: READ_AHEAD_LEN_BYTES,
        background_max: BACKGROUND_MAX,
        stack_depth_max: STACK_DEPTH_MAX,
        ring_depth: RING_DEPTH,
    }
}

/// Read-aheads and delayed writes that may be on their way together.
const BACKGROUND_MAX: u16 = 64;
/// The most the kernel allows, so that branches may themselves lie on overlayfs.
const STACK_DEPTH_MAX: u32 = 2;

fn remedy_for(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "; run as root, or in a user namespace: unshare -Urm",
        Errno::NODEV => "; load the fuse module",
        _ => "",
    }
}

/// Readers of requests; see [`crate::workers`] for why there are few.
fn default_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    (processors / 2).clamp(1, 8)
}
