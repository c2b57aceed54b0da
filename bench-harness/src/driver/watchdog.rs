//! Ends drivers that hang, so that a call into their mount returns.
//!
//! A call into a FUSE mount whose server does not answer blocks, and no signal
//! to us ends it. When the server is killed, the kernel ends the connection and
//! the call fails. That must happen on another thread.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::warn;

use super::limits::Limits;
use super::marked;
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::pool::spawn_apart;

/// How long after killing it looks for processes that were started meanwhile.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// A thread that sleeps, and ends the processes of a branch whose time is up.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    watched: Option<Watched>,
    ended: bool,
}

#[derive(Debug)]
struct Watched {
    home: PathBuf,
    limit: Duration,
    deadline: Instant,
    fired: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until a deadline or the end.
    ///
    /// Nobody wakes it when something is armed, since it would then run beside
    /// the first sample: it looks once in each `tick`, which no limit is below,
    /// and so still wakes in time for every deadline.
    fn watch(&self, tick: Duration) {
        let mut state = self.lock();
        while !state.ended {
            let pause = state.watched.as_mut().map_or(tick, |it| it.look().min(tick));
            let waited = self.ended.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Watched {
    /// Kills when the time is up, and says when to look again.
    fn look(&mut self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        // Under the lock, so that nobody mounts anew in this place meanwhile.
        let n_killed = marked::kill_below(&self.home);
        if !self.fired {
            warn!(home = %self.home.display(), n_killed, "a driver did not answer in time");
        }
        self.fired = true;
        KILL_AGAIN
    }
}

impl Watchdog {
    /// Starts one for `limits`; the thread ends with it.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start(limits: Limits) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (own, tick) = (Arc::clone(&shared), limits.shortest());
        let thread = spawn_apart("watchdog", move || own.watch(tick));
        let thread = thread.map_err(|error| BenchError::new("start", "watchdog", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Watches what is done to the branches below `home`, for `limit`, until the guard is dropped.
    pub fn guard(&self, home: &Path, limit: Duration) -> Guard<'_> {
        let deadline = Instant::now() + limit;
        let watched = Watched { home: home.to_owned(), limit, deadline, fired: false };
        self.shared.lock().watched = Some(watched);
        Guard { shared: &self.shared }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        let joined = self.thread.take().map(JoinHandle::join);
        if joined.is_some_and(|it| it.is_err()) {
            warn!("the watchdog has panicked");
        }
    }
}

/// Something is being watched.
#[derive(Debug)]
pub struct Guard<'a> {
    shared: &'a Shared,
}

impl Guard<'_> {
    /// The next step begins, with the whole time for itself. Costs an uncontended lock.
    pub fn step(&self) {
        if let Some(watched) = self.shared.lock().watched.as_mut().filter(|it| !it.fired) {
            watched.deadline = Instant::now() + watched.limit;
        }
    }

    /// Ends the watch: what came of it, or that the time was up, whatever came of it.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or the error of `result`.
    pub fn end<T>(self, result: Result<T>) -> Result<T> {
        let fired = self.shared.lock().watched.take().filter(|it| it.fired);
        let Some(watched) = fired else { return result };
        let (op, path) = match &result {
            Ok(_) => ("wait for", watched.home),
            Err(error) => (error.op, error.path.clone()),
        };
        Err(BenchError::new(op, path, BenchErrorKind::timed_out(watched.limit)))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.shared.lock().watched = None;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeping(home: &Path) -> Child {
        Command::new("sleep").arg("1000").env(marked::MARK, home).spawn().unwrap()
    }

    #[test]
    fn what_hangs_is_ended_and_what_does_not_is_left_alone() {
        let short = Duration::from_millis(30);
        let watchdog = Watchdog::start(Limits { mount: short, sample: short }).unwrap();
        let home = PathBuf::from(format!("/watched-{}", std::process::id()));
        let (mut hung, mut idle) = (sleeping(&home.join("1")), sleeping(&home.join("2")));
        let guard = watchdog.guard(&home.join("1"), short);
        let status = hung.wait().unwrap();
        let error = guard.end(Ok(())).unwrap_err();
        assert!(matches!(error.kind, BenchErrorKind::TimedOut(_)), "{error:?}");
        assert!(!status.success());

        let guard = watchdog.guard(&home.join("2"), Duration::from_secs(1000));
        guard.step();
        assert_eq!(guard.end(Ok(7)).unwrap(), 7);
        // Unwatched: nothing fires for it any more.
        std::thread::sleep(short * 3);
        let lives = idle.try_wait().unwrap().is_none();
        idle.kill().unwrap();
        idle.wait().unwrap();
        assert!(lives);
    }
}
