//! Threads for requests that take long, so that those who read requests never wait for one.
//!
//! The kernel wakes readers of the FUSE device in turn, often on another
//! processor than the caller's, which costs more than most requests do. So
//! there are few readers, which answer at once what can be answered at once;
//! copies of large files, flushes and large reads go to the workers here.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread;

use aufs_fusedev::transport::run_on_any_cpu;
use parking_lot::{Condvar, Mutex};
use tracing::warn;

type Job = Box<dyn FnOnce() + Send>;

/// Worker threads, started as they are needed.
#[derive(Clone)]
pub(crate) struct Workers {
    queue: Arc<Queue>,
    limit: usize,
}

struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Workers {
    /// At most `limit` threads; more jobs than that wait.
    pub(crate) fn new(limit: usize) -> Self {
        let queue = Queue { state: Mutex::default(), arrived: Condvar::new() };
        Self { queue: Arc::new(queue), limit }
    }

    /// Runs `job` now, or on a worker when it `takes_long`.
    pub(crate) fn run(&self, takes_long: bool, job: impl FnOnce() + Send + 'static) {
        if !takes_long {
            return job();
        }
        let mut state = self.queue.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads < self.limit {
            let queue = Arc::clone(&self.queue);
            let started = thread::Builder::new().name("aufs-worker".to_owned()).spawn(move || work(&queue));
            match started {
                Ok(_) => state.threads += 1,
                Err(error) => warn!(%error, threads = state.threads, "no further worker thread"),
            }
        }
        if state.threads == 0 {
            // No thread is to be had at all: better late than never.
            let job = state.jobs.pop_back();
            drop(state);
            if let Some(job) = job {
                job();
            }
            return;
        }
        drop(state);
        self.queue.arrived.notify_one();
    }
}

fn work(queue: &Queue) {
    run_on_any_cpu();
    let mut state = queue.state.lock();
    loop {
        match state.jobs.pop_front() {
            Some(job) => {
                drop(state);
                job();
                state = queue.state.lock();
            }
            None => {
                state.idle += 1;
                queue.arrived.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_job_runs_and_a_long_one_holds_up_nobody() {
        let workers = Workers::new(2);
        let (finish, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        workers.run(true, move || assert_eq!(wait.recv_timeout(Duration::from_secs(60)), Ok(())));
        for number in 0..100 {
            let tell = tell.clone();
            workers.run(number % 2 == 0, move || tell.send(number).unwrap());
        }
        let mut seen: Vec<i32> =
            (0..100).map(|_| told.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        finish.send(()).unwrap();
        assert!(workers.queue.state.lock().threads <= 2);
    }
}
