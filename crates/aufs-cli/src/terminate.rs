//! Unmounts when the server is told to end.
//!
//! On the first signal the mount goes; if programs still use it, it is detached
//! and they have [`GRACE`] to finish. On the second signal, or after that, the
//! connection is aborted: they get errors, and the server ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use aufs_mount::error::MountErrorKind;
use aufs_mount::table;
use aufs_mount::unmount::detach;
use nix::sys::signal::{Signal, raise};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// How long programs may go on using a mount whose server was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Catches the signals that end a server, from its creation on.
#[derive(Debug)]
pub struct Terminator {
    signals: Signals,
}

impl Terminator {
    /// Starts catching; a signal that comes before [`Terminator::watch`] waits for it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { signals: Signals::new([SIGTERM, SIGINT, SIGHUP]).context("catch signals")? })
    }

    /// Unmounts `mountpoint`, which was just mounted, when a signal comes.
    pub fn watch(self, mountpoint: &Path) -> anyhow::Result<()> {
        // From the table, since asking the mount itself would wait for a server not yet serving.
        let connection = table::mount_at(mountpoint).context("read mountinfo")?.map(|it| it.device.1);
        let watched = Watched { mountpoint: mountpoint.to_owned(), connection };
        thread::Builder::new()
            .name("terminate".to_owned())
            .spawn(move || watched.end_on_signal(self.signals))
            .context("start a thread")?;
        Ok(())
    }

    /// Ends the server as a signal would.
    pub fn now() -> anyhow::Result<()> {
        raise(Signal::SIGTERM).context("raise SIGTERM")
    }
}

#[derive(Debug)]
struct Watched {
    mountpoint: PathBuf,
    /// Number under `/sys/fs/fuse/connections`.
    connection: Option<u32>,
}

impl Watched {
    fn end_on_signal(&self, mut signals: Signals) {
        if signals.forever().next().is_none() {
            return;
        }
        match detach(&self.mountpoint, false) {
            Ok(()) => return, // The server sees the unmount and ends.
            Err(MountErrorKind::Busy) => {
                tracing::warn!(mountpoint = ?self.mountpoint, grace_s = GRACE.as_secs(), "in use; detached");
                if let Err(reason) = detach(&self.mountpoint, true) {
                    tracing::warn!(mountpoint = ?self.mountpoint, %reason, "not detached");
                }
            }
            // Somebody detached it before; programs may still use it.
            Err(MountErrorKind::NotMounted) => {}
            Err(reason) => tracing::warn!(mountpoint = ?self.mountpoint, %reason, "not unmounted"),
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && signals.pending().next().is_none() {
            thread::sleep(Duration::from_millis(50));
        }
        self.abort();
    }

    /// Cuts the connection, so that the server flushes its own state and ends.
    fn abort(&self) {
        let Some(connection) = self.connection else {
            std::process::exit(Exit::Failure as i32);
        };
        let switch = format!("/sys/fs/fuse/connections/{connection}/abort");
        if let Err(error) = fs::write(&switch, "1") {
            tracing::warn!(switch, %error, "not aborted; ending at once");
            std::process::exit(Exit::Failure as i32);
        }
    }
}
