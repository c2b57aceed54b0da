//! Lets a caller stay on the CPU of the reader that followed it.
//!
//! An answer wakes its caller while the reader still runs, so the scheduler
//! sends the caller to an idle CPU if there is one with the same cache: the
//! caller flees from whoever follows it, and each later request crosses CPUs.
//! A CPU with nothing but `SCHED_IDLE` threads counts as idle. So the reader
//! has that policy while it writes an answer, and no longer: the caller takes
//! the CPU at once, and the reader takes its own policy back when the caller
//! sleeps, which is when it waits for the next answer.

use std::cell::Cell;
use std::sync::OnceLock;

use aufs_host::scheduling::{Policy, may_idle_a_moment, set_policy};
use tracing::{debug, warn};

thread_local! {
    /// Whether callers of this thread stay.
    static LETS_STAY: Cell<bool> = const { Cell::new(false) };
}

/// From now on callers of the calling thread stay where it runs, or go where they like.
pub(crate) fn let_stay(stay: bool) {
    static MAY: OnceLock<bool> = OnceLock::new();
    LETS_STAY.set(stay && *MAY.get_or_init(may_idle_a_moment));
}

/// Sends an answer by `send`, which wakes its caller.
pub(crate) fn answering<T>(send: impl FnOnce() -> T) -> T {
    if !LETS_STAY.get() {
        return send();
    }
    if let Err(errno) = set_policy(Policy::Idle) {
        debug!(%errno, "callers go where they like");
        LETS_STAY.set(false);
        return send();
    }
    let sent = send();
    if let Err(errno) = set_policy(Policy::Other) {
        warn!(%errno, "a reader keeps the policy SCHED_IDLE");
        LETS_STAY.set(false);
    }
    sent
}

#[cfg(test)]
mod tests {
    use aufs_host::scheduling::is_other;

    use super::*;

    #[test]
    fn a_thread_has_its_own_policy_again_after_each_answer() {
        std::thread::spawn(|| {
            let may = may_idle_a_moment();
            assert!(answering(is_other), "nobody asked for more");
            let_stay(true);
            assert_eq!(answering(is_other), !may);
            assert!(is_other());
            let_stay(false);
            assert!(answering(is_other));
        })
        .join()
        .unwrap();
    }
}
