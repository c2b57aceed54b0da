//! A bounded number of open directory handles, the coldest closed first.
//!
//! Each directory keeps its own handles; this clock only decides which to
//! close when there are too many. A handle used since the hand last passed is
//! spared once, so that busy directories keep theirs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use aufs_host::entry::open_directory;
use aufs_host::file_handle::FileHandle;
use parking_lot::Mutex;
use rustix::io::{self, Errno};
use rustix::process::{Resource, getrlimit};
use smallvec::SmallVec;
use tracing::debug;

use crate::branch::BranchIndex;
use crate::error::{Outcome, UnionErrorKind};
use crate::node::Node;
use crate::union::Union;
use crate::writable::OpenUnionError;

/// The hand's view of all handles that directories keep.
#[derive(Debug)]
pub(crate) struct HandleClock {
    queue: Mutex<VecDeque<(Weak<Node>, BranchIndex)>>,
    /// Handles that are open; fewer than the queue is long once directories were forgotten.
    open: Arc<AtomicUsize>,
    /// Most handles to keep; falls when descriptors run short, and comes back slowly.
    limit: AtomicUsize,
    limit_max: usize,
    /// Handles that were opened.
    noted: AtomicUsize,
    /// Whether closed directories are opened again by what the host calls them.
    by_file_handle: AtomicBool,
}

/// Counts a handle for as long as it is kept.
#[derive(Debug)]
pub(crate) struct OpenCount(Arc<AtomicUsize>);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Descriptors left to everything else: the server, drafts, a few files that programs have open.
const RESERVED: usize = 64;

/// Most handles that are kept, however many files the process may open.
const LIMIT_MAX: usize = 1 << 16;

/// Fewest handles that are kept, however short descriptors run.
const LIMIT_MIN: usize = 16;

/// Handles opened until one more may be kept again.
const NOTED_PER_RAISE: usize = 64;

/// Times that a call is repeated after handles were closed for it.
const ATTEMPTS: usize = 8;

/// Returns how many directory handles a union of so many branches may keep.
///
/// # Errors
///
/// [`OpenUnionError::TooManyBranches`] when hardly any would be left.
pub(crate) fn limit_for(branches: usize) -> Result<usize, OpenUnionError> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let needed = branches + RESERVED + LIMIT_MIN;
    if limit < needed {
        return Err(OpenUnionError::TooManyBranches { branches, needed, limit });
    }
    // As many again for the files that programs have open.
    Ok(((limit - branches - RESERVED) / 2).clamp(LIMIT_MIN, LIMIT_MAX))
}

impl HandleClock {
    pub(crate) fn new(limit: usize, by_file_handle: bool) -> Self {
        Self {
            queue: Mutex::default(),
            open: Arc::default(),
            limit: AtomicUsize::new(limit),
            limit_max: limit,
            noted: AtomicUsize::new(0),
            by_file_handle: AtomicBool::new(by_file_handle),
        }
    }

    /// Returns what leads back to a directory whose handle is about to be closed, where names would be a long way.
    fn host_name(&self, node: &Arc<Node>, fd: &OwnedFd) -> Option<FileHandle> {
        (node.is_below_top() && self.by_file_handle.load(Ordering::Relaxed))
            .then(|| FileHandle::of(fd).ok())
            .flatten()
    }

    /// Returns how many handles directories keep open.
    pub(crate) fn open_count(&self) -> u64 {
        self.open.load(Ordering::Relaxed) as u64
    }

    fn count(&self) -> OpenCount {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenCount(Arc::clone(&self.open))
    }

    /// Notes a new handle, and closes the coldest ones beyond the limit.
    fn note(&self, node: &Arc<Node>, branch: BranchIndex) {
        let mut queue = self.queue.lock();
        queue.push_back((Arc::downgrade(node), branch));
        let open = self.open.load(Ordering::Relaxed);
        if 2 * open + 64 < queue.len() {
            queue.retain(|(node, _)| node.strong_count() != 0);
        }
        let mut limit = self.limit.load(Ordering::Relaxed);
        let noted = self.noted.fetch_add(1, Ordering::Relaxed);
        if limit < self.limit_max && noted.is_multiple_of(NOTED_PER_RAISE) {
            limit += 1;
            self.limit.store(limit, Ordering::Relaxed);
        }
        self.close_down_to(&mut queue, limit);
    }

    fn close_down_to(&self, queue: &mut VecDeque<(Weak<Node>, BranchIndex)>, limit: usize) {
        let mut spared = 0;
        while limit < self.open.load(Ordering::Relaxed) && spared <= queue.len() {
            let Some((candidate, branch)) = queue.pop_front() else { return };
            match candidate.upgrade() {
                Some(node) if !node.release_handle(branch, |fd| self.host_name(&node, fd)) => {
                    spared += 1;
                    queue.push_back((candidate, branch));
                }
                _ => (),
            }
        }
    }

    /// Closes the handles of all directories on branches that `is_kept` refuses.
    pub(crate) fn keep(&self, is_kept: impl Fn(BranchIndex) -> bool) {
        self.queue.lock().retain(|(node, branch)| {
            let stays = is_kept(*branch);
            if let Some(node) = node.upgrade().filter(|_| !stays) {
                node.keep_handles(&is_kept);
            }
            stays
        });
    }

