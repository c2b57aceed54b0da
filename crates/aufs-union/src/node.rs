//! Nodes: the entries of a union that somebody knows, and where each lies on the branches.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aufs_host::file_handle::FileHandle;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::FileType;

use crate::branch::BranchIndex;
use crate::error::{Outcome, UnionErrorKind};
use crate::file_name::FileName;
use crate::handles::OpenCount;
use crate::index::Index;
use crate::spot::{Name, Spot, SpotLock};

/// One entry of the union, whatever its names and whichever branch holds it.
///
/// Locks, in the order in which they may be taken: `copying`, then directory
/// states (an ancestor before its descendant), then one `spot`.
#[derive(Debug)]
pub struct Node {
    id: u64,
    ino: u64,
    file_type: FileType,
    /// Where the node lies; held while a system call relies on it.
    pub(crate) spot: SpotLock,
    /// Held while the node is copied up, so that two writers make one copy.
    pub(crate) copying: Mutex<()>,
    /// Grows whenever the node moves to another branch.
    version: AtomicU32,
    /// Whether its bytes differ from those it had before it was copied up.
    diverged: AtomicBool,
    server_tag: AtomicU64,
    dir: Option<Box<DirPart>>,
}

/// What only directories have.
#[derive(Debug)]
struct DirPart {
    state: Mutex<DirState>,
    /// Names of nodes that nobody uses any more, to be forgotten by the next who locks the directory.
    dropped: Mutex<Vec<FileName>>,
    handles: Mutex<Vec<HandleSlot>>,
}

/// What a directory shows; its lock is the lock of the directory.
#[derive(Debug, Default)]
pub(crate) struct DirState {
    /// The branches merged here, topmost first.
    pub(crate) branches: Vec<BranchIndex>,
    /// Whether those that an opaque part hides are gone from `branches`.
    pub(crate) is_cut: bool,
    /// The names known here; with all that the branches hold once `is_indexed`.
    pub(crate) index: Index,
    /// Whether the branches were read, once that has paid.
    pub(crate) is_indexed: bool,
    /// Lookups answered without an index.
    pub(crate) probes: u32,
    /// Whether the directory was removed.
    pub(crate) gone: bool,
    /// Whether new entries get a default ACL; none until asked.
    pub(crate) default_acl: Option<bool>,
    /// Whether new entries get the group of the directory (setgid); none until asked.
    pub(crate) passes_group: Option<bool>,
}

impl DirState {
    /// Forgets what the branches hold.
    pub(crate) fn forget_index(&mut self) {
        if std::mem::take(&mut self.is_indexed) {
            self.index.clear_facts();
        }
    }

    /// Notes that the directory shows these branches now, all of them asked.
    pub(crate) fn restack(&mut self, branches: Vec<BranchIndex>) {
        self.branches = branches;
        self.is_cut = true;
        self.is_indexed = false;
        self.index.forget_facts();
        self.default_acl = None;
        self.passes_group = None;
    }

    /// Notes that the directory was removed.
    pub(crate) fn remove(&mut self) {
        self.gone = true;
        self.forget_index();
        self.branches.clear();
    }
}

impl DirPart {
    fn forget_dropped(&self, state: &mut DirState) {
        for name in std::mem::take(&mut *self.dropped.lock()) {
            state.index.disown_dropped(&name);
        }
    }
}

impl Drop for Node {
    /// Gives back the room that the directories of its names keep for it.
    ///
    /// A directory that nobody else uses goes along, in a loop: trees may be deeper than a stack.
    fn drop(&mut self) {
        let mut left = self.spot.get_mut().take_names();
        while let Some(Name { dir, name, .. }) = left.pop() {
            if let Some(part) = &dir.dir {
                part.dropped.lock().push(name);
                // Whoever holds the lock, and that may be this thread, may also be the one who lets go of the node.
                if let Some(mut state) = part.state.try_lock() {
                    part.forget_dropped(&mut state);
                }
            }
            if let Some(mut last) = Arc::into_inner(dir) {
                left.append(&mut last.spot.get_mut().take_names());
            }
        }
    }
}

