//! What a ring shares with those who answer its requests: memory, answers, and a bell.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tracing::warn;

use super::buffers::{Buffers, Slot};

/// Answers up to this length need no memory of their own, in bytes: that of a long WRITE fits.
const CARRIED_LEN_BYTES_MAX: usize = 16;

/// One ring, seen from outside its thread.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) buffers: Buffers,
    answers: Mutex<Answers>,
    /// The ring's thread waits, or is about to.
    is_asleep: AtomicBool,
    course: AtomicU8,
    bell: OwnedFd,
}

#[derive(Debug)]
struct Answers {
    due: Vec<Answer>,
    /// The ring's thread has ended, and nobody commits any more.
    is_closed: bool,
}

/// How a ring's thread should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Course {
    /// It serves.
    Serve,
    /// The file system is unmounted: it ends when the kernel holds no entry of it any more.
    Drain,
    /// It ends at once.
    Abandon,
}

/// An answer on its way to the ring's thread.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) entry: u16,
    /// The entry, unless the ring's thread kept it.
    pub(super) slot: Option<Slot>,
    /// A negated errno, or 0.
    pub(super) error: i32,
    pub(super) body: Body,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Body {
    /// As many bytes as counted, which are still to be put in place.
    Carried([u8; CARRIED_LEN_BYTES_MAX], usize),
    /// Likewise, too long for the other form.
    Boxed(Vec<u8>),
    /// As many bytes as counted are in the payload.
    Placed(usize),
}

impl Lane {
    /// Makes a lane whose thread does not run yet.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` and `eventfd(2)` report.
    pub(super) fn new(entries: u16, payload_len_bytes: usize) -> Result<Self, Errno> {
        Ok(Self {
            buffers: Buffers::map(entries, payload_len_bytes)?,
            // Each entry has one answer due at most, so this never grows.
            answers: Mutex::new(Answers { due: Vec::with_capacity(entries.into()), is_closed: false }),
            is_asleep: AtomicBool::new(false),
            course: AtomicU8::new(Course::Serve as u8),
            bell: bell()?,
        })
    }

    fn put(&self, answer: Answer) {
        {
            let mut answers = self.answers.lock();
            if answers.is_closed {
                return;
            }
            answers.due.push(answer);
        }
        // The thread looks at the answers once more after it said that it sleeps, so that none is missed. Its own
        // answers find it awake and cost no system call.
        if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
            ring(&self.bell);
        }
    }

    /// Exchanges the answers that are due for the emptied `taken`.
    pub(super) fn take(&self, taken: &mut Vec<Answer>) {
        std::mem::swap(taken, &mut self.answers.lock().due);
    }

    /// Announces that the thread is about to wait; false when there are answers it has to commit first.
    pub(super) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        // A change of course needs no look: its bell is heard also by who falls asleep after it.
        if self.answers.lock().due.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    /// Announces that the thread does not wait.
    pub(super) fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Drops answers from now on.
    pub(super) fn close(&self) {
        let due = {
            let mut answers = self.answers.lock();
            answers.is_closed = true;
            std::mem::take(&mut answers.due)
        };
        drop(due);
    }

    /// Tells the thread how to go on.
    pub(super) fn steer(&self, course: Course) {
        self.course.fetch_max(course as u8, Ordering::SeqCst);
        ring(&self.bell);
    }

    /// Returns how to go on.
    pub(super) fn course(&self) -> Course {
        match self.course.load(Ordering::SeqCst) {
            0 => Course::Serve,
            1 => Course::Drain,
            _ => Course::Abandon,
        }
    }

    /// Returns what becomes readable when the thread has to wake up.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Makes a descriptor by which a waiting thread is woken.
pub(super) fn bell() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Wakes who waits for `bell`.
pub(super) fn ring(bell: impl AsFd) {
    match rustix::io::write(bell, &1_u64.to_ne_bytes()) {
        // A full counter has rung already.
        Ok(_) | Err(Errno::AGAIN) => (),
        Err(errno) => warn!(%errno, "a ring's thread may not wake up"),
    }
}

/// Makes `bell` silent again.
pub(super) fn hush(bell: impl AsFd) {
    let mut count = [0; 8];
    match rustix::io::read(bell, &mut count) {
        Ok(_) | Err(Errno::AGAIN) => (),
        Err(errno) => warn!(%errno, "a ring's thread wakes up too often"),
    }
}

/// The right and duty to answer one request of a ring.
#[derive(Debug)]
pub(crate) struct Ticket {
    lane: Arc<Lane>,
    entry: u16,
    slot: Option<Slot>,
}

impl Ticket {
    /// Makes the ticket of `entry`; without its slot, as long as the request borrows the payload.
    pub(super) fn new(lane: &Arc<Lane>, entry: u16, slot: Option<Slot>) -> Self {
        Self { lane: Arc::clone(lane), entry, slot }
    }

    /// Returns the entry, when the answer may go straight into its payload.
    pub(crate) fn slot_mut(&mut self) -> Option<&mut Slot> {
        self.slot.as_mut()
    }

