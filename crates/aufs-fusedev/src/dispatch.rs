//! From the bytes of a request to the handler, whichever way they came.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::io::Errno;
use tracing::{error, warn};

use crate::abi::requests::InHeader;
use crate::interrupts::Interrupts;
use crate::reply::Responder;
use crate::request::{Operation, ParseError, Parts, Request};
use crate::session::Handler;
use crate::stats::Stats;

/// What all threads that take requests share.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher {
    long_setxattr: bool,
    stats: Arc<Stats>,
    interrupts: Arc<Interrupts>,
}

impl Dispatcher {
    /// Dispatches requests of a connection on which SETXATTR_EXT was agreed, or not.
    pub(crate) fn new(long_setxattr: bool, stats: &Arc<Stats>) -> Self {
        Self { long_setxattr, stats: Arc::clone(stats), interrupts: Arc::default() }
    }

    /// Returns where requests are counted.
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Returns who wants to hear of signals.
    pub(crate) fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// Hands a request to `handler`, or answers what is not its business.
    pub(crate) fn dispatch(
        &self,
        handler: &dyn Handler,
        header: &InHeader,
        parts: Parts<'_>,
        responder: Responder,
    ) {
        match Request::parse(header, parts, self.long_setxattr) {
            Ok(Request { operation: Operation::Interrupt(interrupt), .. }) => {
                self.interrupts.raise(interrupt.unique);
                responder.none();
            }
            // A bug that strikes one request must not end the thread: all others of its queue would hang.
            Ok(request) => {
                let handled = catch_unwind(AssertUnwindSafe(|| handler.handle(&request, responder)));
                if handled.is_err() {
                    error!(opcode = header.opcode, unique = header.unique, "handling a request panicked");
                }
            }
            Err(ParseError::UnknownOpcode(_)) => responder.error(Errno::NOSYS),
            Err(error) => {
                warn!(%error, "a request is not understood");
                responder.error(Errno::IO);
            }
        }
    }
}
