//! How many blocks fit the time that is left.

use std::time::{Duration, Instant};

/// Plans complete blocks from the time that earlier ones took.
#[derive(Debug)]
pub struct Budget {
    blocks_max: u32,
    times: Vec<Duration>,
}

impl Budget {
    /// At most `blocks_max` blocks.
    pub fn new(blocks_max: u32) -> Self {
        Self { blocks_max, times: Vec::new() }
    }

    /// Notes that a block took `time`.
    pub fn took(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// What the next block will take: the median of the last five, the first being slower than the rest.
    pub fn block_time(&self) -> Option<Duration> {
        let mut recent: Vec<Duration> = self.times.iter().rev().take(5).copied().collect();
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied()
    }

    /// Blocks in all that end before `deadline`, when `done` are done at `now`; at least one is always measured.
    pub fn planned(&self, done: u32, now: Instant, deadline: Instant) -> u32 {
        let left = deadline.saturating_duration_since(now);
        let Some(block_time) = self.block_time() else {
            // Nothing is known yet. A resumed run whose time is up adds nothing.
            let more = u32::from(done == 0 || !left.is_zero());
            return if more == 0 { done } else { self.blocks_max };
        };
        let fit = left.as_nanos() / block_time.as_nanos().max(1);
        done.saturating_add(u32::try_from(fit).unwrap_or(u32::MAX)).min(self.blocks_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_the_time_left() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let deadline = now + s(60);
        let mut budget = Budget::new(100);
        assert_eq!(budget.planned(0, now, deadline), 100, "nothing is known before the first block");
        budget.took(s(30));
        assert_eq!(budget.planned(1, now + s(30), deadline), 2, "one more of the same");
        for _ in 0..4 {
            budget.took(s(5));
        }
        assert_eq!(budget.block_time(), Some(s(5)), "a slow first block is outvoted");
        assert_eq!(budget.planned(5, now + s(50), deadline), 7);
        assert_eq!(budget.planned(7, now + s(60), deadline), 7, "time is up");
        assert_eq!(Budget::new(5).planned(0, now + s(1), now), 5, "one block is always measured");
        let mut few = Budget::new(3);
        few.took(s(1));
        assert_eq!(few.planned(1, now, now + s(1000)), 3, "never more than asked for");
    }
}
