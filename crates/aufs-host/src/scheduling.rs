//! The scheduling policy of a thread.

use std::thread;

use rustix::io;

use crate::errno::last_errno;

/// A policy of sched(7) for ordinary threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `SCHED_OTHER`, which threads have unless told otherwise.
    Other,
    /// `SCHED_IDLE`: whoever else wants the CPU is first, and a CPU with no other threads counts as idle.
    Idle,
}

impl Policy {
    fn number(self) -> libc::c_int {
        match self {
            Self::Other => libc::SCHED_OTHER,
            Self::Idle => libc::SCHED_IDLE,
        }
    }
}

/// Gives the calling thread `policy`; its nice value stays.
///
/// # Errors
///
/// `EPERM`: it leaves [`Policy::Idle`] without `CAP_SYS_NICE`, and `RLIMIT_NICE` is too low.
#[expect(unsafe_code, reason = "neither nix nor rustix wraps sched_setscheduler(2)")]
pub fn set_policy(policy: Policy) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    let param: *const libc::sched_param = &raw const param;
    // Not by the C library: that of musl refuses.
    // SAFETY: 0 is the calling thread, and the kernel only reads the structure, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy.number(), param) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether the calling thread has [`Policy::Other`].
#[expect(unsafe_code, reason = "neither nix nor rustix wraps sched_getscheduler(2)")]
pub fn is_other() -> bool {
    // SAFETY: the call takes no memory; 0 is the calling thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    policy == libc::c_long::from(Policy::Other.number())
}

/// Whether a thread like the calling one may take [`Policy::Idle`] for a moment, and leave it again.
///
/// A thread of its own tries, since without the privilege it could never go back.
pub fn may_idle_a_moment() -> bool {
    let tried = thread::Builder::new()
        .name("aufs-policy".to_owned())
        .spawn(|| is_other() && set_policy(Policy::Idle).is_ok() && set_policy(Policy::Other).is_ok());
    tried.is_ok_and(|it| it.join().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_of_one_thread_and_lasts_until_the_next() {
        thread::spawn(|| {
            assert!(is_other());
            set_policy(Policy::Idle).unwrap();
            assert!(!is_other());
            assert!(!may_idle_a_moment(), "who has another policy keeps it");
            // Without the privilege this thread just ends.
            if set_policy(Policy::Other).is_ok() {
                assert!(is_other() && may_idle_a_moment());
            }
        })
        .join()
        .unwrap();
        assert!(is_other(), "other threads have their own");
    }
}
