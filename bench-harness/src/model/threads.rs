//! Threads that begin together, and the time until the last has ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::Instant;

use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// Lets `n` threads do `work` with their numbers, all at once.
///
/// The time goes from when the first was let go to when the last was done, in ns, by the threads' own clocks:
/// whoever waits for them may wake up late.
///
/// # Errors
///
/// What the first of them reports that fails, or that a thread cannot be started; none works then.
pub(super) fn time_all(n: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<u64> {
    time_all_by(|_| Builder::new(), n, work)
}

fn time_all_by(
    builder: impl Fn(usize) -> Builder,
    n: usize,
    work: impl Fn(usize) -> Result<()> + Sync,
) -> Result<u64> {
    let gate = Gate::default();
    let run = |number| {
        if !gate.wait_for(n) {
            return Err(missing());
        }
        let start = Instant::now();
        let done = work(number);
        done.map(|()| (start, Instant::now()))
    };
    let spans = std::thread::scope(|scope| {
        let run = &run;
        let start = |number| builder(number).spawn_scoped(scope, move || run(number)).at("start", "thread");
        let started: Vec<_> = (0..n).map(start).collect();
        if started.iter().any(Result::is_err) {
            gate.give_up();
        }
        let join = |it: Result<ScopedJoinHandle<'_, _>>| it?.join().map_err(|_| died())?;
        // An error of starting comes before those of the threads that were sent home.
        let (started, failed): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
        failed.into_iter().chain(started).map(join).collect::<Result<Vec<(Instant, Instant)>>>()
    })?;
    let first = spans.iter().map(|it| it.0).min();
    let last = spans.iter().map(|it| it.1).max();
    let elapsed = first.zip(last).map(|(first, last)| last.duration_since(first));
    Ok(elapsed.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)))
}

fn missing() -> BenchError {
    BenchError::new("start", "thread", BenchErrorKind::Tool("another could not be started".to_owned()))
}

fn died() -> BenchError {
    BenchError::new("run", "threads", BenchErrorKind::Tool("a thread of the bench has died".to_owned()))
}

/// A barrier that can be given up, where some of those who are waited for will never come.
#[derive(Debug, Default)]
struct Gate {
    /// Threads that are here, and whether they are to go home.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Waits until `n` threads do; false when it is given up.
    fn wait_for(&self, n: usize) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        if state.0 == n {
            self.changed.notify_all();
        }
        let waits = |it: &mut (usize, bool)| it.0 < n && !it.1;
        let state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        !state.1
    }

    fn give_up(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
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

    #[test]
    fn a_thread_that_cannot_be_started_sends_the_others_home() {
        let worked = AtomicUsize::new(0);
        // More than any address space has.
        let builder = |number| if number == 2 { Builder::new().stack_size(1 << 60) } else { Builder::new() };
        let failed = time_all_by(builder, 4, |_| {
            worked.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let error = failed.unwrap_err();
        assert!(matches!(error.kind, BenchErrorKind::Io(_)), "{}", error.line());
        assert_eq!(worked.load(Ordering::Relaxed), 0);
    }
}
