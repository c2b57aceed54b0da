//! A union: its branches, its root, and what all operations share.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use aufs_host::entry::Entry;
use aufs_host::privilege;
use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;
use tracing::debug;

use crate::branch::{BranchIndex, BranchSpec};
use crate::counters::Tally;
use crate::error::{Outcome, UnionErrorKind};
use crate::handles::{self, HandleClock};
use crate::links::LinkGroup;
use crate::node::Node;
use crate::report::Change;
use crate::shards::Shards;
use crate::spot::Spot;
use crate::stack::{Branch, Stack};
use crate::writable::{OpenUnionError, Writable};

/// How a union is to be opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnionOptions {
    /// Branches, topmost first; all but the first writable one count as read-only.
    pub stack: Vec<BranchSpec>,
    /// Directory for drafts on the file system of the writable branch; none means one inside the branch.
    pub workdir: Option<PathBuf>,
    /// Whether a copied-up file is synced before it is published.
    pub sync: bool,
    /// Whether branches may change behind the union (`udba=reval`).
    pub revalidate: bool,
    /// Whether extended attributes are neither shown nor copied up: quicker, but capabilities and ACLs are lost.
    pub no_xattrs: bool,
    /// Whether each new directory is opaque (`diropq=a`), not only one that must hide something.
    pub always_opaque: bool,
}

type Observer = Box<dyn Fn(Change) + Send + Sync>;

/// Branches shown as one tree.
pub struct Union {
    pub(crate) branches: Stack,
    pub(crate) writable: Option<Writable>,
    pub(crate) root: Arc<Node>,
    pub(crate) handle_clock: HandleClock,
    pub(crate) tally: Tally,
    pub(crate) revalidate: bool,
    pub(crate) sync: bool,
    pub(crate) no_xattrs: bool,
    pub(crate) always_opaque: bool,
    /// User and group that new host files get.
    pub(crate) own_ids: (u32, u32),
    /// Files with several names, by what the host calls them.
    pub(crate) linked: Shards<(u64, u64), Weak<Node>>,
    /// Files whose names the host cannot count, by node.
    pub(crate) links: Shards<u64, LinkGroup>,
    /// Inode numbers of copied-up entries that stay those of their origin.
    pub(crate) origins: Shards<(u64, u64), u64>,
    /// Devices of a source and a target whose files never share blocks.
    pub(crate) without_reflinks: Shards<(u64, u64), ()>,
    /// Held while a directory moves, so that the tree keeps its shape for others that move.
    pub(crate) moving: Mutex<()>,
    /// Where drafts are built, if not in the writable branch.
    pub(crate) workdir: Option<PathBuf>,
    /// Devices of all branches there ever were, so that inode numbers keep their meaning.
    pub(crate) devices: Vec<u64>,
    next_id: AtomicU64,
    observer: OnceLock<Observer>,
    warnings: Vec<String>,
}

