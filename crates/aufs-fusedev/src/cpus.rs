//! Which CPUs there are, and which of them a thread runs on.

use std::path::Path;
use std::sync::OnceLock;

use aufs_host::errno_of;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the kernel lists CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// What one thread serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// The CPU it runs on.
    pub(crate) cpu: u16,
    /// Its queues: that of its own CPU, and of some that are off line.
    pub(crate) queues: Vec<u16>,
}

/// The CPUs the process may use, as they were before any thread was bound to one of them.
static ALLOWED: OnceLock<CpuSet> = OnceLock::new();

/// Returns a share for each CPU on line.
///
/// # Errors
///
/// What reading the lists reports; `EINVAL` when they are not understood.
pub(crate) fn shares() -> Result<Vec<Share>, Errno> {
    remember_allowed()?;
    let read = |name| {
        let text = std::fs::read_to_string(Path::new(CPUS).join(name)).map_err(errno_of)?;
        parse_list(&text).ok_or(Errno::INVAL)
    };
    // The kernel numbers queues as CPUs, from 0 on without gaps.
    let queues = u16::try_from(read("possible")?.len()).map_err(|_| Errno::INVAL)?;
    share_out(queues, &read("online")?).ok_or(Errno::INVAL)
}

/// Notes which CPUs the process may use; to be called before any thread is bound to one.
///
/// # Errors
///
/// What `sched_getaffinity(2)` reports.
pub(crate) fn remember_allowed() -> Result<(), Errno> {
    let allowed = sched_getaffinity(None)?;
    ALLOWED.get_or_init(|| allowed);
    Ok(())
}

/// Whether the process may use more than one CPU, as far as [`remember_allowed`] knows.
pub(crate) fn are_several() -> bool {
    ALLOWED.get().is_some_and(|it| 1 < it.count())
}

/// Parses a list such as `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// Gives each CPU on line its queue, and the remaining ones to all in turn.
fn share_out(queues: u16, online: &[u16]) -> Option<Vec<Share>> {
    let own = online.iter().filter(|cpu| **cpu < queues);
    let mut shares: Vec<_> = own.map(|cpu| Share { cpu: *cpu, queues: vec![*cpu] }).collect();
    let count = shares.len();
    let rest = (0..queues).filter(|queue| !online.contains(queue));
    for (number, queue) in rest.enumerate() {
        shares.get_mut(number.checked_rem(count)?)?.queues.push(queue);
    }
    (count != 0).then_some(shares)
}

/// Binds the calling thread to `cpu`.
///
/// # Errors
///
/// `EINVAL` when the CPU went off line or is none of those the process may use.
pub(crate) fn pin_to(cpu: u16) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    if usize::from(cpu) < CpuSet::MAX_CPU {
        set.set(cpu.into());
    }
    sched_setaffinity(None, &set)
}

/// Lets the calling thread run on every CPU of the process again.
///
/// # Errors
///
/// What `sched_setaffinity(2)` reports.
pub(crate) fn unpin() -> Result<(), Errno> {
    ALLOWED.get().map_or(Ok(()), |allowed| sched_setaffinity(None, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(cpu: u16, queues: &[u16]) -> Share {
        Share { cpu, queues: queues.to_vec() }
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse_list("0\n"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
        for wrong in ["", "a", "1-", "-1", "0,,1", "70000"] {
            assert_eq!(parse_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_queue_is_served_by_a_cpu_on_line() {
        assert_eq!(share_out(2, &[0, 1]), Some(vec![share(0, &[0]), share(1, &[1])]));
        assert_eq!(share_out(5, &[0, 3]), Some(vec![share(0, &[0, 1, 4]), share(3, &[3, 2])]));
        assert_eq!(share_out(4, &[]), None);
        assert_eq!(share_out(0, &[0]), None);
    }

    #[test]
    fn a_thread_started_by_a_bound_one_gets_loose() {
        std::thread::spawn(|| {
            let before = sched_getaffinity(None).unwrap();
            let share = &shares().unwrap()[0];
            pin_to(share.cpu).unwrap();
            let inherited = std::thread::spawn(|| {
                let inherited = sched_getaffinity(None).unwrap();
                unpin().unwrap();
                (inherited, sched_getaffinity(None).unwrap())
            });
            let (inherited, after) = inherited.join().unwrap();
            assert_eq!(inherited.count(), 1);
            assert_eq!(after, before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn this_machine_has_queues() {
        let shares = shares().unwrap();
        let queues: usize = shares.iter().map(|it| it.queues.len()).sum();
        assert!(shares.len() <= queues && !shares.is_empty(), "{shares:?}");
    }
}
