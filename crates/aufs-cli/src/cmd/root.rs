//! Which data root a command of the storage driver works on, and how its driver mounts.

use std::ffi::OsString;
use std::path::PathBuf;

use aufs_mount::mounter::Mounter;
use aufs_mount::option::{Dialect, OptionParser};
use aufs_storage::driver::{Driver, DriverOptions};
use clap::Args;

use super::UsageError;

/// The data root when none is named: not Docker's, which its daemon may be using.
const DEFAULT: &str = "/var/lib/aufs-rs";

/// The data root.
#[derive(Debug, Args)]
pub struct DataRootArgs {
    /// The data root; the driver's home is DIR/aufs, as /var/lib/docker/aufs is Docker's.
    #[arg(long, value_name = "DIR", env = "AUFS_ROOT", default_value = DEFAULT)]
    pub root: PathBuf,
}

/// The data root, and how its driver mounts.
#[derive(Debug, Args)]
pub struct RootArgs {
    #[command(flatten)]
    pub data: DataRootArgs,

    /// Options of every mount, as of aufs mount -o, but for the branches.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    mount_options: Vec<OsString>,

    /// Who mounts: kernel (aufs) or fuse (our server); by default the kernel where it can.
    #[arg(long, value_name = "kernel|fuse")]
    mounter: Option<Mounter>,
}

impl RootArgs {
    /// Opens the driver of the data root.
    pub fn open(&self) -> anyhow::Result<Driver> {
        let mut parser = OptionParser::new(Dialect::Own);
        for text in &self.mount_options {
            parser.options(text)?;
        }
        let parsed = parser.finish()?;
        if !parsed.options.branches.is_empty() || parsed.options.remount {
            let why = "--mount-options takes no branches and no remount; the layers are the branches";
            return Err(UsageError(why.to_owned()).into());
        }
        for warning in &parsed.warnings {
            tracing::warn!("{warning}");
        }
        // The server is this very program, whatever name it was called by.
        let program = std::env::current_exe().ok();
        let options = DriverOptions { mounter: self.mounter, program, log: None, mount: parsed.options };
        Ok(Driver::open(&self.data.root, options)?)
    }
}
