//! Which way requests and answers take.

use std::fmt;

use rustix::io::Errno;

/// Where the kernel says whether FUSE may use io_uring; only an administrator changes it.
const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// Which way a server would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// io_uring where it can be had, else the device.
    #[default]
    Auto,
    /// The device.
    Device,
    /// io_uring, or an error that says why it cannot be had.
    IoUring,
}

/// Which way is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// The device, and why not io_uring.
    Device(WhyDevice),
    /// io_uring.
    IoUring {
        /// Queues: one for each CPU there may be.
        queues: usize,
        /// Requests of a queue that can be on their way at the same time.
        depth: u16,
    },
}

/// Why io_uring is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyDevice {
    /// The server asked for the device.
    #[error("the device was asked for")]
    Chosen,
    /// Before Linux 6.14, or built without it.
    #[error("this kernel has no FUSE over io_uring: {SWITCH}: {0}")]
    NoSwitch(Errno),
    /// The administrator did not allow it.
    #[error("FUSE over io_uring is switched off: {SWITCH} is N")]
    SwitchedOff,
    /// Rings cannot be made: `kernel.io_uring_disabled`, seccomp, too little memory.
    #[error("io_uring cannot be used: {0}")]
    NoRing(Errno),
    /// INIT came without the flag.
    #[error("the kernel does not offer FUSE over io_uring on this mount")]
    NotOffered,
    /// The kernel refused a queue after both sides had agreed.
    #[error("the kernel refused a queue: {0}")]
    NotRegistered(Errno),
}

impl fmt::Display for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(why) => write!(formatter, "device ({why})"),
            Self::IoUring { queues, depth } => write!(formatter, "io_uring ({queues} queues of {depth})"),
        }
    }
}

/// Frees the calling thread from the CPU of the thread that started it.
///
/// Threads that serve rings are bound to a CPU, and whatever they start inherits that: a worker
/// calls this first, or all workers may share one CPU.
pub fn run_on_any_cpu() {
    if let Err(errno) = crate::cpus::unpin() {
        tracing::debug!(%errno, "a worker stays bound to a CPU");
    }
}

/// Finds what speaks against io_uring before the kernel is asked.
pub(crate) fn objection(transport: Transport) -> Option<WhyDevice> {
    if transport == Transport::Device {
        return Some(WhyDevice::Chosen);
    }
    match std::fs::read_to_string(SWITCH) {
        Ok(text) if text.trim() == "Y" => None,
        Ok(_) => Some(WhyDevice::SwitchedOff),
        Err(error) => Some(WhyDevice::NoSwitch(aufs_host::errno_of(error))),
    }
}
