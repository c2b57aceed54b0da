//! Signals that ask to stop: the first is noticed between samples, the second acts at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::pool::spawn_apart;

/// The signals that ask to stop.
const ASKING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Says whether a signal has asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    scratch: Arc<OnceLock<PathBuf>>,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    ///
    /// What `sigaction(2)` reports.
    pub fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in ASKING {
            signal_hook::flag::register(signal, Arc::clone(&asked))
                .at("handle", format!("signal {signal}"))?;
        }
        Ok(Self { asked, scratch: Arc::default() })
    }

    /// Has a thread call `at_once` with the scratch directory when a second signal comes.
    ///
    /// The thread sleeps until then. It must start after the last call that
    /// wants a single thread, hence apart from [`install`](Self::install).
    ///
    /// # Errors
    ///
    /// What `sigaction(2)` or starting a thread reports.
    pub fn on_second(&self, at_once: impl FnOnce(Option<&Path>) + Send + 'static) -> Result<()> {
        let mut signals = Signals::new(ASKING).at("handle", "signals")?;
        let (scratch, already) = (Arc::clone(&self.scratch), self.asked.load(Ordering::Relaxed));
        let wait = move || {
            if signals.forever().nth(usize::from(!already)).is_some() {
                at_once(scratch.get().map(PathBuf::as_path));
            }
        };
        spawn_apart("signals", wait).at("start thread", "signals")?;
        Ok(())
    }

    /// Notes where the run keeps what a second signal should remove.
    pub fn note_scratch(&self, scratch: &Path) {
        // Only the first run of a process is noted; there is no second.
        self.scratch.get_or_init(|| scratch.to_owned());
    }

    /// One that no signal reaches.
    #[cfg(test)]
    pub fn never() -> Self {
        Self { asked: Arc::default(), scratch: Arc::default() }
    }

    /// An error once a signal has come.
    ///
    /// # Errors
    ///
    /// `Interrupted`.
    pub fn check(&self) -> Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            return Err(BenchError::new("stop", "run", BenchErrorKind::Interrupted));
        }
        Ok(())
    }
}
