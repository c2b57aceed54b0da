//! Sessions: blocks are spread over several, since layers and servers made anew are never quite the same.

use std::time::{Duration, Instant};

/// What one session of a run may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The block that it ends before.
    pub end: u32,
    /// When its last block should be over.
    pub deadline: Instant,
}

impl Share {
    /// The share of the next of `left` sessions, when `done` of `blocks_max` blocks are done at `now`.
    ///
    /// What a session leaves of its blocks or time is spread over those after it.
    pub fn next(left: u32, done: u32, blocks_max: u32, now: Instant, deadline: Instant) -> Self {
        let left = left.max(1);
        let blocks = blocks_max.saturating_sub(done).div_ceil(left);
        let time = deadline.saturating_duration_since(now) / left;
        Self { end: done.saturating_add(blocks).min(blocks_max), deadline: now + time }
    }
}

/// Whether another session is worth beginning: it takes `prepare` and at least one block.
pub fn fits(now: Instant, prepare: Duration, block_time: Option<Duration>, deadline: Instant) -> bool {
    now + prepare + block_time.unwrap_or_default() <= deadline
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_end_with_the_last_block(sessions in 1..20_u32, blocks_max in 1..200_u32, seconds in 1..1000_u64) {
            let start = Instant::now();
            let deadline = start + Duration::from_secs(seconds);
            let mut done = 0;
            let mut ends = Vec::new();
            for session in 0..sessions {
                let share = Share::next(sessions - session, done, blocks_max, start, deadline);
                prop_assert!(share.deadline <= deadline && done <= share.end);
                ends.push(share.end - done);
                done = share.end;
            }
            prop_assert_eq!(done, blocks_max);
            let (most, least) = (ends.iter().max().unwrap(), ends.iter().min().unwrap());
            prop_assert!(most - least <= 1, "blocks are spread evenly: {:?}", ends);
        }
    }

    #[test]
    fn the_last_session_has_all_the_time() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        assert_eq!(Share::next(1, 4, 40, now, deadline), Share { end: 40, deadline });
        assert_eq!(Share::next(3, 4, 40, now, deadline).deadline, now + Duration::from_secs(20));
        let s = Duration::from_secs;
        assert!(fits(now, s(10), Some(s(50)), deadline) && !fits(now, s(11), Some(s(50)), deadline));
    }
}
