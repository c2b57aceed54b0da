//! How long a driver may take before it counts as hung.

use std::sync::OnceLock;
use std::time::Duration;

/// Time limits on what waits for a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most time for a mount, and for an unmount.
    pub mount: Duration,
    /// Most time for a sample, and for what is prepared and checked around it.
    pub sample: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mount: Duration::from_secs(60), sample: Duration::from_secs(300) }
    }
}

static CHOSEN: OnceLock<Limits> = OnceLock::new();

impl Limits {
    /// Makes these the limits of this process; only the first call counts.
    pub fn choose(self) {
        CHOSEN.get_or_init(|| self);
    }

    /// The chosen limits, else the default ones.
    pub fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or_default()
    }

    /// The shorter of both.
    pub fn shortest(self) -> Duration {
        self.mount.min(self.sample)
    }
}
