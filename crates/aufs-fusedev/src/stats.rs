//! How many requests there were, and how long each took: cheap enough to be always on.
//!
//! Each request costs two readings of the clock and three relaxed additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::abi::opcode::Opcode;

/// Buckets of the histogram for each doubling, so that a bound is at most 19 % off.
const STEPS_PER_DOUBLING: usize = 4;
/// Doublings of 256 ns that are told apart: up to about 18 minutes.
const DOUBLINGS: usize = 32;
const BUCKETS: usize = STEPS_PER_DOUBLING * DOUBLINGS;
/// Everything faster falls into the first bucket.
const SHORTEST_NS: u64 = 256;

/// Counts and latencies of all requests of a connection.
#[derive(Debug)]
pub struct Stats {
    by_opcode: Vec<PerOpcode>,
}

#[derive(Debug)]
struct PerOpcode {
    count: AtomicU64,
    errors: AtomicU64,
    total_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// What is known of one opcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpcodeStats {
    /// The opcode.
    pub opcode: Opcode,
    /// Requests that were answered.
    pub count: u64,
    /// Those answered with an errno.
    pub errors: u64,
    /// Time from reading to answering, all requests together, in nanoseconds.
    pub total_ns: u64,
    /// The histogram: upper bound in nanoseconds and count of each bucket that is not empty.
    pub buckets: Vec<(u64, u64)>,
}

impl OpcodeStats {
    /// Returns the latency that `percent` of the requests did not exceed, in nanoseconds.
    pub fn percentile_ns(&self, percent: f64) -> Option<u64> {
        let rank = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.buckets
            .iter()
            .find(|(_, count)| {
                seen += count;
                rank <= seen
            })
            .map(|(bound_ns, _)| *bound_ns)
    }
}

impl Default for Stats {
    fn default() -> Self {
        let fresh = || PerOpcode {
            count: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            total_ns: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        };
        Self { by_opcode: (0..Opcode::COUNT).map(|_| fresh()).collect() }
    }
}

impl Stats {
    /// Counts one request.
    pub(crate) fn note(&self, opcode: Opcode, elapsed: Duration, failed: bool) {
        let Some(it) = self.by_opcode.get(opcode.number() as usize) else { return };
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        it.count.fetch_add(1, Ordering::Relaxed);
        it.total_ns.fetch_add(elapsed_ns, Ordering::Relaxed);
        it.buckets[bucket_of(elapsed_ns)].fetch_add(1, Ordering::Relaxed);
        if failed {
            it.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns what is known of each opcode that occurred, in the order of their numbers.
    pub fn snapshot(&self) -> Vec<OpcodeStats> {
        let seen = |opcode: &Opcode| {
            let it = self.by_opcode.get(opcode.number() as usize)?;
            let count = it.count.load(Ordering::Relaxed);
            let buckets = it.buckets.iter().enumerate();
            (count != 0).then(|| OpcodeStats {
                opcode: *opcode,
                count,
                errors: it.errors.load(Ordering::Relaxed),
                total_ns: it.total_ns.load(Ordering::Relaxed),
                buckets: buckets
                    .map(|(at, count)| (bound_ns_of(at), count.load(Ordering::Relaxed)))
                    .filter(|(_, count)| *count != 0)
                    .collect(),
            })
        };
        Opcode::ALL.iter().filter_map(seen).collect()
    }
}

/// Returns the bucket a latency falls into.
fn bucket_of(elapsed_ns: u64) -> usize {
    if elapsed_ns < SHORTEST_NS {
        return 0;
    }
    let doubling = elapsed_ns.ilog2() - SHORTEST_NS.ilog2();
    // The two bits behind the leading one tell the quarter of the doubling.
    let step = (elapsed_ns >> (elapsed_ns.ilog2() - 2)) & 3;
    (doubling as usize * STEPS_PER_DOUBLING + step as usize + 1).min(BUCKETS - 1)
}

/// Returns the upper bound of a bucket, exclusive, in nanoseconds.
fn bound_ns_of(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS_PER_DOUBLING, bucket % STEPS_PER_DOUBLING);
    (SHORTEST_NS << doubling) / STEPS_PER_DOUBLING as u64 * (STEPS_PER_DOUBLING + step) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_latency_lies_below_its_bound_and_not_far(elapsed_ns in SHORTEST_NS..1 << 39) {
            let bound_ns = bound_ns_of(bucket_of(elapsed_ns));
            prop_assert!(elapsed_ns < bound_ns, "{elapsed_ns} {bound_ns}");
            prop_assert!(bound_ns <= elapsed_ns + elapsed_ns / 4 + 1, "{elapsed_ns} {bound_ns}");
        }
    }

    #[test]
    fn extremes_have_buckets() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_come_from_the_counts() {
        let stats = Stats::default();
        for elapsed_us in 1..=100 {
            stats.note(Opcode::Lookup, Duration::from_micros(elapsed_us), elapsed_us == 1);
        }
        let all = stats.snapshot();
        assert_eq!((all.len(), all[0].opcode, all[0].count, all[0].errors), (1, Opcode::Lookup, 100, 1));
        for (percent, least_us, most_us) in [(1.0, 1, 2), (50.0, 50, 63), (99.0, 99, 124), (100.0, 100, 125)]
        {
            let found_us = all[0].percentile_ns(percent).unwrap() / 1000;
            assert!((least_us..=most_us).contains(&found_us), "{percent}: {found_us}");
        }
    }
}
