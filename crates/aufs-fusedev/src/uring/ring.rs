//! One ring and its thread: takes requests of its CPU, hands them to the handler, commits answers.
//!
//! Each round the thread commits what is answered and waits for the next request in one system
//! call. A request that was answered before the handler returned needs no further one.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use aufs_host::errno_of;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;
use tracing::{debug, warn};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::buffers::Slot;
use super::lane::{Answer, Body, Course, Lane, Ticket, hush};
use crate::abi::replies::OutHeader;
use crate::abi::requests::InHeader;
use crate::abi::uring::{COMMIT_AND_FETCH, Command, EntryHeader, REGISTER, Submission};
use crate::cpus::{Share, pin_to};
use crate::device::Channel;
use crate::dispatch::Dispatcher;
use crate::reply::Responder;
use crate::request::Parts;
use crate::session::Handler;

/// Payloads up to this length are copied before they are parsed, in bytes: names, ACLs, small writes.
///
/// The payload is then free for the answer while the handler still looks at the request.
const COPIED_LEN_BYTES_MAX: usize = 8192;
/// Payloads beyond this length make an entry worth trimming when nothing happens, in bytes.
const SHORT_LEN_BYTES_MAX: usize = 64 << 10;
/// How long nothing has to happen before memory of long payloads is given back.
const TRIM_AFTER: types::Timespec = types::Timespec::new().sec(2);
/// Marks completions of the bell, which are of no entry.
const BELL: u64 = u64::MAX;
/// `struct iovec` of a REGISTER.
const IOVECS: u32 = 2;

pub(super) type CommandRing = IoUring<squeue::Entry128, cqueue::Entry>;

/// What the thread knows of one entry.
#[derive(Debug)]
struct Entry {
    queue: u16,
    commit_id: u64,
    unique: u64,
    /// The entry itself, while a request borrows from it.
    kept: Option<Slot>,
    /// Its payload was long since it was trimmed.
    is_long: bool,
    is_in_kernel: bool,
}

/// A ring that belongs to no thread yet.
pub(super) struct Ring {
    pub(super) share: Share,
    pub(super) lane: Arc<Lane>,
    ring: CommandRing,
    entries: Vec<Entry>,
}

impl Ring {
    /// Makes a ring with `depth` entries for each queue of `share`.
    ///
    /// # Errors
    ///
    /// `EPERM` where io_uring is forbidden, `ENOSYS` without it, `EINVAL` before Linux 6.1, `ENOMEM`.
    pub(super) fn new(share: Share, depth: u16, payload_len_bytes: usize) -> Result<Self, Errno> {
        let queues = share.queues.iter();
        let entries: Vec<_> = queues.flat_map(|queue| (0..depth).map(|_| Entry::of(*queue))).collect();
        let count = u16::try_from(entries.len()).map_err(|_| Errno::INVAL)?;
        let mut builder = CommandRing::builder();
        // One thread submits, so completions need not interrupt it: it takes them when it waits.
        builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled();
        // All entries and the bell may have a command on its way at the same time.
        let ring = builder.build(u32::from(count) + 1).map_err(errno_of)?;
        let lane = Arc::new(Lane::new(count, payload_len_bytes)?);
        Ok(Self { share, lane, ring, entries })
    }
}

impl Entry {
    fn of(queue: u16) -> Self {
        Self { queue, commit_id: 0, unique: 0, kept: None, is_long: false, is_in_kernel: false }
    }
}

/// A ring in its thread.
pub(super) struct Server {
    // Declared before the lane: the ring has to be closed before memory can go.
    ring: CommandRing,
    lane: Arc<Lane>,
    channel: Arc<Channel>,
    dispatcher: Dispatcher,
    entries: Vec<Entry>,
    in_kernel: usize,
    /// Entries that the kernel took back or never took.
    dead: usize,
    completions: Vec<Completion>,
    answers: Vec<Answer>,
    copied: Vec<u8>,
    is_trim_due: bool,
}

#[derive(Debug, Clone, Copy)]
struct Completion {
    user_data: u64,
    result: i32,
    goes_on: bool,
}