impl fmt::Debug for Union {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Union")
            .field("branches", &self.branches)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

/// Inode number of the root, as ext4 has it for its own.
const ROOT_INO: u64 = 2;

impl Union {
    /// Opens the branches and prepares the writable one; clears the process's file mode mask.
    ///
    /// # Errors
    ///
    /// Names the branch that cannot be used, and why; see [`OpenUnionError`].
    pub fn open(options: &UnionOptions) -> Result<Self, OpenUnionError> {
        let limit = handles::limit_for(options.stack.len())?;
        // New entries get their mode from the caller's mask, not from ours.
        rustix::process::umask(Mode::empty());
        let writable_index = options.stack.iter().position(|it| it.perm.is_writable());
        let mut warnings = Vec::new();
        let mut branches = Stack::default();
        let mut devices: Vec<u64> = Vec::new();
        let mut roots: HashMap<(u64, u64), PathBuf> = HashMap::new();
        let workdir = options.workdir.as_deref();
        let root_branches: Vec<_> = Stack::first_keys(options.stack.len()).collect();
        for (index, (key, spec)) in root_branches.iter().zip(&options.stack).enumerate() {
            let branch = open_branch(spec, Some(index) == writable_index, workdir, &mut warnings)?;
            if let Some(other) = roots.insert((branch.device, branch.root_ino), spec.path.clone()) {
                return Err(OpenUnionError::Twice { path: spec.path.clone(), other });
            }
            if !devices.contains(&branch.device) {
                devices.push(branch.device);
            }
            branches.insert(*key, branch);
        }
        let top = *root_branches.first().ok_or(OpenUnionError::NoBranches)?;
        let writable = match branches.iter().find(|(_, it)| it.spec.perm.is_writable()) {
            Some((key, branch)) => Some(Writable::prepare(&branch.spec.path, &branch.root, key, workdir)?),
            None => None,
        };
        let root_branches = cut_at_opaque_root(&branches, root_branches)?;
        let spot = Spot { branch: top, names: Vec::new(), held: None };
        let root = Node::new(Node::ROOT_ID, ROOT_INO, FileType::Directory, spot, root_branches);
        debug!(branches = options.stack.len(), handle_limit = limit, "union opened");
        let union = Self {
            branches,
            writable,
            root: Arc::new(root),
            handle_clock: HandleClock::new(limit, privilege::is_host_root() && !options.revalidate),
            tally: Tally::default(),
            revalidate: options.revalidate,
            sync: options.sync,
            no_xattrs: options.no_xattrs,
            always_opaque: options.always_opaque,
            own_ids: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            linked: Shards::default(),
            links: Shards::default(),
            origins: Shards::default(),
            without_reflinks: Shards::default(),
            moving: Mutex::default(),
            workdir: options.workdir.clone(),
            devices,
            next_id: AtomicU64::new(Node::ROOT_ID + 1),
            observer: OnceLock::new(),
            warnings,
        };
        union.recover_pseudo_links().map_err(OpenUnionError::PseudoLinks)?;
        Ok(union)
    }

    /// Returns the root directory.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Returns what the user should know about the branches, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the writable branch, if there is one.
    pub fn writable_branch(&self) -> Option<BranchIndex> {
        self.writable.as_ref().map(|it| it.index)
    }

    /// Whether this process is root of the host, as far as rights on branches go.
    pub fn has_host_privilege(&self) -> bool {
        privilege::is_host_root()
    }

    /// Whether branches may change behind the union.
    pub fn revalidates(&self) -> bool {
        self.revalidate
    }

    /// Sets who hears of changes that programs did not ask for, and of copies; only the first call counts.
    pub fn observe(&self, observer: impl Fn(Change) + Send + Sync + 'static) {
        if self.observer.set(Box::new(observer)).is_err() {
            debug!("the union is observed already");
        }
    }

    /// Gives memory of nodes that are gone back to the host; may take some milliseconds.
    pub fn give_memory_back() {
        aufs_host::memory::give_back();
    }

    pub(crate) fn attributes_changed(&self, node: &Node) {
        self.tell(Change::Attributes { server_tag: node.server_tag().load(Ordering::Relaxed) });
    }

    pub(crate) fn tell(&self, change: Change) {
        if let Some(observer) = self.observer.get() {
            observer(change);
        }
    }

    /// Whether every change finds a branch that takes it.
    pub fn is_top_writable(&self) -> bool {
        self.writable_branch().is_some_and(|it| self.branches.iter().next().is_some_and(|top| top.0 == it))
    }

    /// Returns the branches as they were named, topmost first; only the first `rw` one is written.
    pub fn branch_specs(&self) -> Vec<BranchSpec> {
        self.branches.iter().map(|(_, branch)| branch.spec.clone()).collect()
    }

    /// Returns a branch; what was found before it was removed is `Stale`.
    pub(crate) fn branch(&self, key: BranchIndex) -> Outcome<&Branch> {
        self.branches.get(key).ok_or(UnionErrorKind::Stale)
    }

