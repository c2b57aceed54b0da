//! Requests over io_uring: one queue for each CPU, and a thread on that CPU which serves it.
//!
//! A caller is served on its own CPU, so no idle CPU has to wake up for it. The
//! kernel wants a queue for every CPU that may ever come, and uses none of them
//! before all are registered; those of CPUs off line are served by the others.
//!
//! A queue has a fixed number of entries. A request keeps its entry until it is
//! answered, and when all entries of a queue are kept, further requests from its
//! CPU wait in the kernel. A handler must therefore hand long work to other
//! threads, and the depth must exceed the number of long requests that are on
//! their way from one CPU. Depth is cheap: the kernel uses the entry that was
//! used last, so memory of the others is never touched.
//!
//! FORGET, INTERRUPT and INIT still come over the device.

mod buffers;
mod lane;
mod ring;

pub(crate) use lane::Ticket;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use aufs_host::errno_of;
use io_uring::opcode;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tracing::warn;
use zerocopy::FromZeros;

use self::lane::{Course, Lane, bell};
use self::ring::{CommandRing, Ring};
use crate::abi::uring::{Command, REGISTER, Submission};
use crate::cpus;
use crate::device::Channel;
use crate::dispatch::Dispatcher;
use crate::session::Handler;

/// The ring itself and its bell.
const DESCRIPTORS_PER_RING: usize = 2;

/// Rings that exist, but of which the kernel does not know yet.
pub(crate) struct Rings {
    rings: Vec<Ring>,
}

/// Rings whose threads run.
#[derive(Debug)]
pub(crate) struct RunningRings {
    members: Vec<Member>,
    /// Readable when a thread could not go on.
    failure: Arc<OwnedFd>,
    queues: usize,
}

#[derive(Debug)]
struct Member {
    lane: Arc<Lane>,
    handlers: Option<Sender<Arc<dyn Handler>>>,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Rings {
    /// Makes all rings with `depth` entries for each queue and payloads of `payload_len_bytes`.
    ///
    /// # Errors
    ///
    /// `EPERM` where io_uring is forbidden, `ENOSYS` without it, `EINVAL` before Linux 6.1, `ENOMEM`, `EMFILE` when
    /// too few descriptors would be left for files, and what reading the list of CPUs reports.
    pub(crate) fn new(depth: u16, payload_len_bytes: usize) -> Result<Self, Errno> {
        let shares = cpus::shares()?;
        if !leave_descriptors(shares.len(), getrlimit(Resource::Nofile).current) {
            return Err(Errno::MFILE);
        }
        let rings = shares
            .into_iter()
            .map(|share| Ring::new(share, depth.max(1), payload_len_bytes))
            .collect::<Result<_, _>>()?;
        Ok(Self { rings })
    }

    /// Starts the threads and registers all queues, after INIT is answered.
    ///
    /// # Errors
    ///
    /// What kept a queue from being registered; the kernel then uses the device for all requests.
    pub(crate) fn start(
        self,
        channel: &Arc<Channel>,
        dispatcher: &Dispatcher,
    ) -> Result<RunningRings, Errno> {
        let failure = Arc::new(bell()?);
        let queues = self.rings.iter().map(|it| it.share.queues.len()).sum();
        let mut running = RunningRings { members: Vec::new(), failure, queues };
        // One after the other: the last queue makes the kernel switch, and must not do so when an earlier one failed.
        for ring in self.rings {
            running.add(ring, channel, dispatcher)?;
        }
        Ok(running)
    }
}

impl RunningRings {
    fn add(&mut self, ring: Ring, channel: &Arc<Channel>, dispatcher: &Dispatcher) -> Result<(), Errno> {
        let (registered, registration) = sync_channel(1);
        let (handlers, handler) = self::channel();
        let (lane, failure) = (Arc::clone(&ring.lane), Arc::clone(&self.failure));
        let (channel, dispatcher) = (Arc::clone(channel), dispatcher.clone());
        let thread = Builder::new().name(format!("aufs-ring-{}", ring.share.cpu)).spawn(move || {
            let outcome = ring::run(ring, channel, dispatcher, &registered, &handler);
            if outcome.is_err() {
                lane::ring(&*failure);
            }
            outcome
        });
        let thread = Some(thread.map_err(errno_of)?);
        self.members.push(Member { lane, handlers: Some(handlers), thread });
        registration.recv().unwrap_or(Err(Errno::IO))
    }

