//! A connection to the kernel: INIT, then requests until the file system is unmounted.

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use tracing::{debug, warn};

use crate::abi::READ_BUFFER_LEN_BYTES_MIN;
use crate::abi::flags::InitFlags;
use crate::abi::requests::InHeader;
use crate::device::Channel;
use crate::dispatch::Dispatcher;
use crate::follow::Follow;
use crate::init::{Agreed, InitError, Offer, Wanted, settle};
use crate::interrupts::Interrupts;
use crate::notify::Notifier;
use crate::reply::Responder;
use crate::request::{Operation, Parts, Request, parse_header};
use crate::stats::Stats;
use crate::transport::{InUse, Transport, WhyDevice, objection};
use crate::uring::{self, Rings, RunningRings};

/// The handling of one request, put off.
pub type Deferred = Box<dyn FnOnce(&dyn Handler) + Send>;

/// What a file system does with requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request` by `responder`, now or later, from whatever thread.
    ///
    /// The thread that calls takes no further request until this returns, so what takes long
    /// belongs into another thread. INTERRUPT never comes here: see [`Interrupts`].
    fn handle(&self, request: &Request<'_>, responder: Responder);

    /// Whether [`Handler::handle`] would have to wait before it takes a request.
    fn is_closed(&self) -> bool {
        false
    }

    /// Runs `job`, which handles a request, in another thread that may wait for that.
    fn defer(&self, job: Deferred);
}

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The device cannot be read or written.
    #[error("the FUSE device fails: {0}")]
    Device(Errno),
    /// What came first was no INIT.
    #[error("the kernel did not begin with INIT")]
    NoInit,
    /// Kernel and server have no version in common.
    #[error(transparent)]
    Init(#[from] InitError),
    /// io_uring was asked for and cannot be had.
    #[error("no io_uring: {0}")]
    NoIoUring(WhyDevice),
    /// A ring's thread could not go on, and the requests of its CPU wait for nobody.
    #[error("a ring fails: {0}")]
    Ring(Errno),
    /// A thread is not to be had.
    #[error("cannot start a serving thread: {0}")]
    Thread(io::Error),
}

impl SessionError {
    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Device(errno) | Self::Ring(errno) => *errno,
            Self::NoIoUring(_) => Errno::OPNOTSUPP,
            Self::NoInit | Self::Init(_) => Errno::PROTO,
            Self::Thread(error) => Errno::from_io_error(error).unwrap_or(Errno::AGAIN),
        }
    }
}

/// A mounted connection on which kernel and server agree how to talk.
#[derive(Debug)]
pub struct Session {
    channel: Arc<Channel>,
    agreed: Agreed,
    dispatcher: Dispatcher,
    rings: Option<RunningRings>,
    in_use: InUse,
}

impl Session {
    /// Reads INIT from a device that was just mounted, answers it, and sets up `transport`.
    ///
    /// `wanted` learns what the kernel offers, and may choose by it.
    ///
    /// With io_uring threads exist from here on, so a process that forks does so before.
    ///
    /// # Errors
    ///
    /// [`SessionError::Init`] for kernels before 4.20; [`SessionError::NoIoUring`] when nothing else
    /// is wanted; [`SessionError::Device`].
    pub fn open(
        channel: Channel,
        wanted: impl FnOnce(&Offer) -> Wanted,
        transport: Transport,
    ) -> Result<Self, SessionError> {
        Self::open_with(channel, wanted, transport, make_rings)
    }

    fn open_with(
        channel: Channel,
        wanted: impl FnOnce(&Offer) -> Wanted,
        transport: Transport,
        make_rings: impl FnOnce(&Offer, &Wanted, Transport) -> Result<Rings, WhyDevice>,
    ) -> Result<Self, SessionError> {
        let channel = Arc::new(channel);
        let stats = Arc::new(Stats::default());
        let mut buffer = vec![0; READ_BUFFER_LEN_BYTES_MIN];
        let len_bytes = read(&channel, &mut buffer)?.ok_or(SessionError::Device(Errno::NODEV))?;
        let (header, rest) = parse_header(&buffer[..len_bytes]).map_err(|_| SessionError::NoInit)?;
        let responder = Responder::by_device(&channel, &header, &stats);
        let offer = match read_offer(&header, rest) {
            Ok(offer) => offer,
            Err(error) => {
                responder.error(Errno::PROTO);
                return Err(error);
            }
        };
        // Rings are made before the flag is agreed on: afterwards the kernel waits for them.
        let mut wanted = wanted(&offer);
        let rings = make_rings(&offer, &wanted, transport);
        if let (Err(why), Transport::IoUring) = (&rings, transport) {
            responder.error(Errno::OPNOTSUPP);
            return Err(SessionError::NoIoUring(*why));
        }
        wanted.flags.set(InitFlags::OVER_IO_URING, rings.is_ok());
        let (agreed, reply) = settle(&offer, &wanted);
        responder.structure(&reply);
        let dispatcher = Dispatcher::new(agreed.flags.contains(InitFlags::SETXATTR_EXT), &stats);
        let started = rings.and_then(|it| start_rings(it, &channel, &dispatcher));
        if let (Err(why), Transport::IoUring) = (&started, transport) {
            return Err(SessionError::NoIoUring(*why));
        }
        Self::with(channel, agreed, dispatcher, started, wanted.ring_depth)
    }

