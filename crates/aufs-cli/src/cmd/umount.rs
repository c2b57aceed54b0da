//! `aufs umount`: returns when the server has flushed and ended.

use std::path::PathBuf;
use std::time::Duration;

use aufs_mount::unmount::{UnmountOptions, unmount};
use clap::Args;

use crate::exit::{self, Exit};

/// Unmount MOUNTPOINT; returns after its server has flushed and ended.
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct UmountArgs {
    /// Detach the mount at once, even if in use, and do not wait for the server.
    #[arg(short, long)]
    lazy: bool,

    /// How long to wait for the server to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,

    /// Where the union is mounted.
    #[arg(required = true)]
    mountpoints: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(args: UmountArgs) -> anyhow::Result<Exit> {
    let options = UnmountOptions { lazy: args.lazy, wait: Duration::from_secs(args.timeout) };
    for mountpoint in &args.mountpoints {
        unmount(mountpoint, &options)?;
    }
    Ok(Exit::Success)
}
