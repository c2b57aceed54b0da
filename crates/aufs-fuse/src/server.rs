//! A mounted union and its serving threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aufs_fusedev::device::Channel;
use aufs_fusedev::session::{Session, SessionError};
use aufs_fusedev::transport::WhyDevice;
use aufs_union::{Change, Union, UnionError};
use rustix::io::Errno;
use tracing::info;

use crate::kernel_mount;
use crate::negotiate::{Needs, READ_AHEAD_LEN_BYTES};
use crate::opens::Backings;
use crate::options::{DataMode, ServeOptions};
use crate::serve::Served;
use crate::shared::{About, Shared, Wire};

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
        reason: &'static str,
    },
    /// io_uring was demanded and cannot be had.
    #[error("no transport by io_uring: {0}; use transport=auto")]
    NoIoUring(WhyDevice),
    /// Names of hard links could not be completed on the writable branch.
    #[error("{0}; the next mount of the branch tries again")]
    Flush(#[source] UnionError),
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
            Self::Flush(source) => source.errno(),
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
        let needs = Needs::of(&union, options);
        needs.refuse_passthrough().map_err(|reason| FuseError::NoPassthrough { reason })?;
        let device = Channel::open().map_err(FuseError::Device)?;
        kernel_mount::attach(&device, mountpoint, &options.flags).map_err(|errno| FuseError::Mount {
            mountpoint: mountpoint.to_owned(),
            errno,
            remedy: remedy_for(errno),
        })?;
        Self::settle(union, device, mountpoint, needs, options).inspect_err(|_| {
            if let Err(errno) = kernel_mount::detach(mountpoint) {
                tracing::warn!(%errno, "the failed mount stays; remove it with umount -l");
            }
        })
    }

    fn settle(
        union: Union,
        device: Channel,
        mountpoint: &Path,
        needs: Needs,
        options: &ServeOptions,
    ) -> Result<Self, FuseError> {
        let fail = |source| FuseError::Serve { mountpoint: mountpoint.to_owned(), source };
        let session = Session::open(device, |offer| needs.wanted(offer), options.transport);
        let session = session.map_err(|error| match error {
            SessionError::NoIoUring(why) => FuseError::NoIoUring(why),
            source => fail(source),
        })?;
        let data = needs.mode(session.agreed().flags);
        if options.data == DataMode::Passthrough && data != DataMode::Passthrough {
            return Err(FuseError::NoPassthrough {
                reason: "it does not offer FUSE passthrough (kernel 6.9 or later does)",
            });
        }
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
        let shared = Arc::new(Shared::new(union, data, options, wire));
        let watching = Arc::downgrade(&shared);
        shared.union().observe(move |change| {
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

    /// Serves until the file system is unmounted, and leaves the branches as a later mount wants them.
    ///
    /// # Errors
    ///
    /// - [`FuseError::Serve`] when the conversation with the kernel broke.
    /// - [`FuseError::Flush`] when names of hard links could not be completed; the next mount tries again.
    pub fn run(self) -> Result<(), FuseError> {
        let Self { session, served, mountpoint, threads } = self;
        let conversation = session.run(&served, threads);
        let flushed = served.shared.union().flush_pseudo_links();
        conversation.map_err(|source| FuseError::Serve { mountpoint, source })?;
        let linked = flushed.map_err(FuseError::Flush)?;
        if linked != 0 {
            info!(linked, "names of hard links completed");
        }
        Ok(())
    }
}

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
