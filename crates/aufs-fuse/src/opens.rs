//! The open files of one number, and which branch file the kernel may read and write by itself for it.
//!
//! While a number has a passthrough open, the kernel wants the same backing
//! file for each further open of that number. A file that is opened for
//! writing while its lower copy is open so gets a new number: the open is
//! answered `ESTALE`, the kernel walks the path again and finds it. A lower
//! backing file is never handed to a writer, which would write into the image.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use aufs_fusedev::device::{Backing, Channel};
use aufs_union::{Node, Union, UnionError};
use parking_lot::Mutex;

/// The open files of one number.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    passing: Mutex<Passing>,
    /// Opens for writing that bypass the server.
    writers: AtomicU32,
    /// Opens to be executed.
    executions: AtomicU32,
}

/// An open of a file that is being executed, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Execution(Arc<Opens>);

impl Execution {
    pub(crate) fn new(opens: &Arc<Opens>) -> Self {
        opens.executions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(opens))
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.0.executions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Passing {
    registered: Option<Registered>,
    /// Passthrough opens, which bind the number to `registered`.
    opens: u32,
    /// Opens through the page cache, which the kernel never mixes with the others.
    cached_opens: u32,
}

/// A branch file the kernel knows, kept for the next open.
#[derive(Debug)]
struct Registered {
    backing: Arc<Backing>,
    /// Version of the node when the file was registered.
    version: u64,
    /// How many are kept.
    count: Arc<AtomicUsize>,
}

impl Registered {
    fn new(backing: &Arc<Backing>, version: u64, backings: &Backings) -> Self {
        backings.count.fetch_add(1, Ordering::Relaxed);
        Self { backing: Arc::clone(backing), version, count: Arc::clone(&backings.count) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How an open is to be answered.
#[derive(Debug)]
pub(crate) enum Way {
    /// The kernel does the I/O on this file.
    Passthrough(Arc<Backing>),
    /// The server does the I/O, the kernel caches.
    Cached,
    /// The path leads to another number now.
    Moved,
}

/// Backing files that stay registered without an open, all numbers together.
const IDLE_MAX: usize = 4096;

/// Registered backing files of a mount, which share one budget.
#[derive(Debug)]
pub(crate) struct Backings {
    channel: Arc<Channel>,
    count: Arc<AtomicUsize>,
}

impl Backings {
    pub(crate) fn new(channel: &Arc<Channel>) -> Self {
        Self { channel: Arc::clone(channel), count: Arc::default() }
    }

    fn register(&self, file: &File) -> Option<Arc<Backing>> {
        match Backing::register(&self.channel, file) {
            Ok(backing) => Some(Arc::new(backing)),
            Err(errno) => {
                tracing::debug!(%errno, "no passthrough for this file");
                None
            }
        }
    }
}

impl Opens {
    /// Whether attributes may change without the kernel asking the server.
    pub(crate) fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Relaxed) != 0
    }

    /// Whether a program runs from the file, or ran a moment ago.
    pub(crate) fn are_executed(&self) -> bool {
        self.executions.load(Ordering::Relaxed) != 0
    }

    /// Decides how to answer an open of `node`; the file of a writer must be copied up already.
    ///
    /// `copy` is the node's file where it is open already. `is_current` tells whether the number still is the node's, and is asked under the lock.
    ///
    /// # Errors
    ///
    /// As [`Union::open_path`].
    pub(crate) fn open(
        &self,
        union: &Union,
        node: &Arc<Node>,
        backings: &Backings,
        is_writer: bool,
        copy: Option<&File>,
        is_current: impl FnOnce() -> bool,
    ) -> Result<Way, UnionError> {
        let mut passing = self.passing.lock();
        let version = node.version();
        let is_bound_elsewhere =
            passing.opens != 0 && passing.registered.as_ref().is_some_and(|it| it.version != version);
        if !is_current() || is_bound_elsewhere && (is_writer || node.has_diverged()) {
            return Ok(Way::Moved);
        }
        if passing.cached_opens != 0 {
            self.count(&mut passing, is_writer, false);
            return Ok(Way::Cached);
        }
        let known = passing.registered.as_ref().filter(|it| it.version == version || passing.opens != 0);
        let backing = match known {
            Some(registered) => Arc::clone(&registered.backing),
            None => {
                let registered = match copy {
                    Some(file) => backings.register(file),
                    None => backings.register(&union.open_path(node)?.0),
                };
                let Some(backing) = registered else {
                    self.count(&mut passing, is_writer, false);
                    return Ok(Way::Cached);
                };
                passing.registered = Some(Registered::new(&backing, version, backings));
                backing
            }
        };
        self.count(&mut passing, is_writer, true);
        Ok(Way::Passthrough(backing))
    }

    /// Counts a file that was just created and opened for writing; returns its backing file where there is one.
    pub(crate) fn created(&self, backings: &Backings, file: &File, version: u64) -> Option<Arc<Backing>> {
        let backing = backings.register(file);
        let mut passing = self.passing.lock();
        if let Some(backing) = &backing {
            passing.registered = Some(Registered::new(backing, version, backings));
        }
        self.count(&mut passing, backing.is_some(), backing.is_some());
        backing
    }

    fn count(&self, passing: &mut Passing, is_writer: bool, is_passthrough: bool) {
        *(if is_passthrough { &mut passing.opens } else { &mut passing.cached_opens }) += 1;
        self.writers.fetch_add(u32::from(is_writer), Ordering::Relaxed);
    }

    /// Takes back what an open counted.
    pub(crate) fn release(&self, backings: &Backings, is_writer: bool, is_passthrough: bool) {
        let mut passing = self.passing.lock();
        let opens = if is_passthrough { &mut passing.opens } else { &mut passing.cached_opens };
        *opens = opens.saturating_sub(1);
        self.writers.fetch_sub(u32::from(is_writer), Ordering::Relaxed);
        if passing.opens == 0 && IDLE_MAX < backings.count.load(Ordering::Relaxed) {
            passing.registered = None;
        }
    }
}
