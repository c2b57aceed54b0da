//! Which branch file the kernel may read and write by itself for a number.
//!
//! While a number has a passthrough open, the kernel wants the same backing
//! file for each further open of that number. A file that is opened for
//! writing while its lower copy is open so gets a new number: the open is
//! answered `ESTALE`, the kernel walks the path again and finds it. A lower
//! backing file is never handed to a writer, which would write into the image.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aufs_union::{Union, UnionError};
use fuser::BackingId;

use crate::numbers::Numbered;

/// The open files of one number.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    backing: Option<Backing>,
    /// Passthrough opens, which bind the number to `backing`.
    opens: u32,
    /// Opens through the page cache, which the kernel never mixes with the others.
    cached_opens: u32,
}

/// A branch file the kernel knows.
#[derive(Debug)]
struct Backing {
    id: Arc<BackingId>,
    /// Version of the node when the file was registered.
    version: u64,
}

/// How an open is to be answered.
#[derive(Debug)]
pub(crate) enum Way {
    /// The kernel does the I/O on this file.
    Passthrough(Arc<BackingId>),
    /// The server does the I/O, the kernel caches.
    Cached,
    /// The path leads to another number now.
    Moved,
}

/// Backing files that stay registered without an open, all numbers together.
const IDLE_BACKINGS_MAX: usize = 4096;

static IDLE_BACKINGS: AtomicUsize = AtomicUsize::new(0);

impl Passing {
    /// Whether the kernel reads a file that is no longer the node's.
    fn is_bound_elsewhere(&self, version: u64) -> bool {
        self.opens != 0 && self.backing.as_ref().is_some_and(|it| it.version != version)
    }

    /// Decides how to answer an open; the file of a writer must be copied up already.
    ///
    /// # Errors
    ///
    /// As [`Union::open_path`].
    pub(crate) fn open(
        &mut self,
        union: &Union,
        numbered: &Numbered,
        is_writer: bool,
        register: impl FnOnce(&File) -> std::io::Result<BackingId>,
    ) -> Result<Way, UnionError> {
        let node = &numbered.node;
        let version = node.version();
        if self.is_bound_elsewhere(version) && (is_writer || node.has_diverged()) {
            return Ok(Way::Moved);
        }
        if self.cached_opens != 0 {
            self.count(numbered, is_writer, false);
            return Ok(Way::Cached);
        }
        let known = self.backing.as_ref().filter(|it| it.version == version || self.opens != 0);
        let id = match known {
            Some(backing) => Arc::clone(&backing.id),
            None => {
                let (file, _) = union.open_path(node)?;
                match register(&file) {
                    Ok(id) => Arc::new(id),
                    Err(error) => {
                        tracing::debug!(%error, "no passthrough for this file");
                        self.count(numbered, is_writer, false);
                        return Ok(Way::Cached);
                    }
                }
            }
        };
        if known.is_none() {
            self.set_backing(Some(Backing { id: Arc::clone(&id), version }));
        }
        self.count(numbered, is_writer, true);
        Ok(Way::Passthrough(id))
    }

    /// Counts a file the server just created as opened for writing.
    pub(crate) fn created(&mut self, numbered: &Numbered, id: &Arc<BackingId>, version: u64) {
        self.set_backing(Some(Backing { id: Arc::clone(id), version }));
        self.count(numbered, true, true);
    }

    fn count(&mut self, numbered: &Numbered, is_writer: bool, is_passthrough: bool) {
        *(if is_passthrough { &mut self.opens } else { &mut self.cached_opens }) += 1;
        numbered.writers.fetch_add(u32::from(is_writer), Ordering::Relaxed);
    }

    /// Takes back what an open counted.
    pub(crate) fn release(&mut self, numbered: &Numbered, is_writer: bool, is_passthrough: bool) {
        let opens = if is_passthrough { &mut self.opens } else { &mut self.cached_opens };
        *opens = opens.saturating_sub(1);
        numbered.writers.fetch_sub(u32::from(is_writer), Ordering::Relaxed);
        if self.opens == 0 && IDLE_BACKINGS_MAX < IDLE_BACKINGS.load(Ordering::Relaxed) {
            self.set_backing(None);
        }
    }

    fn set_backing(&mut self, backing: Option<Backing>) {
        match (&self.backing, &backing) {
            (None, Some(_)) => {
                IDLE_BACKINGS.fetch_add(1, Ordering::Relaxed);
            }
            (Some(_), None) => {
                IDLE_BACKINGS.fetch_sub(1, Ordering::Relaxed);
            }
            _ => (),
        }
        self.backing = backing;
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.set_backing(None);
    }
}
