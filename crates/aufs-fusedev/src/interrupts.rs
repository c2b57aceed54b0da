//! Signals of callers: who works long on a request learns that its caller wants it to end.
//!
//! The kernel may tell of a signal before the request it concerns has reached
//! whoever works on it. The protocol lets a server answer `EAGAIN`, and the
//! kernel then asks again at once, over and over, for as long as nobody
//! registers the request; over io_uring and over a clone of the device it does
//! not even find the request. So the latest signals that nobody waited for are
//! kept here instead, and a request that registers later finds its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::dying::is_dying;
use crate::request::Caller;

/// How many signals are kept that nobody waited for.
const EARLY_MAX: usize = 128;

/// Requests whose handlers want to hear of signals. A request that never registers costs nothing.
#[derive(Debug, Default)]
pub struct Interrupts {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    waiting: HashMap<u64, Arc<AtomicBool>>,
    /// Numbers of requests, of which the kernel uses none twice; the oldest first.
    early: VecDeque<u64>,
}

/// A request that hears of signals until this is dropped.
#[derive(Debug)]
pub struct Interruptible {
    interrupts: Arc<Interrupts>,
    unique: u64,
    is_interrupted: Arc<AtomicBool>,
}

impl Interrupts {
    /// Registers the request with the number `unique`.
    pub fn register(self: &Arc<Self>, unique: u64) -> Interruptible {
        let mut known = self.known.lock();
        let early = known.early.iter().position(|it| *it == unique);
        let is_interrupted = Arc::new(AtomicBool::new(early.is_some()));
        if let Some(position) = early {
            known.early.remove(position);
        }
        known.waiting.insert(unique, Arc::clone(&is_interrupted));
        Interruptible { interrupts: Arc::clone(self), unique, is_interrupted }
    }

    /// Notes that the caller of the request `unique` got a signal.
    pub(crate) fn raise(&self, unique: u64) {
        let mut known = self.known.lock();
        if let Some(flag) = known.waiting.get(&unique) {
            flag.store(true, Ordering::Release);
            return;
        }
        if known.early.len() == EARLY_MAX {
            known.early.pop_front();
        }
        known.early.push_back(unique);
    }
}

impl Interruptible {
    /// Whether the caller got a signal, so that the request should end soon, with `EINTR` or its result so far.
    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Acquire)
    }

    /// Whether the caller got a signal that ends it, and so waits no more.
    ///
    /// The kernel tells of every signal, and a request that fails for a timer would be sent again from the
    /// beginning, perhaps for ever; work that starts anew each time must go on unless nobody is left.
    pub fn is_given_up(&self, caller: Caller) -> bool {
        self.is_interrupted() && is_dying(caller.pid)
    }

    /// Returns the flag itself, for code that knows nothing of requests.
    pub fn flag(&self) -> &AtomicBool {
        &self.is_interrupted
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        self.interrupts.known.lock().waiting.remove(&self.unique);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_its_request_alone() {
        let interrupts = Arc::new(Interrupts::default());
        let (first, second) = (interrupts.register(2), interrupts.register(4));
        interrupts.raise(4);
        assert!(!first.is_interrupted());
        assert!(second.is_interrupted());
        drop((first, second));
        assert!(interrupts.known.lock().waiting.is_empty());
    }

    #[test]
    fn a_signal_that_came_first_is_found_once() {
        let interrupts = Arc::new(Interrupts::default());
        interrupts.raise(6);
        assert!(!interrupts.register(8).is_interrupted());
        assert!(interrupts.register(6).is_interrupted());
        assert!(!interrupts.register(6).is_interrupted(), "the kernel uses no number twice");
    }

    #[test]
    fn signals_for_nobody_do_not_pile_up() {
        let interrupts = Arc::new(Interrupts::default());
        (0..1000).for_each(|unique| interrupts.raise(unique));
        assert_eq!(interrupts.known.lock().early.len(), EARLY_MAX);
        assert!(!interrupts.register(0).is_interrupted());
        assert!(interrupts.register(999).is_interrupted());
    }
}
