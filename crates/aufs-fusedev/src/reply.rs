//! Replies: each request comes with a [`Responder`], which must be used exactly once.

use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use tracing::{debug, warn};
use zerocopy::{Immutable, IntoBytes};

use crate::abi::opcode::Opcode;
use crate::abi::replies::{EntryOut, GetXattrOut, IoctlOut, LSeekOut, OpenOut, OutHeader, WriteOut};
use crate::abi::requests::InHeader;
use crate::device::Channel;
use crate::stats::Stats;
use crate::stay::answering;
use crate::uring::Ticket;

/// Answers one request, from any thread; one that is dropped unanswered answers `EIO`.
#[derive(Debug)]
pub struct Responder {
    unique: u64,
    opcode: Opcode,
    started: Instant,
    stats: Arc<Stats>,
    route: Route,
}

/// The way an answer takes.
#[derive(Debug)]
enum Route {
    Device(Arc<Channel>),
    Ring(Ticket),
    /// Answered, or without an answer by nature.
    Done,
}

thread_local! {
    /// Bytes on their way out; kept, so that reads allocate nothing.
    static OUTGOING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Responder {
    /// Answers the request of `header` over the device.
    pub(crate) fn by_device(channel: &Arc<Channel>, header: &InHeader, stats: &Arc<Stats>) -> Self {
        let has_reply = opcode_of(header).has_reply();
        Self::new(header, stats, if has_reply { Route::Device(Arc::clone(channel)) } else { Route::Done })
    }

    /// Answers over a ring, whose entry waits for it even when the opcode has no answer.
    pub(crate) fn by_ring(ticket: Ticket, header: &InHeader, stats: &Arc<Stats>) -> Self {
        Self::new(header, stats, Route::Ring(ticket))
    }

    fn new(header: &InHeader, stats: &Arc<Stats>, route: Route) -> Self {
        let (unique, opcode) = (header.unique, opcode_of(header));
        Self { unique, opcode, started: Instant::now(), stats: Arc::clone(stats), route }
    }

    /// Returns the number of the request, by which [`Interrupts`](crate::interrupts::Interrupts) know it.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// Returns what is being answered.
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// Answers that it failed.
    pub fn error(mut self, errno: Errno) {
        self.send(-errno.raw_os_error(), &[]);
    }

    /// Answers that it is done.
    pub fn empty(mut self) {
        self.send(0, &[]);
    }

    /// Ends a request that has no answer, such as FORGET.
    pub fn none(mut self) {
        if let Route::Ring(ticket) = std::mem::replace(&mut self.route, Route::Done) {
            ticket.send(0, &[]);
        }
        self.stats.note(self.opcode, self.started.elapsed(), false);
    }

    /// Answers that it is done, or why not.
    pub fn done(self, result: Result<(), Errno>) {
        match result {
            Ok(()) => self.empty(),
            Err(errno) => self.error(errno),
        }
    }

    /// Answers with bytes.
    pub fn bytes(mut self, bytes: &[u8]) {
        self.send(0, &[bytes]);
    }

    /// Answers with a structure.
    pub fn structure<T: IntoBytes + Immutable>(mut self, value: &T) {
        self.send(0, &[value.as_bytes()]);
    }

    /// Answers CREATE and TMPFILE.
    pub fn created(mut self, entry: &EntryOut, open: &OpenOut) {
        self.send(0, &[entry.as_bytes(), open.as_bytes()]);
    }

    /// Answers WRITE and COPY_FILE_RANGE.
    pub fn written(self, len_bytes: usize) {
        self.structure(&WriteOut { size: u32::try_from(len_bytes).unwrap_or(u32::MAX), padding: 0 });
    }

    /// Answers IOCTL, which returns 0 and these bytes.
    pub fn ioctl(mut self, bytes: &[u8]) {
        let head = IoctlOut { result: 0, flags: 0, in_iovs: 0, out_iovs: 0 };
        self.send(0, &[head.as_bytes(), bytes]);
    }

    /// Answers LSEEK.
    pub fn offset(self, offset: u64) {
        self.structure(&LSeekOut { offset });
    }

    /// Answers GETXATTR and LISTXATTR, which offer room for `size` bytes, or none to learn the length.
    pub fn sized(self, size: u32, bytes: &[u8]) {
        if size == 0 {
            let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.structure(&GetXattrOut { size, padding: 0 });
        } else if (size as usize) < bytes.len() {
            self.error(Errno::RANGE);
        } else {
            self.bytes(bytes);
        }
    }

    /// Answers with as many bytes as `fill` says it wrote to the beginning of a buffer of `len_bytes`.
    pub fn fill(mut self, len_bytes: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) {
        if let Route::Ring(ticket) = &mut self.route
            && let Some(slot) = ticket.slot_mut()
        {
            let buffer = slot.payload_mut(len_bytes);
            let room_len_bytes = buffer.len();
            return match fill(buffer) {
                Ok(count) => self.send_placed(count.min(room_len_bytes)),
                Err(errno) => self.send(-errno.raw_os_error(), &[]),
            };
        }
        OUTGOING.with_borrow_mut(|buffer| {
            if buffer.len() < len_bytes {
                buffer.resize(len_bytes, 0);
            }
            match fill(&mut buffer[..len_bytes]) {
                Ok(count) => self.send(0, &[&buffer[..count.min(len_bytes)]]),
                Err(errno) => self.send(-errno.raw_os_error(), &[]),
            }
        });
    }

    /// Answers with bytes that are in the payload of the ring's entry.
    fn send_placed(&mut self, len_bytes: usize) {
        self.stats.note(self.opcode, self.started.elapsed(), false);
        if let Route::Ring(ticket) = std::mem::replace(&mut self.route, Route::Done) {
            ticket.send_placed(len_bytes);
        }
    }

    fn send(&mut self, error: i32, parts: &[&[u8]]) {
        let route = std::mem::replace(&mut self.route, Route::Done);
        if !matches!(route, Route::Done) {
            // Before the answer, which hands the CPU over to the caller.
            self.stats.note(self.opcode, self.started.elapsed(), error != 0);
        }
        match route {
            Route::Device(channel) => send_by_device(&channel, self.unique, error, parts),
            Route::Ring(ticket) => ticket.send(error, parts),
            Route::Done => {}
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if matches!(self.route, Route::Done) {
            return;
        }
        warn!(unique = self.unique, opcode = self.opcode.as_str(), "a request was dropped unanswered");
        self.send(-Errno::IO.raw_os_error(), &[]);
    }
}

/// An opcode nobody knows counts as `ioctl`, for the kernel waits for an answer to that too.
fn opcode_of(header: &InHeader) -> Opcode {
    Opcode::from_number(header.opcode).unwrap_or(Opcode::IoCtl)
}

/// Most parts an answer has: a header and the two structures of CREATE.
const PARTS_MAX: usize = 3;

fn send_by_device(channel: &Channel, unique: u64, error: i32, parts: &[&[u8]]) {
    let len_bytes = size_of::<OutHeader>() + parts.iter().map(|it| it.len()).sum::<usize>();
    let header = OutHeader { len: u32::try_from(len_bytes).unwrap_or(u32::MAX), error, unique };
    let mut slices = [IoSlice::new(&[]); PARTS_MAX];
    slices[0] = IoSlice::new(header.as_bytes());
    for (slice, part) in slices[1..].iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let slices = &slices[..=parts.len().min(PARTS_MAX - 1)];
    match answering(|| rustix::io::writev(channel, slices)) {
        Ok(_) => (),
        // The caller was killed, or the file system is gone.
        Err(errno @ (Errno::NOENT | Errno::NODEV)) => debug!(%errno, unique, "nobody waits for this answer"),
        Err(errno) => warn!(%errno, unique, len_bytes, "the kernel refuses an answer"),
    }
}