/// The way to one branch's part of a directory.
#[derive(Debug)]
struct HandleSlot {
    branch: BranchIndex,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Open {
        fd: Arc<OwnedFd>,
        _count: OpenCount,
        /// Used since the clock last came by; see [`crate::handles`].
        used: AtomicBool,
    },
    /// Closed for want of descriptors, but the host knows the directory by this.
    Closed(Box<FileHandle>),
}

impl Node {
    pub(crate) fn new(
        id: u64,
        ino: u64,
        file_type: FileType,
        spot: Spot,
        branches: Vec<BranchIndex>,
    ) -> Self {
        let dir = (file_type == FileType::Directory).then(|| {
            let state = Mutex::new(DirState { branches, is_cut: true, ..DirState::default() });
            Box::new(DirPart { state, dropped: Mutex::default(), handles: Mutex::default() })
        });
        Self {
            id,
            ino,
            file_type,
            spot: SpotLock::new(spot),
            copying: Mutex::default(),
            version: AtomicU32::new(0),
            diverged: AtomicBool::new(false),
            server_tag: AtomicU64::new(0),
            dir,
        }
    }

    /// Returns the identity, unique while the union is open; the root has [`Node::ROOT_ID`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Identity of the root.
    pub const ROOT_ID: u64 = 1;

    /// Returns the inode number programs see.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Returns the type, which never changes.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Returns a word that belongs to whoever serves the union, such as for its own number of the node.
    ///
    /// It is 0 at first; the union never reads or writes it.
    pub fn server_tag(&self) -> &AtomicU64 {
        &self.server_tag
    }

    /// Returns a number that grows whenever the node moves to another branch.
    pub fn version(&self) -> u64 {
        u64::from(self.version.load(Ordering::Acquire))
    }

    pub(crate) fn moved(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Whether its bytes may differ from those it had before it was copied up.
    pub fn has_diverged(&self) -> bool {
        self.diverged.load(Ordering::Acquire)
    }

    /// Notes that its bytes are about to change on the writable branch.
    pub fn diverge(&self) {
        self.diverged.store(true, Ordering::Release);
    }

    /// Returns the branch that holds its attributes and bytes.
    pub fn branch(&self) -> BranchIndex {
        self.spot.read().branch()
    }

    pub(crate) fn lock_dir(&self) -> Outcome<MutexGuard<'_, DirState>> {
        let dir = self.dir.as_ref().ok_or(UnionErrorKind::NotDirectory)?;
        let mut state = dir.state.lock();
        dir.forget_dropped(&mut state);
        Ok(state)
    }

    /// Whether one branch alone has this directory, which is not the root; false while somebody works on it.
    pub(crate) fn is_on_one_branch(&self) -> bool {
        let state = self.dir.as_ref().and_then(|it| it.state.try_lock());
        self.id != Self::ROOT_ID && state.is_some_and(|it| it.branches.len() == 1)
    }

    /// Whether somebody works on this directory right now, perhaps reading it whole.
    pub fn is_busy(&self) -> bool {
        self.dir.as_ref().is_some_and(|it| it.state.is_locked())
    }

    /// Whether any name leads to the node.
    pub fn has_name(&self) -> bool {
        self.id == Self::ROOT_ID || !self.spot.read().names().is_empty()
    }