    fn with(
        channel: Arc<Channel>,
        mut agreed: Agreed,
        dispatcher: Dispatcher,
        rings: Result<RunningRings, WhyDevice>,
        depth: u16,
    ) -> Result<Self, SessionError> {
        let (rings, in_use) = match rings {
            Ok(rings) => {
                let in_use = InUse::IoUring { queues: rings.queues(), depth: depth.max(1) };
                (Some(rings), in_use)
            }
            Err(why) => {
                if agreed.flags.contains(InitFlags::OVER_IO_URING) {
                    uring::give_up(&channel).map_err(SessionError::Ring)?;
                    agreed.flags.remove(InitFlags::OVER_IO_URING);
                }
                (None, InUse::Device(why))
            }
        };
        debug!(minor = agreed.minor, flags = ?agreed.flags, %in_use, "agreed with the kernel");
        Ok(Self { channel, agreed, dispatcher, rings, in_use })
    }

    /// Returns what is in force.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Returns the connection, on which backing files are registered.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Returns what tells the kernel that something is outdated.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(&self.channel, self.agreed)
    }

    /// Returns which way requests take, and why not another.
    pub fn in_use(&self) -> InUse {
        self.in_use
    }

    /// Returns where a handler registers requests that take long, to hear of signals.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        self.dispatcher.interrupts()
    }

    /// Returns the counts and latencies of all requests.
    pub fn stats(&self) -> &Arc<Stats> {
        self.dispatcher.stats()
    }

    /// Serves until the file system is unmounted; over the device with `readers` threads.
    ///
    /// # Errors
    ///
    /// [`SessionError::Device`] when the conversation broke, [`SessionError::Ring`];
    /// [`SessionError::Thread`].
    pub fn run(mut self, handler: &Arc<impl Handler>, readers: usize) -> Result<(), SessionError> {
        match self.rings.take() {
            Some(rings) => {
                let handler: Arc<dyn Handler> = Arc::clone(handler) as _;
                self.run_rings(rings, &handler)
            }
            None => self.run_readers(handler, readers),
        }
    }

    /// Serves what the rings bring, and here what still comes over the device.
    fn run_rings(&self, mut rings: RunningRings, handler: &Arc<dyn Handler>) -> Result<(), SessionError> {
        rings.serve(handler);
        let reader = self.reader(Arc::clone(&self.channel));
        let mut buffer = reader.buffer();
        while rings.wait_for_device(&self.channel).map_err(SessionError::Device)? {
            if reader.serve_one(&**handler, &mut buffer)?.is_none() {
                return rings.drain().map_err(SessionError::Ring);
            }
        }
        // One thread failed; the others are abandoned, and closing the device ends the file system.
        rings.abandon().map_err(SessionError::Ring)
    }

    fn run_readers(&self, handler: &Arc<impl Handler>, readers: usize) -> Result<(), SessionError> {
        let mut threads = Vec::new();
        for number in 1..readers {
            let channel = match self.channel.another() {
                Ok(channel) => Arc::new(channel),
                Err(errno) => {
                    debug!(%errno, "readers share a descriptor");
                    Arc::clone(&self.channel)
                }
            };
            let reader = self.reader(channel);
            let handler = Arc::clone(handler);
            let thread = thread::Builder::new()
                .name(format!("aufs-reader-{number}"))
                .spawn(move || reader.serve(&*handler))
                .map_err(SessionError::Thread)?;
            threads.push(thread);
        }
        let mut outcome = self.reader(Arc::clone(&self.channel)).serve(&**handler);
        for thread in threads {
            match thread.join() {
                Ok(ended) => outcome = outcome.and(ended),
                Err(_) => warn!("a reading thread panicked"),
            }
        }
        outcome
    }

    fn reader(&self, channel: Arc<Channel>) -> Reader {
        let request_len_bytes_max = self.agreed.request_len_bytes_max as usize;
        Reader { channel, request_len_bytes_max, dispatcher: self.dispatcher.clone() }
    }
}

/// Reads the kernel's INIT.
fn read_offer(header: &InHeader, rest: &[u8]) -> Result<Offer, SessionError> {
    match Request::parse(header, Parts::Joined(rest), false) {
        Ok(Request { operation: Operation::Init(init), .. }) => Ok(Offer::of(&init)?),
        _ => Err(SessionError::NoInit),
    }
}

/// Makes rings, unless something speaks against them.
fn make_rings(offer: &Offer, wanted: &Wanted, transport: Transport) -> Result<Rings, WhyDevice> {
    if let Some(why) = objection(transport) {
        return Err(why);
    }
    if !offer.flags.contains(InitFlags::OVER_IO_URING) {
        return Err(WhyDevice::NotOffered);
    }
    let payload_len_bytes = (wanted.request_len_bytes_max as usize).max(READ_BUFFER_LEN_BYTES_MIN);
    Rings::new(wanted.ring_depth, payload_len_bytes).map_err(WhyDevice::NoRing)
}

