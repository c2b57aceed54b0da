//! What a union counts while it works: how lookups were answered, and what it keeps open.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::union::Union;

/// Counts since the union was opened, but for [`Counters::open_handles`], which is of this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lookups of names whose node was known already.
    pub known_names: u64,
    /// Lookups answered from the index of their directory.
    pub index_hits: u64,
    /// Lookups that asked the branches, as their directory has no index yet.
    pub probes: u64,
    /// Directories read whole, to build their index.
    pub indexes_built: u64,
    /// Directory handles that are open now.
    pub open_handles: u64,
}

/// The counters as they are kept; each stands alone, so no order is needed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) known_names: Count,
    pub(crate) index_hits: Count,
    pub(crate) probes: Count,
    pub(crate) indexes_built: Count,
}

/// One counter, on a cache line of its own, so that processors do not wait for each other's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Union {
    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        Counters {
            known_names: self.tally.known_names.get(),
            index_hits: self.tally.index_hits.get(),
            probes: self.tally.probes.get(),
            indexes_built: self.tally.indexes_built.get(),
            open_handles: self.handle_clock.open_count(),
        }
    }
}