    /// Returns a directory this node lies in, none for the root and for removed nodes.
    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        self.spot.read().primary().map(|it| Arc::clone(&it.dir))
    }

    /// Returns the directory this node lies in; the root is its own, and so is a removed directory.
    pub fn parent_or_self(self: &Arc<Self>) -> Arc<Node> {
        self.parent().unwrap_or_else(|| Arc::clone(self))
    }

    /// Whether the node is known to lie in another directory than the root.
    ///
    /// Never waits: who asks may hold the lock of any node's place.
    pub(crate) fn is_below_top(&self) -> bool {
        let spot = self.spot.try_read();
        spot.is_some_and(|it| it.primary().is_some_and(|name| name.dir.id() != Self::ROOT_ID))
    }

    /// Returns the path from the root, for messages; it may have changed before it is read.
    pub fn path_for_messages(&self) -> OsString {
        let mut parts = Vec::new();
        let mut at = self.spot.read().primary().cloned();
        while let Some(name) = at {
            at = name.dir.spot.read().primary().cloned();
            parts.push(name.name.clone());
        }
        let mut path = OsString::from("/");
        for (index, part) in parts.iter().rev().enumerate() {
            if index != 0 {
                path.push("/");
            }
            path.push(&**part);
        }
        path
    }

    pub(crate) fn handle(&self, branch: BranchIndex) -> Option<Arc<OwnedFd>> {
        let handles = self.dir.as_ref()?.handles.lock();
        let slot = &handles[handles.binary_search_by_key(&branch, |it| it.branch).ok()?];
        let Way::Open { fd, used, .. } = &slot.way else { return None };
        used.store(true, Ordering::Relaxed);
        Some(Arc::clone(fd))
    }

    /// Returns what the host calls `branch`'s part, and forgets it, if its handle was closed.
    pub(crate) fn take_closed_handle(&self, branch: BranchIndex) -> Option<FileHandle> {
        let mut handles = self.dir.as_ref()?.handles.lock();
        let at = handles.binary_search_by_key(&branch, |it| it.branch).ok()?;
        if matches!(handles[at].way, Way::Open { .. }) {
            return None;
        }
        match handles.remove(at).way {
            Way::Closed(handle) => Some(*handle),
            Way::Open { .. } => None,
        }
    }

    /// Keeps a handle; returns the one already kept when another thread was faster.
    pub(crate) fn keep_handle(
        &self,
        branch: BranchIndex,
        fd: Arc<OwnedFd>,
        count: impl FnOnce() -> OpenCount,
    ) -> (Arc<OwnedFd>, bool) {
        let Some(dir) = &self.dir else { return (fd, false) };
        let mut handles = dir.handles.lock();
        let position = handles.binary_search_by_key(&branch, |it| it.branch);
        if let Ok(at) = position
            && let Way::Open { fd, .. } = &handles[at].way
        {
            return (Arc::clone(fd), false);
        }
        let way = Way::Open { fd: Arc::clone(&fd), _count: count(), used: AtomicBool::new(true) };
        match position {
            Ok(at) => handles[at].way = way,
            Err(at) => handles.insert(at, HandleSlot { branch, way }),
        }
        (fd, true)
    }

    /// Drops the handles on parts of branches that `is_kept` refuses.
    pub(crate) fn keep_handles(&self, is_kept: impl Fn(BranchIndex) -> bool) {
        if let Some(dir) = &self.dir {
            dir.handles.lock().retain(|it| is_kept(it.branch));
        }
    }

    /// Closes a handle that was not used since the last call; true when it is closed.
    ///
    /// What `host_name` makes of it stays instead.
    pub(crate) fn release_handle(
        &self,
        branch: BranchIndex,
        host_name: impl FnOnce(&OwnedFd) -> Option<FileHandle>,
    ) -> bool {
        let Some(dir) = &self.dir else { return true };
        let mut handles = dir.handles.lock();
        let Ok(at) = handles.binary_search_by_key(&branch, |it| it.branch) else { return true };
        let Way::Open { fd, used, .. } = &handles[at].way else { return true };
        if used.swap(false, Ordering::Relaxed) {
            return false;
        }
        match host_name(fd) {
            Some(handle) => handles[at].way = Way::Closed(Box::new(handle)),
            None => {
                handles.remove(at);
            }
        }
        true
    }
}
