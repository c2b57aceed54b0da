//! The state behind the handlers: which nodes and files the kernel knows, and how data travels.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aufs_fusedev::abi::replies::EntryOut;
use aufs_fusedev::interrupts::Interrupts;
use aufs_fusedev::notify::Notifier;
use aufs_fusedev::request::Caller;
use aufs_fusedev::stats::Stats;
use aufs_fusedev::transport::InUse;
use aufs_union::attr::SetAttr;
use aufs_union::{Found, IsMember, Keep, Node, OpenFile, Union, UnionError};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustix::fs::FileType;
use rustix::io::Errno;
use tracing::debug;

use crate::attr::{Ttl, entry_out, errno_of};
use crate::copy_ups::CopyUps;
use crate::handles::{Handle, Handles};
use crate::numbers::{Numbered, Numbers};
use crate::opens::Backings;
use crate::options::{DataMode, ServeOptions};
use crate::recent::RecentFiles;
use crate::workers::Workers;

/// Longest read, write or listing that is ever agreed on.
pub(crate) const REQUEST_LEN_BYTES_MAX: u32 = 4 << 20;
/// Largest file, read or write that is dealt with at once.
const SHORT_LEN_BYTES: u64 = 64 << 10;
/// Threads for what takes long.
const WORKERS_MAX: usize = 16;

/// Forgotten nodes after which memory is given back: some 16 MB.
const FORGOTTEN_PER_ROUND: u64 = 1 << 16;

/// What all requests of a mount share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Who changes the branches has the union for itself; everybody else shares it.
    union: RwLock<Union>,
    pub(crate) numbers: Numbers,
    pub(crate) handles: Handles,
    pub(crate) recent: RecentFiles,
    pub(crate) workers: Workers,
    pub(crate) backings: Backings,
    /// The mode in use, never [`DataMode::Auto`].
    pub(crate) data: DataMode,
    /// Whether a request to flush is answered without flushing.
    pub(crate) is_volatile: bool,
    /// Whether extended attributes are not shown.
    pub(crate) no_xattrs: bool,
    /// How long names and attributes keep.
    pub(crate) ttl: Ttl,
    pub(crate) stats: Arc<Stats>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) copy_ups: CopyUps,
    pub(crate) about: About,
    pub(crate) notifier: Notifier,
    /// One change of branches at a time.
    pub(crate) changing: Mutex<()>,
    /// Whether somebody waits for the union, or has it, to change the branches.
    is_closed: AtomicBool,
    /// Nodes the kernel has forgotten.
    forgotten: AtomicU64,
}

/// What a mount talks by.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) backings: Backings,
    pub(crate) notifier: Notifier,
    pub(crate) stats: Arc<Stats>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) about: About,
}

/// What a mount tells of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// How requests travel.
    pub(crate) transport: InUse,
    /// Minor version of the protocol in force.
    pub(crate) minor: u32,
    /// When it was mounted.
    pub(crate) since: Instant,
}

impl Shared {
    pub(crate) fn new(union: Union, data: DataMode, options: &ServeOptions, wire: Wire) -> Self {
        let spare_max = spare_descriptors();
        Self {
            numbers: Numbers::new(union.root()),
            handles: Handles::new(spare_max),
            recent: RecentFiles::new(spare_max),
            workers: Workers::new(WORKERS_MAX),
            backings: wire.backings,
            data,
            is_volatile: options.volatile,
            no_xattrs: options.no_xattrs,
            ttl: if union.revalidates() { Ttl::NONE } else { Ttl::FOREVER },
            stats: wire.stats,
            interrupts: wire.interrupts,
            copy_ups: CopyUps::default(),
            about: wire.about,
            notifier: wire.notifier,
            changing: Mutex::default(),
            is_closed: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            union: RwLock::new(union),
        }
    }

