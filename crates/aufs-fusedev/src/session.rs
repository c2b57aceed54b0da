//! A connection to the kernel: INIT, then requests until the file system is unmounted.

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use tracing::{debug, warn};

use crate::abi::READ_BUFFER_LEN_BYTES_MIN;
use crate::abi::flags::InitFlags;
use crate::abi::opcode::Opcode;
use crate::device::Channel;
use crate::init::{Agreed, InitError, Offer, Wanted, settle};
use crate::notify::Notifier;
use crate::reply::Responder;
use crate::request::{Operation, ParseError, Parts, Request, parse_header};
use crate::stats::Stats;

/// What a file system does with requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request` by `responder`, now or later, from whatever thread.
    ///
    /// The thread that calls reads no further request until this returns.
    fn handle(&self, request: &Request<'_>, responder: Responder);
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
    /// A thread is not to be had.
    #[error("cannot start a serving thread: {0}")]
    Thread(io::Error),
}

impl SessionError {
    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Device(errno) => *errno,
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
    stats: Arc<Stats>,
}

impl Session {
    /// Reads INIT from a device that was just mounted, and answers it.
    ///
    /// # Errors
    ///
    /// [`SessionError::Init`] for kernels before 4.20; [`SessionError::Device`].
    pub fn open(channel: Channel, wanted: &Wanted) -> Result<Self, SessionError> {
        let channel = Arc::new(channel);
        let stats = Arc::new(Stats::default());
        let mut buffer = vec![0; READ_BUFFER_LEN_BYTES_MIN];
        let len_bytes = read(&channel, &mut buffer)?.ok_or(SessionError::Device(Errno::NODEV))?;
        let (header, rest) = parse_header(&buffer[..len_bytes]).map_err(|_| SessionError::NoInit)?;
        let request =
            Request::parse(&header, Parts::Joined(rest), false).map_err(|_| SessionError::NoInit)?;
        let responder = Responder::by_device(&channel, header.unique, Opcode::Init, &stats);
        let Operation::Init(init) = request.operation else {
            responder.error(Errno::PROTO);
            return Err(SessionError::NoInit);
        };
        let offer = match Offer::of(&init) {
            Ok(offer) => offer,
            Err(error) => {
                responder.error(Errno::PROTO);
                return Err(error.into());
            }
        };
        let (agreed, reply) = settle(&offer, wanted);
        responder.structure(&reply);
        debug!(minor = agreed.minor, flags = ?agreed.flags, "agreed with the kernel");
        Ok(Self { channel, agreed, stats })
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

    /// Returns the counts and latencies of all requests.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Serves with `readers` threads until the file system is unmounted.
    ///
    /// # Errors
    ///
    /// [`SessionError::Device`] when the conversation broke; [`SessionError::Thread`].
    pub fn run(self, handler: &Arc<impl Handler>, readers: usize) -> Result<(), SessionError> {
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
        Reader { channel, agreed: self.agreed, stats: Arc::clone(&self.stats) }
    }
}

/// One thread's way of reading requests.
#[derive(Debug)]
struct Reader {
    channel: Arc<Channel>,
    agreed: Agreed,
    stats: Arc<Stats>,
}

impl Reader {
    fn serve(&self, handler: &impl Handler) -> Result<(), SessionError> {
        let len_bytes = self.agreed.request_len_bytes_max as usize + READ_BUFFER_LEN_BYTES_MIN;
        let mut buffer = vec![0; len_bytes];
        while let Some(len_bytes) = read(&self.channel, &mut buffer)? {
            self.dispatch(handler, &buffer[..len_bytes]);
        }
        Ok(())
    }

    fn dispatch(&self, handler: &impl Handler, bytes: &[u8]) {
        let Ok((header, rest)) = parse_header(bytes) else {
            return warn!(len_bytes = bytes.len(), "a request is cut short");
        };
        let opcode = Opcode::from_number(header.opcode);
        // Without a known opcode the kernel still waits for an answer.
        let responder =
            Responder::by_device(&self.channel, header.unique, opcode.unwrap_or(Opcode::IoCtl), &self.stats);
        let long_setxattr = self.agreed.flags.contains(InitFlags::SETXATTR_EXT);
        match Request::parse(&header, Parts::Joined(rest), long_setxattr) {
            Ok(request) => handler.handle(&request, responder),
            Err(ParseError::UnknownOpcode(_)) => responder.error(Errno::NOSYS),
            Err(error) => {
                warn!(%error, "a request is not understood");
                responder.error(Errno::IO);
            }
        }
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
