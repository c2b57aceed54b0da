//! A watchdog: what would wait for a stuck server for ever fails instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than any step takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks after one step at a time.
#[derive(Debug, Default, Clone)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    step: Mutex<Step>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Step {
    /// When the present step is too long, and what is to be killed then.
    due: Option<(Instant, Stuck)>,
    has_expired: bool,
    is_over: bool,
}

#[derive(Debug, Clone)]
struct Stuck {
    mountpoint: PathBuf,
    processes: Vec<i32>,
}

impl Watch {
    /// Starts the watchdog.
    pub fn start() -> Self {
        let watch = Self::default();
        let looking = watch.clone();
        thread::spawn(move || looking.look());
        watch
    }

    /// Ends the watchdog.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.0.changed.notify_all();
    }

    /// Runs a step that may wait for the server of `mountpoint`; after too long that is
    /// killed with the other `processes`, which ends the wait, and this fails.
    pub fn over<T>(&self, what: &str, mountpoint: &Path, processes: &[i32], step: impl FnOnce() -> T) -> T {
        let stuck = Stuck { mountpoint: mountpoint.to_owned(), processes: processes.to_vec() };
        self.lock().due = Some((Instant::now() + PATIENCE, stuck));
        self.0.changed.notify_all();
        let done = step();
        let mut state = self.lock();
        state.due = None;
        assert!(
            !state.has_expired,
            "no end after {} s, so the server was killed: {what}",
            PATIENCE.as_secs()
        );
        done
    }

    fn lock(&self) -> MutexGuard<'_, Step> {
        self.0.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            let left = match &state.due {
                Some((due, stuck)) if *due <= now => {
                    stuck.end();
                    state.due = None;
                    state.has_expired = true;
                    PATIENCE
                }
                Some((due, _)) => *due - now,
                None => PATIENCE,
            };
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Stuck {
    /// Aborts the connection, also when no process can be killed, and kills what there is.
    fn end(&self) {
        if let Ok(Some(entry)) = aufs_mount::table::mount_at(&self.mountpoint) {
            let abort = format!("/sys/fs/fuse/connections/{}/abort", entry.device.1);
            if let Err(error) = fs::write(&abort, "1") {
                eprintln!("{abort}: {error}");
            }
        }
        for process in &self.processes {
            if let Err(errno) = kill(Pid::from_raw(*process), Signal::SIGKILL) {
                eprintln!("kill {process}: {errno}");
            }
        }
    }
}
