//! A mounted union and its serving threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_union::{Change, Union};
use fuser::{Config, INodeNo, Session, SessionACL};
use rustix::io::Errno;
use tracing::{debug, info};

use crate::handlers::Served;
use crate::kernel_mount;
use crate::options::{DataMode, ServeOptions};
use crate::shared::Shared;

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
    /// The conversation with the kernel broke.
    #[error("cannot serve {mountpoint}: {source}", mountpoint = mountpoint.display())]
    Serve {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl FuseError {
    /// Returns the errno a mount call reports.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Device(errno) | Self::Mount { errno, .. } => *errno,
            Self::NoPassthrough { .. } => Errno::OPNOTSUPP,
            Self::Serve { source, .. } => Errno::from_io_error(source).unwrap_or(Errno::IO),
        }
    }
}

/// A mounted union, ready to be served.
#[derive(Debug)]
pub struct Server {
    session: Session<Served>,
    mountpoint: PathBuf,
    data: DataMode,
}

impl Server {
    /// Mounts `union` at `mountpoint` and settles with the kernel how to talk.
    ///
    /// # Errors
    ///
    /// See [`FuseError`]; after an error nothing is mounted.
    pub fn mount(union: Union, mountpoint: &Path, options: &ServeOptions) -> Result<Self, FuseError> {
        let device = kernel_mount::open_device().map_err(FuseError::Device)?;
        kernel_mount::attach(&device, mountpoint, &options.flags).map_err(|errno| FuseError::Mount {
            mountpoint: mountpoint.to_owned(),
            errno,
            remedy: remedy_for(errno),
        })?;
        Self::settle(union, device, mountpoint, options).inspect_err(|_| {
            if let Err(errno) = kernel_mount::detach(mountpoint) {
                tracing::warn!(%errno, "the failed mount stays; remove it with umount -l");
            }
        })
    }

    fn settle(
        union: Union,
        device: std::os::fd::OwnedFd,
        mountpoint: &Path,
        options: &ServeOptions,
    ) -> Result<Self, FuseError> {
        let fail = |source| FuseError::Serve { mountpoint: mountpoint.to_owned(), source };
        let can_pass = match options.data {
            DataMode::Cached => Err("data=cached was asked for".to_owned()),
            // Changes behind the union are seen only when the server is asked each time.
            _ if options.revalidate => Err("udba=reval needs every open".to_owned()),
            _ if union.has_host_privilege() => Ok(()),
            _ => Err("it needs root in the initial user namespace".to_owned()),
        };
        if let (DataMode::Passthrough, Err(reason)) = (options.data, &can_pass) {
            return Err(FuseError::NoPassthrough { reason: reason.clone() });
        }
        let shared = Arc::new(Shared::new(union, options.revalidate));
        let mut config = Config::default();
        config.n_threads = Some(options.threads.unwrap_or_else(default_threads));
        config.clone_fd = true;
        let served = Served::new(Arc::clone(&shared), can_pass.is_ok());
        let session = Session::from_fd(served, device, SessionACL::All, config).map_err(fail)?;
        let data = if shared.passes() { DataMode::Passthrough } else { DataMode::Cached };
        if options.data == DataMode::Passthrough && data != options.data {
            let reason = "it does not offer FUSE passthrough (kernel 6.9 or later does)".to_owned();
            return Err(FuseError::NoPassthrough { reason });
        }
        let notifier = session.notifier();
        let numbers = Arc::downgrade(&shared);
        shared.union.observe(move |change| {
            let Change::Attributes(node_id) = change else { return };
            let Some(number) = numbers.upgrade().and_then(|it| it.numbers.number_of(node_id)) else { return };
            // A negative offset stands for the attributes alone. The kernel answers ENOENT for what it forgot.
            if let Err(error) = notifier.inval_inode(INodeNo(number), -1, 0) {
                debug!(%error, number, "attributes not invalidated");
            }
        });
        shared.set_notifier(session.notifier());
        info!(data = data.as_str(), mountpoint = %mountpoint.display(), "mounted");
        Ok(Self { session, mountpoint: mountpoint.to_owned(), data })
    }

    /// Returns the data mode in use, never [`DataMode::Auto`].
    pub fn data_mode(&self) -> DataMode {
        self.data
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    ///
    /// [`FuseError::Serve`] when the conversation with the kernel broke.
    pub fn run(self) -> Result<(), FuseError> {
        self.session.run().map_err(|source| FuseError::Serve { mountpoint: self.mountpoint, source })
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