    /// Closes handles because the process may open no more files; false when there is nothing to close.
    fn make_room(&self) -> bool {
        let mut queue = self.queue.lock();
        let open = self.open.load(Ordering::Relaxed);
        let limit = (open / 2).max(LIMIT_MIN);
        if open <= limit {
            return false;
        }
        self.limit.fetch_min(limit, Ordering::Relaxed);
        debug!(limit, "descriptors run short, keeping fewer directory handles");
        self.close_down_to(&mut queue, limit);
        self.open.load(Ordering::Relaxed) < open
    }
}

/// A handle on one branch's part of a directory, perhaps just opened and not kept yet.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) is_new: bool,
}

impl Union {
    /// Returns a handle on `branch`'s part of the directory `node`, which is kept.
    pub(crate) fn dir_handle(&self, node: &Arc<Node>, branch: BranchIndex) -> Outcome<Arc<OwnedFd>> {
        let part = self.dir_part(node, branch)?;
        Ok(if part.is_new { self.keep_handle(node, branch, part.fd) } else { part.fd })
    }

    /// Returns a handle on `branch`'s part of the directory `node`, opened now if none is kept.
    pub(crate) fn dir_part(&self, node: &Arc<Node>, branch: BranchIndex) -> Outcome<Part> {
        // Up to the first that is open, and down again: trees may be deeper than a stack.
        let mut closed: SmallVec<[Arc<Node>; 2]> = SmallVec::new();
        let mut above: Option<(Arc<Node>, Arc<OwnedFd>)> = None;
        loop {
            let at = closed.last().unwrap_or(node);
            match self.part_below(at, branch, above.as_ref())? {
                Ok(part) if closed.is_empty() => return Ok(part),
                Ok(part) => {
                    let at = Arc::clone(at);
                    let fd = if part.is_new { self.keep_handle(&at, branch, part.fd) } else { part.fd };
                    above = Some((at, fd));
                    closed.pop();
                }
                Err(parent) => closed.push(parent),
            }
        }
    }

    /// As [`Union::dir_part`], where the directory above is open, as in `above` perhaps; else returns that directory.
    fn part_below(
        &self,
        node: &Arc<Node>,
        branch: BranchIndex,
        above: Option<&(Arc<Node>, Arc<OwnedFd>)>,
    ) -> Outcome<Result<Part, Arc<Node>>> {
        if let Some(fd) = self.open_handle(node, branch)? {
            return Ok(Ok(Part { fd, is_new: false }));
        }
        if let Some(fd) = self.reopen_closed(node, branch) {
            return Ok(Ok(Part { fd: Arc::new(fd), is_new: true }));
        }
        let spot = node.spot.read();
        if let Some(held) = spot.held() {
            let is_held = spot.branch() == branch;
            let fd = is_held.then(|| Arc::clone(held)).ok_or(UnionErrorKind::NotFound)?;
            return Ok(Ok(Part { fd, is_new: false }));
        }
        let name = spot.primary().ok_or(UnionErrorKind::NotFound)?;
        let parent = match above {
            Some((dir, fd)) if Arc::ptr_eq(dir, &name.dir) => Arc::clone(fd),
            _ => match self.open_handle(&name.dir, branch)? {
                Some(fd) => fd,
                None => return Ok(Err(Arc::clone(&name.dir))),
            },
        };
        let fd = self.with_room(|| open_directory(&parent, &name.name))?;
        Ok(Ok(Part { fd: Arc::new(fd), is_new: true }))
    }

    /// Returns the handle on `branch`'s part of `node` that is open, if there is one.
    fn open_handle(&self, node: &Arc<Node>, branch: BranchIndex) -> Outcome<Option<Arc<OwnedFd>>> {
        if node.id() == Node::ROOT_ID {
            return Ok(Some(Arc::clone(&self.branch(branch)?.root)));
        }
        Ok(node.handle(branch))
    }

    /// Opens a directory again by what the host calls it, if it was closed and that is possible.
    fn reopen_closed(&self, node: &Arc<Node>, branch: BranchIndex) -> Option<OwnedFd> {
        let handle = node.take_closed_handle(branch)?;
        let root = &self.branches.get(branch)?.root;
        match self.with_room(|| handle.open_directory(root)) {
            Ok(fd) => Some(fd),
            Err(errno) => {
                debug!(%errno, "a directory is opened by its names again");
                if matches!(errno, Errno::PERM | Errno::OPNOTSUPP | Errno::BADF) {
                    self.handle_clock.by_file_handle.store(false, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// Keeps a handle on `node` for later; returns the one to use, as another thread may have been faster.
    pub(crate) fn keep_handle(
        &self,
        node: &Arc<Node>,
        branch: BranchIndex,
        fd: Arc<OwnedFd>,
    ) -> Arc<OwnedFd> {
        let (fd, is_new) = node.keep_handle(branch, fd, || self.handle_clock.count());
        if is_new {
            self.handle_clock.note(node, branch);
        }
        fd
    }

    /// Calls `open`, and again after closing directory handles while the process has too many files open.
    pub(crate) fn with_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            match open() {
                Err(Errno::MFILE | Errno::NFILE) if self.handle_clock.make_room() => (),
                other => return other,
            }
        }
        open()
    }
}
