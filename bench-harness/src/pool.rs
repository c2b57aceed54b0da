//! Threads: those that work in parallel do not outlive their work, and those that stay keep files of their own.
//!
//! A process pays for a second thread, asleep or not, at every call on a file descriptor: the kernel then takes and
//! drops a reference to the open file, which it need not in a process of one. In C that made the reference
//! operation 3 to 4 % longer. So the thread that takes samples shares its file table with no other, and rayon's
//! own pool, which never ends, is not used before the last sample.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use nix::sched::CloneFlags;
use rayon::ThreadPoolBuilder;

use crate::error::{BenchError, BenchErrorKind, Result};

/// Threads for work that waits for a disk instead of a processor, such as removing files where each is discarded at once.
const N_WAITING: usize = 8;

/// Does `work`, whose parallel iterators run on as many threads as there are processors; all have ended when it
/// returns.
///
/// # Errors
///
/// A thread cannot be started.
pub fn in_parallel<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    // For rayon 0 is the number of processors.
    on_threads(0, work)
}

/// As [`in_parallel`], for work that waits for a disk most of its time.
///
/// # Errors
///
/// A thread cannot be started.
pub fn in_parallel_waiting<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_threads(N_WAITING, work)
}

fn on_threads<T: Send>(count: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = ThreadPoolBuilder::new().num_threads(count);
    let done = pool.build_scoped(|thread| thread.run(), |pool| pool.install(work));
    done.map_err(|error| {
        BenchError::new("start", Path::new("threads"), BenchErrorKind::Refused(error.to_string()))
    })
}

/// Starts a thread that stays, such as one that waits for signals; when this returns, it has a file table of
/// its own, with what was open before.
///
/// # Errors
///
/// The thread cannot be started.
pub fn spawn_apart(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let ready = Arc::new(Barrier::new(2));
    let own = Arc::clone(&ready);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(errno) = nix::sched::unshare(CloneFlags::CLONE_FILES) {
            tracing::debug!(%errno, "a thread shares the files of the one that takes samples");
        }
        own.wait();
        work();
    })?;
    // What is opened from here on, a mount among it, this thread does not hold open.
    ready.wait();
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn no_thread_outlives_its_work() {
        let own = || std::fs::read_link("/proc/thread-self").unwrap();
        let threads: BTreeSet<_> = in_parallel(|| (0..64).into_par_iter().map(|_| own()).collect()).unwrap();
        assert!(!threads.is_empty() && !threads.contains(&own()), "the caller only waits: {threads:?}");
        // A thread is joined a moment before its entry is gone.
        let start = Instant::now();
        while threads.iter().any(|it| Path::new("/proc").join(it).exists()) {
            assert!(start.elapsed() < Duration::from_secs(10), "threads stay: {threads:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_apart_does_not_hold_what_is_opened_later() {
        use std::os::fd::AsRawFd as _;
        let own = || Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        let (leave, wait) = std::sync::mpsc::channel::<()>();
        let work = move || {
            tell.send(own()).unwrap();
            assert!(wait.recv().is_err(), "nothing is sent");
        };
        let apart = spawn_apart("apart", work).unwrap();
        let other = told.recv().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let number = reader.as_raw_fd().to_string();
        let open = |thread: &Path| std::fs::read_link(thread.join("fd").join(&number));
        let held = open(&own()).unwrap();
        match open(&other) {
            Ok(another) => assert_ne!(another, held),
            // Only of a thread that is there does this say that it does not hold it.
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                assert!(other.join("fd").is_dir(), "the thread still runs");
            }
        }
        drop(leave);
        apart.join().unwrap();
    }
}