/// Lives as long as the thread of `ring`: registers, says so, waits for the handler, serves.
///
/// # Errors
///
/// What made it impossible to go on.
pub(super) fn run(
    ring: Ring,
    channel: Arc<Channel>,
    dispatcher: Dispatcher,
    registered: &SyncSender<Result<(), Errno>>,
    handlers: &Receiver<Arc<dyn Handler>>,
) -> Result<(), Errno> {
    let cpu = ring.share.cpu;
    if let Err(errno) = pin_to(cpu) {
        debug!(%errno, cpu, "a ring's thread runs on any CPU");
    }
    let mut server = Server::new(ring, channel, dispatcher);
    let outcome = server.register();
    let is_registered = outcome.is_ok();
    if registered.send(outcome).is_err() || !is_registered {
        return Ok(());
    }
    match handlers.recv() {
        Ok(handler) => server.serve(&*handler),
        // The session was dropped before it ran.
        Err(_) => Ok(()),
    }
}

impl Server {
    fn new(ring: Ring, channel: Arc<Channel>, dispatcher: Dispatcher) -> Self {
        let Ring { ring, lane, entries, .. } = ring;
        let count = entries.len();
        Self {
            ring,
            lane,
            channel,
            dispatcher,
            entries,
            in_kernel: 0,
            dead: 0,
            completions: Vec::with_capacity(2 * count + 2),
            answers: Vec::with_capacity(count),
            copied: vec![0; COPIED_LEN_BYTES_MAX],
            is_trim_due: false,
        }
    }

