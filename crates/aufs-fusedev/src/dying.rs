//! Whether a caller still waits.

use std::fs;

/// Whether the thread `pid` is gone, or about to end by a signal it cannot avoid; unknown, and so no, for 0.
///
/// A signal whose default is to end the program shows as SIGKILL, which the kernel then sends to every thread
/// of the process: `complete_signal` in `kernel/signal.c`.
pub(crate) fn is_dying(pid: u32) -> bool {
    if pid == 0 {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => has_kill_pending(&status),
        Err(_) => true,
    }
}

/// Reads the masks of pending signals, of the thread and of its process, from proc_pid_status(5).
fn has_kill_pending(status: &str) -> bool {
    const SIGKILL: u64 = 1 << (9 - 1);
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.into_iter().any(|mask| mask & SIGKILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pending_kill_counts() {
        let status = |own, shared| format!("Name:\tsh\nSigQ:\t1/9\nSigPnd:\t{own}\nShdPnd:\t{shared}\n");
        for (own, shared, expected) in [
            ("0000000000000000", "0000000000000000", false),
            ("0000000000000100", "0000000000000000", true),
            ("0000000000000000", "0000000000000100", true),
            ("0000000000002000", "0000000000000002", false),
        ] {
            assert_eq!(has_kill_pending(&status(own, shared)), expected, "{own} {shared}");
        }
        assert!(!is_dying(std::process::id()));
        assert!(is_dying(u32::MAX), "there is no such thread");
        assert!(!is_dying(0), "of another PID namespace");
    }
}