    /// Returns the union.
    ///
    /// Does not wait for who waits to change it: each request has entered by then.
    pub(crate) fn union(&self) -> RwLockReadGuard<'_, Union> {
        self.union.read_recursive()
    }

    /// Keeps the branches as they are until the guard is dropped, for as long as a request takes.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, Union> {
        self.union.read()
    }

    /// Lets `act` change the union, once no request is at work; none when that takes longer than `patience`.
    pub(crate) fn alone<T>(&self, patience: Duration, act: impl FnOnce(&mut Union) -> T) -> Option<T> {
        self.is_closed.store(true, Ordering::Release);
        let result = self.union.try_write_for(patience).map(|mut union| act(&mut union));
        self.is_closed.store(false, Ordering::Release);
        result
    }

    /// Whether a request would have to wait for a change of the branches.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Runs a part of a request now, or on a worker when it `takes_long`.
    pub(crate) fn run(self: &Arc<Self>, takes_long: bool, job: impl FnOnce() + Send + 'static) {
        if !takes_long {
            return job();
        }
        let shared = Arc::clone(self);
        self.workers.run(true, move || {
            let _union = shared.enter();
            job();
        });
    }

    /// Whether the kernel does the I/O itself.
    pub(crate) fn passes(&self) -> bool {
        self.data == DataMode::Passthrough
    }

    pub(crate) fn node(&self, number: u64) -> Result<Numbered, Errno> {
        self.numbers.get(number).ok_or(Errno::STALE)
    }

    /// Returns how long attributes of `numbered` keep.
    pub(crate) fn attr_ttl(&self, numbered: &Numbered) -> Ttl {
        // Through a mapping the kernel writes without a word, and an outdated number must not linger.
        if numbered.has_writers() || !self.numbers.is_current(numbered) { Ttl::NONE } else { self.ttl }
    }

    /// Tells the kernel of a node, as the answer to whatever found or made it.
    pub(crate) fn tell(&self, found: &Found) -> EntryOut {
        let numbered = self.numbers.tell(&found.node, Self::moves_much(found.attr.len_bytes));
        entry_out(numbered.number, &found.attr, self.ttl, self.attr_ttl(&numbered))
    }

    /// As [`Shared::tell`], for a file that was made just now.
    pub(crate) fn tell_of_new(&self, found: &Found) -> EntryOut {
        let numbered = self.numbers.tell_of_new(&found.node);
        entry_out(numbered.number, &found.attr, self.ttl, self.ttl)
    }

    /// Makes the kernel ask again for the attributes of `number`.
    pub(crate) fn invalidate(&self, number: u64) {
        // The kernel answers ENOENT for what it forgot.
        if let Err(errno) = self.notifier.attributes(number) {
            debug!(%errno, number, "attributes not invalidated");
        }
    }

    /// Whether a change of a node copies so much first that others should not wait for it.
    pub(crate) fn copies_much(&self, numbered: &Numbered) -> bool {
        // Where blocks are shared no bytes are copied, and a worker would only cost its waking.
        numbered.is_long() && self.must_copy(&numbered.node) && !self.union().shares_blocks(&numbered.node)
    }

    /// Whether a change copies the file up first.
    pub(crate) fn must_copy(&self, node: &Arc<Node>) -> bool {
        node.file_type() == FileType::RegularFile && Some(node.branch()) != self.union().writable_branch()
    }

    /// As [`Shared::copies_much`], for what is shown under a name.
    pub(crate) fn copies_much_under(&self, dir: &Arc<Node>, name: &OsStr) -> bool {
        let takes_long = |it: &Found| self.must_copy(&it.node) && Self::moves_much(it.attr.len_bytes);
        matches!(self.union().lookup(dir, name), Ok(Some(found)) if takes_long(&found))
    }

    /// Whether so many bytes take long to move.
    pub(crate) fn moves_much(len_bytes: u64) -> bool {
        SHORT_LEN_BYTES < len_bytes
    }

    /// Cuts all bytes off, for the opening by a `writer` whose set-id bits are to end, if there is one.
    pub(crate) fn truncate(&self, node: &Arc<Node>, writer: Option<Caller>) -> Result<(), UnionError> {
        let change = SetAttr { len_bytes: Some(0), ..SetAttr::default() };
        let is_member = |gid| writer.is_some_and(|it| it.is_in_group(gid));
        let ends_set_id: Option<IsMember<'_>> = if writer.is_some() { Some(&is_member) } else { None };
        self.union().set_attributes_through(node, None, &change, ends_set_id).map(drop)
    }

    /// Takes the set-id bits away that a change by `caller` ends; comes before the change, so that changed
    /// bytes never run with them.
    pub(crate) fn clear_set_id(
        &self,
        node: &Arc<Node>,
        keep: Keep,
        caller: Caller,
    ) -> Result<(), UnionError> {
        self.union().clear_set_id(node, keep, &|gid| caller.is_in_group(gid))
    }

    pub(crate) fn handle(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        self.handles.get(number).ok_or(Errno::BADF)
    }

    /// Returns the open file a request means: by its handle, or without one by its node.
    pub(crate) fn file(&self, number: u64, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        let file = if handle == 0 {
            self.recent.get(&self.union(), &self.node(number)?)
        } else {
            self.handle(handle)?.file(&self.union())
        };
        file.map_err(|it| errno_of(&it))
    }

    /// Runs `act` on the node the kernel calls `number`.
    pub(crate) fn on_node<T>(
        &self,
        number: u64,
        act: impl FnOnce(&Arc<Node>) -> Result<T, UnionError>,
    ) -> Result<T, Errno> {
        act(&self.node(number)?.node).map_err(|it| errno_of(&it))
    }

    /// Runs `act` on the file a request means.
    pub(crate) fn on_file<T>(
        &self,
        number: u64,
        handle: u64,
        act: impl FnOnce(&OpenFile) -> Result<T, UnionError>,
    ) -> Result<T, Errno> {
        act(&*self.file(number, handle)?).map_err(|it| errno_of(&it))
    }

    pub(crate) fn forget(&self, number: u64, count: u64) {
        if self.numbers.forget(number, count)
            && (self.forgotten.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(FORGOTTEN_PER_ROUND)
        {
            self.workers.run(true, Union::give_memory_back);
        }
        if self.data == DataMode::NoOpen {
            self.recent.forget(number);
        }
    }
}

/// Descriptors that may be kept open only to save opening files again: an eighth of what the process may have.
fn spare_descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    usize::try_from(limit.current.unwrap_or(1 << 20) / 8).unwrap_or(usize::MAX)
}