    pub(crate) fn writable(&self) -> Outcome<&Writable> {
        self.writable.as_ref().ok_or(UnionErrorKind::NoWritableBranch)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the number programs see for an inode of the host.
    pub(crate) fn number(&self, device: u64, ino: u64) -> u64 {
        self.origins.with(&(device, ino), |it| *it).unwrap_or_else(|| self.own_number(device, ino))
    }

    /// As [`Union::number`], for an inode that is new and hence nobody's copy.
    ///
    /// Branches on one file system keep its numbers. Those of others are moved
    /// to a range of their own, which cannot collide below 2^48 inodes.
    pub(crate) fn own_number(&self, device: u64, ino: u64) -> u64 {
        let index = self.devices.iter().position(|it| *it == device).unwrap_or(self.devices.len());
        ino ^ (index as u64) << 48
    }

    /// Runs `act` on the host entry of `node`, which stays in its place meanwhile.
    pub(crate) fn on_entry<T>(
        &self,
        node: &Arc<Node>,
        act: impl FnOnce(BranchIndex, Entry<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        if node.file_type() == FileType::Directory {
            let branch = node.branch();
            let handle = self.dir_handle(node, branch)?;
            return act(branch, Entry::Held(handle.as_fd()));
        }
        let spot = node.spot.read();
        if let Some(held) = spot.held() {
            return act(spot.branch(), Entry::Held(held.as_fd()));
        }
        let name = spot.primary().ok_or(UnionErrorKind::NotFound)?;
        if name.branch != spot.branch() {
            return Err(UnionErrorKind::Stale); // Never mistake a lower entry for its copy.
        }
        let parent = self.dir_handle(&name.dir, name.branch)?;
        act(spot.branch(), Entry::At(parent.as_fd(), &name.name))
    }

    /// Registers a file that has, or had, several names on the host.
    pub(crate) fn remember_linked(&self, stat: &Stat, node: &Arc<Node>) {
        let key = (stat.st_dev, stat.st_ino);
        self.linked.insert_and_sweep(key, Arc::downgrade(node), |it| it.strong_count() == 0);
    }
}

/// Drops the branches below one whose root is opaque.
pub(crate) fn cut_at_opaque_root(
    branches: &Stack,
    mut keys: Vec<BranchIndex>,
) -> Result<Vec<BranchIndex>, OpenUnionError> {
    for at in 0..keys.len() {
        let Some(branch) = branches.get(keys[at]) else { continue };
        let is_opaque = branch.honors_whiteouts
            && crate::marker::is_opaque(&branch.root).map_err(OpenUnionError::Marker)?;
        if is_opaque {
            keys.truncate(at + 1);
            break;
        }
    }
    Ok(keys)
}

/// Opens a branch; one that `is_writable` so that it can be written to.
pub(crate) fn open_branch(
    spec: &BranchSpec,
    is_writable: bool,
    workdir: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Branch, OpenUnionError> {
    let fail = |errno: Errno| OpenUnionError::Branch { path: spec.path.clone(), errno };
    let root = if is_writable && workdir.is_some() {
        // Drafts can only be renamed within one mount, which a clone would not be.
        aufs_host::pin::open_plain(&spec.path).map_err(fail)?
    } else {
        let pinned = aufs_host::pin::pin(&spec.path, !is_writable).map_err(fail)?;
        if let Some(errno) = pinned.unguarded
            && !is_writable
            && privilege::is_host_root()
        {
            warnings.push(format!("the kernel does not guard {}: {errno}", spec.path.display()));
        }
        pinned.root
    };
    let stat = Entry::Held(root.as_fd()).stat().map_err(fail)?;
    Ok(Branch {
        spec: spec.clone(),
        root: Arc::new(root),
        // Of several rw branches all but the first are as ro+wh, which honors whiteouts too.
        honors_whiteouts: spec.perm.honors_whiteouts(),
        device: stat.st_dev,
        root_ino: stat.st_ino,
        shares_blocks: AtomicBool::new(false),
    })
}