    /// Answers with `len_bytes` that are in the payload.
    pub(crate) fn send_placed(self, len_bytes: usize) {
        self.send_body(0, Body::Placed(len_bytes));
    }

    /// Answers with a negated errno, or 0 and `parts`.
    pub(crate) fn send(mut self, error: i32, parts: &[&[u8]]) {
        let len_bytes = parts.iter().map(|it| it.len()).sum::<usize>();
        if let Some(slot) = &mut self.slot
            && len_bytes <= slot.payload_len_bytes()
        {
            gather(parts, slot.payload_mut(len_bytes));
            return self.send_body(error, Body::Placed(len_bytes));
        }
        let body = if len_bytes <= CARRIED_LEN_BYTES_MAX {
            let mut carried = [0; CARRIED_LEN_BYTES_MAX];
            gather(parts, &mut carried);
            Body::Carried(carried, len_bytes)
        } else {
            Body::Boxed(parts.concat())
        };
        self.send_body(error, body);
    }

    fn send_body(self, error: i32, body: Body) {
        let Self { lane, entry, slot } = self;
        lane.put(Answer { entry, slot, error, body });
    }
}

/// Copies `parts` to the beginning of `bytes`, one after the other.
fn gather(parts: &[&[u8]], mut bytes: &mut [u8]) {
    for part in parts {
        let (here, rest) = bytes.split_at_mut(part.len());
        here.copy_from_slice(part);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Arc<Lane> {
        Arc::new(Lane::new(2, 8192).unwrap())
    }

    #[expect(unsafe_code, reason = "tests take the kernel's part")]
    fn slot(lane: &Arc<Lane>, entry: u16) -> Slot {
        // SAFETY: no kernel knows of this lane, and each test takes each entry once at a time.
        unsafe { Slot::received(lane, entry) }
    }

    fn rings_of(lane: &Lane) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(lane.bell(), &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }

    #[test]
    fn answers_go_into_the_payload_or_are_carried() {
        let lane = lane();
        Ticket::new(&lane, 0, Some(slot(&lane, 0))).send(0, &[b"ab", b"cd"]);
        Ticket::new(&lane, 1, None).send(0, &[b"ef", b"gh"]);
        let mut taken = Vec::new();
        lane.take(&mut taken);
        assert!(matches!(taken[0].body, Body::Placed(4)));
        assert_eq!(taken[0].slot.as_ref().unwrap().payload(4), b"abcd");
        assert!(matches!(&taken[1].body, Body::Carried(bytes, 4) if bytes.starts_with(b"efgh")));
        taken.clear();
        Ticket::new(&lane, 1, None).send(0, &[&[3; 20_000]]);
        lane.take(&mut taken);
        assert!(matches!(&taken[0].body, Body::Boxed(bytes) if *bytes == [3; 20_000]));
    }

    #[test]
    fn the_bell_rings_for_sleepers_alone() {
        let lane = lane();
        Ticket::new(&lane, 0, None).send(0, &[]);
        assert_eq!(rings_of(&lane), 0, "its thread is awake");
        assert!(!lane.fall_asleep(), "there is something to commit");
        lane.take(&mut Vec::new());
        assert!(lane.fall_asleep());
        Ticket::new(&lane, 0, None).send(0, &[]);
        Ticket::new(&lane, 1, None).send(0, &[]);
        assert_eq!(rings_of(&lane), 1, "once is enough");
        lane.steer(Course::Abandon);
        lane.steer(Course::Drain);
        assert_eq!((rings_of(&lane), lane.course()), (2, Course::Abandon));
    }

    #[test]
    fn nothing_is_kept_for_a_thread_that_ended() {
        let lane = lane();
        Ticket::new(&lane, 0, Some(slot(&lane, 0))).send(0, &[&[1; 100]]);
        assert_eq!(Arc::strong_count(&lane), 2, "an answer keeps the memory it lies in");
        lane.close();
        let late = Ticket::new(&lane, 1, Some(slot(&lane, 1)));
        late.send(0, &[b"late"]);
        assert_eq!(Arc::strong_count(&lane), 1);
    }

    #[test]
    fn entries_do_not_overlap_and_payloads_are_given_back() {
        let lane = lane();
        let (mut first, mut second) = (slot(&lane, 0), slot(&lane, 1));
        first.payload_mut(usize::MAX).fill(1);
        second.payload_mut(usize::MAX).fill(2);
        let header = |unique| crate::abi::replies::OutHeader { len: 16, error: 0, unique };
        first.write_header(&header(7), 5);
        second.write_header(&header(8), 6);
        for (slot, byte, unique, payload_sz) in [(&first, 1, 7_u64, 5), (&second, 2, 8, 6)] {
            assert_eq!(slot.payload(usize::MAX), [byte; 8192]);
            let found = slot.header();
            assert_eq!(found.in_out[8..16], unique.to_ne_bytes());
            assert_eq!(found.entry.payload_sz, payload_sz);
        }
        first.release_payload().unwrap();
        assert_eq!(first.payload(usize::MAX), [0; 8192]);
        assert_eq!(second.payload(usize::MAX), [2; 8192]);
        assert_eq!(first.header().entry.payload_sz, 5);
    }
}