    /// Returns how many queues there are.
    pub(crate) fn queues(&self) -> usize {
        self.queues
    }

    /// Lets the threads serve.
    pub(crate) fn serve(&mut self, handler: &Arc<dyn Handler>) {
        for member in &mut self.members {
            if let Some(handlers) = member.handlers.take()
                && handlers.send(Arc::clone(handler)).is_err()
            {
                warn!("a ring's thread ended before it served");
            }
        }
    }

    /// Waits until the device has a request, or is gone; false when a thread could not go on.
    ///
    /// # Errors
    ///
    /// What `poll(2)` reports.
    pub(crate) fn wait_for_device(&self, channel: &Channel) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(channel, PollFlags::IN), PollFd::new(&*self.failure, PollFlags::IN)];
        loop {
            match poll(&mut fds, None) {
                Ok(_) => return Ok(fds[1].revents().is_empty()),
                Err(Errno::INTR) => (),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Ends the threads after the file system was unmounted.
    ///
    /// # Errors
    ///
    /// What the first of them could not go on for.
    pub(crate) fn drain(mut self) -> Result<(), Errno> {
        self.end(Course::Drain)
    }

    /// Ends the threads whatever the kernel still holds.
    ///
    /// # Errors
    ///
    /// As [`Self::drain`].
    pub(crate) fn abandon(mut self) -> Result<(), Errno> {
        self.end(Course::Abandon)
    }

    fn end(&mut self, course: Course) -> Result<(), Errno> {
        for member in &mut self.members {
            member.handlers = None;
            member.lane.steer(course);
        }
        let mut outcome = Ok(());
        for thread in self.members.iter_mut().filter_map(|it| it.thread.take()) {
            match thread.join() {
                Ok(ended) => outcome = outcome.and(ended),
                Err(_) => warn!("a ring's thread panicked"),
            }
        }
        outcome
    }
}

impl Drop for RunningRings {
    fn drop(&mut self) {
        if let Err(errno) = self.end(Course::Abandon) {
            warn!(%errno, "a ring could not go on");
        }
    }
}

/// Whether `rings` leave most of the descriptors, of which there may be `limit`, to the file system.
fn leave_descriptors(rings: usize, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| (rings * DESCRIPTORS_PER_RING) as u64 <= limit / 4)
}

/// Makes the kernel give up waiting for rings, so that all requests come over the device.
///
/// The kernel does so at the first REGISTER that it refuses, hence one for a queue that cannot be.
///
/// # Errors
///
/// What making a ring reports; requests then wait until the device is closed.
pub(crate) fn give_up(channel: &Channel) -> Result<(), Errno> {
    let mut ring: CommandRing = CommandRing::builder().build(1).map_err(errno_of)?;
    let submission = Submission {
        opcode: opcode::UringCmd80::CODE,
        fd: channel.as_fd().as_raw_fd(),
        cmd_op: REGISTER,
        command: Command { qid: u16::MAX, ..Command::default() },
        ..Submission::new_zeroed()
    };
    ring::push(&mut ring, &submission)?;
    ring.submit_and_wait(1).map_err(errno_of)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_leave_three_quarters_of_the_descriptors() {
        assert!(leave_descriptors(2, Some(256)));
        assert!(leave_descriptors(32, Some(256)));
        assert!(!leave_descriptors(33, Some(256)));
        assert!(leave_descriptors(500, None));
    }
}