fn start_rings(
    rings: Rings,
    channel: &Arc<Channel>,
    dispatcher: &Dispatcher,
) -> Result<RunningRings, WhyDevice> {
    rings.start(channel, dispatcher).map_err(WhyDevice::NotRegistered)
}

/// One thread's way of reading requests.
#[derive(Debug)]
struct Reader {
    channel: Arc<Channel>,
    request_len_bytes_max: usize,
    dispatcher: Dispatcher,
}

impl Reader {
    fn buffer(&self) -> Vec<u8> {
        vec![0; self.request_len_bytes_max + READ_BUFFER_LEN_BYTES_MIN]
    }

    fn serve(&self, handler: &dyn Handler) -> Result<(), SessionError> {
        let mut buffer = self.buffer();
        let mut follow = Follow::new();
        while let Some(caller) = self.serve_one(handler, &mut buffer)? {
            follow.note(caller);
        }
        Ok(())
    }

    /// Reads and dispatches one request, and returns the thread it came from, 0 for the kernel itself;
    /// none when the file system was unmounted.
    fn serve_one(&self, handler: &dyn Handler, buffer: &mut [u8]) -> Result<Option<u32>, SessionError> {
        let Some(len_bytes) = read(&self.channel, buffer)? else { return Ok(None) };
        match parse_header(&buffer[..len_bytes]) {
            Ok((header, rest)) => {
                self.dispatch(handler, &header, rest);
                Ok(Some(header.pid))
            }
            Err(_) => {
                warn!(len_bytes, "a request is cut short");
                Ok(Some(0))
            }
        }
    }

    fn dispatch(&self, handler: &dyn Handler, header: &InHeader, rest: &[u8]) {
        let responder = Responder::by_device(&self.channel, header, self.dispatcher.stats());
        // What is to be forgotten must still be heard while others wait.
        if handler.is_closed() && responder.opcode().has_reply() {
            let (dispatcher, header, rest) = (self.dispatcher.clone(), *header, rest.to_vec());
            return handler.defer(Box::new(move |handler| {
                dispatcher.dispatch(handler, &header, Parts::Joined(&rest), responder);
            }));
        }
        self.dispatcher.dispatch(handler, header, Parts::Joined(rest), responder);
    }
}

/// Reads one request; none when the file system was unmounted.
fn read(channel: &Channel, buffer: &mut [u8]) -> Result<Option<usize>, SessionError> {
    loop {
        match rustix::io::read(channel, &mut *buffer) {
            Ok(len_bytes) => return Ok(Some(len_bytes)),
            // ENOENT: the caller was killed before its request was read.
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => (),
            Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(None),
            Err(errno) => return Err(SessionError::Device(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use aufs_testkit::needs::{Need, missing};

    use super::*;
    use crate::toy::{BIG_LEN_BYTES, Mounted, Settings, Toy, missing_switch, wanted};

    /// Rings whose payloads are too short for the requests agreed on, which the kernel finds out at REGISTER.
    fn too_short(_: &Offer, _: &Wanted, _: Transport) -> Result<Rings, WhyDevice> {
        Rings::new(2, READ_BUFFER_LEN_BYTES_MIN).map_err(WhyDevice::NoRing)
    }

    #[test]
    fn fuse_a_queue_refused_after_init_leaves_the_device() {
        let switch = Need::Other { name: "uring", missing: missing_switch };
        if let Some(reason) = missing(&[Need::Root, Need::Fuse, switch]).unwrap() {
            return println!("skipped: {reason}");
        }
        let settings = Settings::set("Y", "0").unwrap();
        let (mounted, channel) = Mounted::new().unwrap();
        let opened = Session::open_with(channel, |_| wanted(), Transport::Auto, too_short);
        drop(settings);
        let session = opened.unwrap();
        assert_eq!(session.in_use(), InUse::Device(WhyDevice::NotRegistered(Errno::INVAL)));
        assert!(!session.agreed().flags.contains(InitFlags::OVER_IO_URING));
        let toy = Arc::new(Toy::new(session.interrupts()));
        let server = thread::spawn(move || session.run(&toy, 2));
        // The kernel waits for rings no longer, so this neither hangs nor fails.
        let big = std::fs::read(mounted.path().join("big")).unwrap();
        assert_eq!(big.len() as u64, BIG_LEN_BYTES);
        drop(mounted);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn fuse_io_uring_alone_is_refused_when_a_queue_is() {
        let switch = Need::Other { name: "uring", missing: missing_switch };
        if let Some(reason) = missing(&[Need::Root, Need::Fuse, switch]).unwrap() {
            return println!("skipped: {reason}");
        }
        let settings = Settings::set("Y", "0").unwrap();
        let (_mounted, channel) = Mounted::new().unwrap();
        let refused = Session::open_with(channel, |_| wanted(), Transport::IoUring, too_short);
        drop(settings);
        assert!(matches!(refused, Err(SessionError::NoIoUring(WhyDevice::NotRegistered(Errno::INVAL)))));
    }
}
