//! Nodes: the entries of a union that somebody knows, and where each lies on the branches.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustix::fs::FileType;

use crate::branch::BranchIndex;
use crate::error::{Outcome, UnionErrorKind};
use crate::index::Index;

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
    pub(crate) spot: RwLock<Spot>,
    /// Held while the node is copied up, so that two writers make one copy.
    pub(crate) copying: Mutex<()>,
    /// Grows whenever the node moves to another branch.
    version: AtomicU64,
    /// Whether its bytes differ from those it had before it was copied up.
    diverged: AtomicBool,
    server_tag: AtomicU64,
    dir: Option<DirPart>,
}

/// Where a node lies.
#[derive(Debug)]
pub(crate) struct Spot {
    /// The branch with its attributes and bytes; for a directory, the topmost one.
    pub(crate) branch: BranchIndex,
    /// The names under which it is known; empty once all are gone.
    pub(crate) names: Vec<Name>,
    /// The file itself, once no name leads to it.
    pub(crate) held: Option<Arc<OwnedFd>>,
}

/// One name of a node.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) dir: Arc<Node>,
    pub(crate) name: OsString,
    /// The branch that holds this name; hard links may differ in it.
    pub(crate) branch: BranchIndex,
}

impl Spot {
    /// Returns the name that leads to the bytes.
    pub(crate) fn primary(&self) -> Option<&Name> {
        self.names.iter().find(|it| it.branch == self.branch).or(self.names.first())
    }

    pub(crate) fn is_named(&self, dir: &Arc<Node>, name: &OsStr) -> Option<&Name> {
        self.names.iter().find(|it| Arc::ptr_eq(&it.dir, dir) && it.name == name)
    }

    /// Notes that `branch` holds this name now.
    pub(crate) fn name_is_on(&mut self, dir: &Arc<Node>, name: &OsStr, branch: BranchIndex) {
        for it in &mut self.names {
            if Arc::ptr_eq(&it.dir, dir) && it.name == name {
                it.branch = branch;
            }
        }
    }

    pub(crate) fn forget_name(&mut self, dir: &Arc<Node>, name: &OsStr) {
        self.names.retain(|it| !(Arc::ptr_eq(&it.dir, dir) && it.name == name));
    }
}

/// What only directories have.
#[derive(Debug)]
struct DirPart {
    state: Mutex<DirState>,
    handles: Mutex<Vec<HandleSlot>>,
}

/// What a directory shows; its lock is the lock of the directory.
#[derive(Debug, Default)]
pub(crate) struct DirState {
    /// The branches merged here, topmost first.
    pub(crate) branches: Vec<BranchIndex>,
    /// Everything the branches hold, once it has paid to read it.
    pub(crate) index: Option<Index>,
    /// Lookups answered without an index.
    pub(crate) probes: u32,
    /// Whether the directory was removed.
    pub(crate) gone: bool,
    /// Whether new entries get a default ACL; none until asked.
    pub(crate) default_acl: Option<bool>,
    /// Whether new entries get the group of the directory (setgid); none until asked.
    pub(crate) passes_group: Option<bool>,
    children: HashMap<OsString, Weak<Node>>,
    sweep_at: usize,
}

impl DirState {
    /// Returns the node known under `name`, if anybody still uses it.
    pub(crate) fn child(&self, name: &OsStr) -> Option<Arc<Node>> {
        self.children.get(name).and_then(Weak::upgrade)
    }

    pub(crate) fn adopt(&mut self, name: &OsStr, node: &Arc<Node>) {
        if self.sweep_at <= self.children.len() {
            self.children.retain(|_, it| it.strong_count() != 0);
            self.sweep_at = 2 * self.children.len() + 64;
        }
        self.children.insert(name.to_owned(), Arc::downgrade(node));
    }

    pub(crate) fn disown(&mut self, name: &OsStr) -> Option<Arc<Node>> {
        self.children.remove(name).and_then(|it| it.upgrade())
    }
}

/// An open handle on one branch's part of a directory.
#[derive(Debug)]
struct HandleSlot {
    branch: BranchIndex,
    fd: Arc<OwnedFd>,
    /// Used since the clock last came by; see [`crate::handles`].
    used: AtomicBool,
}

impl Node {
    pub(crate) fn new(
        id: u64,
        ino: u64,
        file_type: FileType,
        spot: Spot,
        branches: Vec<BranchIndex>,
    ) -> Self {
        let dir = (file_type == FileType::Directory).then(|| DirPart {
            state: Mutex::new(DirState { branches, ..DirState::default() }),
            handles: Mutex::default(),
        });
        Self {
            id,
            ino,
            file_type,
            spot: RwLock::new(spot),
            copying: Mutex::default(),
            version: AtomicU64::new(0),
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
        self.version.load(Ordering::Acquire)
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
        self.spot.read().branch
    }

    pub(crate) fn lock_dir(&self) -> Outcome<MutexGuard<'_, DirState>> {
        self.dir.as_ref().map(|it| it.state.lock()).ok_or(UnionErrorKind::NotDirectory)
    }

    /// Whether somebody works on this directory right now, perhaps reading it whole.
    pub fn is_busy(&self) -> bool {
        self.dir.as_ref().is_some_and(|it| it.state.is_locked())
    }

    /// Returns a directory this node lies in, none for the root and for removed nodes.
    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        self.spot.read().primary().map(|it| Arc::clone(&it.dir))
    }

    /// Returns the directory this node lies in; the root is its own, and so is a removed directory.
    pub fn parent_or_self(self: &Arc<Self>) -> Arc<Node> {
        self.parent().unwrap_or_else(|| Arc::clone(self))
    }

    /// Returns the path from the root, for messages; it may have changed before it is read.
    pub fn path_for_messages(&self) -> OsString {
        let mut parts = Vec::new();
        let mut at = self.spot.read().primary().cloned();
        while let Some(name) = at {
            at = name.dir.spot.read().primary().cloned();
            parts.push(name.name);
        }
        let mut path = OsString::from("/");
        for (index, part) in parts.iter().rev().enumerate() {
            if index != 0 {
                path.push("/");
            }
            path.push(part);
        }
        path
    }

    pub(crate) fn handle(&self, branch: BranchIndex) -> Option<Arc<OwnedFd>> {
        let handles = self.dir.as_ref()?.handles.lock();
        let slot = handles.iter().find(|it| it.branch == branch)?;
        slot.used.store(true, Ordering::Relaxed);
        Some(Arc::clone(&slot.fd))
    }

    /// Keeps a handle; returns the one already kept when another thread was faster.
    pub(crate) fn keep_handle(&self, branch: BranchIndex, fd: Arc<OwnedFd>) -> (Arc<OwnedFd>, bool) {
        let Some(dir) = &self.dir else { return (fd, false) };
        let mut handles = dir.handles.lock();
        if let Some(slot) = handles.iter().find(|it| it.branch == branch) {
            return (Arc::clone(&slot.fd), false);
        }
        handles.push(HandleSlot { branch, fd: Arc::clone(&fd), used: AtomicBool::new(true) });
        (fd, true)
    }

    /// Drops a handle that was not used since the last call; true when it is gone.
    pub(crate) fn release_handle(&self, branch: BranchIndex) -> bool {
        let Some(dir) = &self.dir else { return true };
        let mut handles = dir.handles.lock();
        let Some(at) = handles.iter().position(|it| it.branch == branch) else { return true };
        if handles[at].used.swap(false, Ordering::Relaxed) {
            return false;
        }
        handles.swap_remove(at);
        true
    }
}