    /// Gives all entries to the kernel; it is enough that it takes one of each queue.
    fn register(&mut self) -> Result<(), Errno> {
        self.ring.submitter().register_enable_rings().map_err(errno_of)?;
        let iovecs: Vec<_> =
            (0..self.lane.buffers.entries()).map(|it| self.lane.buffers.iovecs(it)).collect();
        for (entry, iovecs) in (0_u16..).zip(&iovecs) {
            let addr = iovecs.as_ptr() as u64;
            let submission = Submission { addr, len: IOVECS, ..self.command(REGISTER, entry, 0) };
            self.give(entry, &submission)?;
        }
        self.listen_to_bell()?;
        // The kernel reads the vectors while it submits, and reports right away what it refuses.
        self.enter(0)?;
        self.collect();
        let refused = |it: &&Completion| it.result < 0 && it.user_data != BELL;
        let first = self.completions.iter().find(refused).map(|it| Errno::from_raw_os_error(-it.result));
        let refusals: Vec<_> = self.completions.iter().filter(refused).map(|it| it.user_data).collect();
        let is_taken = |queue: &u16| {
            (0_u64..).zip(&self.entries).any(|(at, it)| it.queue == *queue && !refusals.contains(&at))
        };
        let all_taken = self.entries.iter().all(|it| is_taken(&it.queue));
        match first {
            Some(errno) if !all_taken => Err(errno),
            Some(errno) => {
                warn!(%errno, refused = refusals.len(), "a ring has fewer entries than wanted");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn serve(&mut self, handler: &dyn Handler) -> Result<(), Errno> {
        loop {
            self.take_completions(handler)?;
            self.commit_answers()?;
            if self.is_over() {
                return Ok(());
            }
            let is_waiting = self.lane.fall_asleep();
            let entered = self.enter(u32::from(is_waiting));
            self.lane.wake_up();
            entered?;
            self.collect();
        }
    }

    fn is_over(&self) -> bool {
        match self.lane.course() {
            Course::Serve => self.dead == self.entries.len(),
            // Whoever still holds an entry answers to nobody.
            Course::Drain => self.in_kernel == 0,
            Course::Abandon => true,
        }
    }

    /// Submits what is queued, and waits until `wanted` completions are there or long memory may go.
    fn enter(&mut self, wanted: u32) -> Result<(), Errno> {
        loop {
            let submitter = self.ring.submitter();
            let entered = if wanted != 0 && self.is_trim_due {
                let arguments = types::SubmitArgs::new().timespec(&TRIM_AFTER);
                submitter.submit_with_args(wanted as usize, &arguments)
            } else {
                submitter.submit_and_wait(wanted as usize)
            };
            match entered.map_err(errno_of) {
                Ok(_) => return Ok(()),
                Err(Errno::TIME) => {
                    self.trim();
                    return Ok(());
                }
                // Completions wait to be collected first.
                Err(Errno::BUSY) => return Ok(()),
                Err(Errno::INTR | Errno::AGAIN) => (),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn collect(&mut self) {
        let completions = self.ring.completion().map(|it| Completion {
            user_data: it.user_data(),
            result: it.result(),
            goes_on: cqueue::more(it.flags()),
        });
        self.completions.extend(completions);
    }

    fn take_completions(&mut self, handler: &dyn Handler) -> Result<(), Errno> {
        let mut completions = std::mem::take(&mut self.completions);
        let count = completions.len();
        for (number, completion) in completions.drain(..).enumerate() {
            if completion.user_data == BELL {
                hush(self.lane.bell());
                if !completion.goes_on {
                    self.listen_to_bell()?;
                }
                continue;
            }
            let Some(entry) = self.completed(completion.user_data) else { continue };
            if completion.result < 0 {
                // The file system is gone, and so is the entry.
                self.dead += 1;
                continue;
            }
            self.take_request(entry, handler);
            if number + 1 < count {
                // The next request may take long, and this caller should not wait for that.
                self.commit_answers()?;
                self.enter(0)?;
            }
        }
        // Only its capacity is kept, unless more came meanwhile.
        if self.completions.is_empty() {
            self.completions = completions;
        }
        Ok(())
    }

    /// Notes that a command came back, and returns which entry is the server's again.
    fn completed(&mut self, user_data: u64) -> Option<u16> {
        let entry = u16::try_from(user_data).ok()?;
        let state = self.entries.get_mut(usize::from(entry))?;
        if !std::mem::replace(&mut state.is_in_kernel, false) {
            return None;
        }
        self.in_kernel -= 1;
        Some(entry)
    }

    fn take_request(&mut self, entry: u16, handler: &dyn Handler) {
        #[expect(unsafe_code, reason = "only the completion of a command proves whose the entry is")]
        // SAFETY: `completed` saw the entry's command come back; the slot before it was consumed
        // when that command was given.
        let slot = unsafe { Slot::received(&self.lane, entry) };
        let header = slot.header();
        let Ok((request, _)) = InHeader::read_from_prefix(&header.in_out) else { return };
        let len_bytes = header.entry.payload_sz as usize;
        let state = &mut self.entries[usize::from(entry)];
        state.commit_id = header.entry.commit_id;
        state.unique = request.unique;
        self.note_length(entry, len_bytes);
        if len_bytes <= COPIED_LEN_BYTES_MAX {
            let copied = &mut self.copied[..len_bytes];
            copied.copy_from_slice(slot.payload(len_bytes));
            let ticket = Ticket::new(&self.lane, entry, Some(slot));
            hand_over(&self.dispatcher, handler, &request, &header, copied, ticket);
        } else {
            let ticket = Ticket::new(&self.lane, entry, None);
            hand_over(&self.dispatcher, handler, &request, &header, slot.payload(len_bytes), ticket);
            self.entries[usize::from(entry)].kept = Some(slot);
        }
    }

    fn note_length(&mut self, entry: u16, len_bytes: usize) {
        if SHORT_LEN_BYTES_MAX < len_bytes {
            self.entries[usize::from(entry)].is_long = true;
            self.is_trim_due = true;
        }
    }

    /// Gives the kernel all entries whose requests are answered.
    fn commit_answers(&mut self) -> Result<(), Errno> {
        let mut answers = std::mem::take(&mut self.answers);
        self.lane.take(&mut answers);
        for answer in answers.drain(..) {
            self.commit(answer)?;
        }
        self.answers = answers;
        Ok(())
    }

    fn commit(&mut self, answer: Answer) -> Result<(), Errno> {
        let Answer { entry, slot, error, body } = answer;
        let state = &mut self.entries[usize::from(entry)];
        let Some(mut slot) = slot.or_else(|| state.kept.take()) else { return Ok(()) };
        let room_len_bytes = slot.payload_len_bytes();
        let (error, len_bytes) = match body {
            Body::Carried(bytes, len_bytes) => {
                slot.payload_mut(len_bytes).copy_from_slice(&bytes[..len_bytes]);
                (error, len_bytes)
            }
            Body::Placed(len_bytes) => (error, len_bytes),
            Body::Boxed(bytes) if bytes.len() <= room_len_bytes => {
                slot.payload_mut(bytes.len()).copy_from_slice(&bytes);
                (error, bytes.len())
            }
            Body::Boxed(bytes) => {
                warn!(len_bytes = bytes.len(), room_len_bytes, "an answer is too long");
                (-Errno::IO.raw_os_error(), 0)
            }
        };
        let whole_len_bytes = size_of::<OutHeader>() + len_bytes;
        let len = u32::try_from(whole_len_bytes).unwrap_or(u32::MAX);
        slot.write_header(&OutHeader { len, error, unique: state.unique }, len_bytes);
        let commit_id = state.commit_id;
        let submission = self.command(COMMIT_AND_FETCH, slot.entry(), commit_id);
        self.note_length(entry, len_bytes);
        drop(slot);
        self.give(entry, &submission)
    }

    fn command(&self, cmd_op: u32, entry: u16, commit_id: u64) -> Submission {
        let qid = self.entries[usize::from(entry)].queue;
        Submission {
            opcode: opcode::UringCmd80::CODE,
            fd: self.channel.as_fd().as_raw_fd(),
            cmd_op,
            user_data: entry.into(),
            command: Command { commit_id, qid, ..Command::default() },
            ..Submission::new_zeroed()
        }
    }

    /// Gives `entry`, of which no slot may be left, to the kernel.
    fn give(&mut self, entry: u16, submission: &Submission) -> Result<(), Errno> {
        push(&mut self.ring, submission)?;
        self.entries[usize::from(entry)].is_in_kernel = true;
        self.in_kernel += 1;
        Ok(())
    }

    fn listen_to_bell(&mut self) -> Result<(), Errno> {
        let bell = types::Fd(self.lane.bell().as_raw_fd());
        let readable = libc::POLLIN as u32;
        let poll = opcode::PollAdd::new(bell, readable).multi(true).build().user_data(BELL);
        #[expect(unsafe_code, reason = "submission entries may name memory; this one names none")]
        // SAFETY: a poll takes no memory, and the lane keeps the descriptor open while the ring exists.
        let pushed = unsafe { self.ring.submission().push(&poll.into()) };
        pushed.map_err(|_| Errno::BUSY)
    }

    /// Gives back memory that long requests and answers touched.
    fn trim(&mut self) {
        self.is_trim_due = false;
        for entry in 0..self.lane.buffers.entries() {
            let state = &mut self.entries[usize::from(entry)];
            if !state.is_in_kernel || !std::mem::replace(&mut state.is_long, false) {
                continue;
            }
            #[expect(unsafe_code, reason = "the kernel has the entry, but does not touch it")]
            // SAFETY: the kernel writes to an entry only in this thread, while it enters the ring, so
            // the memory is this thread's during this call; no slot of an entry in the kernel is left.
            let mut slot = unsafe { Slot::received(&self.lane, entry) };
            if let Err(errno) = slot.release_payload() {
                warn!(%errno, "memory of a ring stays in use");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lane.close();
        for entry in &mut self.entries {
            entry.kept = None;
        }
        if self.in_kernel != 0 {
            // The kernel gives entries up some time after the ring is closed; until then it may know the addresses.
            std::mem::forget(Arc::clone(&self.lane));
        }
    }
}

fn hand_over(
    dispatcher: &Dispatcher,
    handler: &dyn Handler,
    request: &InHeader,
    header: &EntryHeader,
    payload: &[u8],
    ticket: Ticket,
) {
    let responder = Responder::by_ring(ticket, request, dispatcher.stats());
    dispatcher.dispatch(handler, request, Parts::Apart(&header.op_in, payload), responder);
}

/// Queues a command.
pub(super) fn push(ring: &mut CommandRing, submission: &Submission) -> Result<(), Errno> {
    let Ok(bytes) = <[u8; size_of::<Submission>()]>::read_from_bytes(submission.as_bytes()) else {
        return Err(Errno::INVAL);
    };
    #[expect(unsafe_code, reason = "the crate builds no command of this device with its number of vectors")]
    // SAFETY: both types are the 128 bytes of `struct io_uring_sqe`, of which all values are valid.
    let entry = unsafe { std::mem::transmute::<[u8; size_of::<Submission>()], squeue::Entry128>(bytes) };
    #[expect(unsafe_code, reason = "submission entries may name memory")]
    // SAFETY: a REGISTER names vectors that live until it is submitted, and memory of the lane, which
    // outlives the ring; the other command names none.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.map_err(|_| Errno::BUSY)
}
