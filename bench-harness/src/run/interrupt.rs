//! Signals that ask to stop: noticed between samples, so that nothing is left mounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// Says whether a signal has asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    ///
    /// What `sigaction(2)` reports.
    pub fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .at("handle", format!("signal {signal}"))?;
        }
        Ok(Self(flag))
    }

    /// An error once a signal has come.
    ///
    /// # Errors
    ///
    /// `Interrupted`.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(BenchError::new("stop", "run", BenchErrorKind::Interrupted));
        }
        Ok(())
    }
}
