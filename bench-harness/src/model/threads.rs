//! Threads that begin together, and the time until the last has ended.

use std::sync::Barrier;
use std::time::Instant;

use crate::error::{BenchError, BenchErrorKind, Result};

/// Lets `n` threads do `work` with their numbers, all at once.
///
/// The time goes from when the first was let go to when the last was done, in ns, by the threads' own clocks:
/// whoever waits for them may wake up late.
///
/// # Errors
///
/// What the first of them reports that fails.
pub(super) fn time_all(n: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<u64> {
    let barrier = Barrier::new(n);
    let run = |number| {
        barrier.wait();
        let start = Instant::now();
        let done = work(number);
        done.map(|()| (start, Instant::now()))
    };
    let died = || BenchErrorKind::Tool("a thread of the bench has died".to_owned());
    let spans = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..n).map(|number| scope.spawn(move || run(number))).collect();
        let join = |it: std::thread::ScopedJoinHandle<'_, _>| {
            it.join().map_err(|_| BenchError::new("run", "threads", died()))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<(Instant, Instant)>>>()
    })?;
    let first = spans.iter().map(|it| it.0).min();
    let last = spans.iter().map(|it| it.1).max();
    let elapsed = first.zip(last).map(|(first, last)| last.duration_since(first));
    Ok(elapsed.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_threads_work_at_once_and_an_error_is_told() {
        let met = (0..3).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
        // Each waits for all others: only threads that run at once can end.
        let all = Barrier::new(3);
        let elapsed_ns = time_all(3, |number| {
            all.wait();
            met[number].fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert!(0 < elapsed_ns.unwrap());
        assert!(met.iter().all(|it| it.load(Ordering::Relaxed) == 1), "each number once");
        let failed = time_all(2, |number| match number {
            1 => Err(BenchError::new("write", "x", BenchErrorKind::Interrupted)),
            _ => Ok(()),
        });
        assert_eq!(failed.unwrap_err().op, "write");
    }
}
