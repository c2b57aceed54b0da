//! Changes of the branches while the union is in use: one is added, removed, or gets another permission.
//!
//! Whoever changes branches has the union for itself, so nothing here competes
//! with other operations. First it is found out what would become of each node
//! that is known ([`crate::restack_plan`]); then who uses those is asked for;
//! only when nobody is in the way, anything changes. Afterwards the union shows
//! what one that is opened on the new stack shows.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use aufs_host::draft::read_names;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use tracing::debug;

use crate::branch::{BranchIndex, BranchPerm, BranchSpec};
use crate::error::{Outcome, UnionError, UnionErrorKind};
use crate::handles;
use crate::node::Node;
use crate::restack_plan::{KeptDir, Plan};
use crate::stack::Branch;
use crate::union::{Union, open_branch};
use crate::writable::{OpenUnionError, Writable};

/// A change of the branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchChange {
    /// A branch comes to lie at this position; 0 is the top, none the bottom.
    Add {
        /// Where.
        position: Option<usize>,
        /// The branch.
        spec: BranchSpec,
    },
    /// The branch of this path goes.
    Remove {
        /// Its path.
        path: PathBuf,
    },
    /// The branch of this path gets another permission.
    Modify {
        /// Its path.
        path: PathBuf,
        /// The new permission.
        perm: BranchPerm,
    },
}

/// Why the branches stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestackError {
    /// No branch has this path.
    #[error("{path} is no branch of this union", path = path.display())]
    NoBranch {
        /// The path.
        path: PathBuf,
    },
    /// There are fewer branches than the position says.
    #[error("there is no position {position} among {count} branches")]
    Position {
        /// The position.
        position: usize,
        /// How many branches there are.
        count: usize,
    },
    /// A union has at least one branch.
    #[error("{path} is the only branch; unmount instead", path = path.display())]
    LastBranch {
        /// Its path.
        path: PathBuf,
    },
    /// Something that only this branch has is in use.
    #[error("branch {path} is in use: {entry}", path = path.display(), entry = entry.display())]
    Busy {
        /// The branch.
        path: PathBuf,
        /// What is in use, from the root of the union.
        entry: PathBuf,
    },
    /// The directory that was opened long ago is not the one of that path any more.
    #[error("branch {path} is another directory than it was; unmount and mount again", path = path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// Hard links of an earlier mount have to be completed before anything is known of the tree.
    #[error("branch {path} has pseudo-links of a mount that was killed; unmount and mount with it to complete them", path = path.display())]
    PseudoLinks {
        /// The branch.
        path: PathBuf,
    },
    /// Branches were put between two others too often.
    #[error("no number is left for a branch between these two; unmount and mount again")]
    NoRoom,
    /// The branch cannot be used.
    #[error(transparent)]
    Open(#[from] OpenUnionError),
    /// Reading branches failed, or completing hard links on the writable one.
    #[error(transparent)]
    Union(#[from] UnionError),
}

impl RestackError {
    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoBranch { .. } => Errno::NOENT,
            Self::Position { .. } | Self::LastBranch { .. } => Errno::INVAL,
            Self::Busy { .. } | Self::PseudoLinks { .. } => Errno::BUSY,
            Self::Replaced { .. } => Errno::STALE,
            Self::NoRoom => Errno::NOSPC,
            Self::Open(error) => error.errno(),
            Self::Union(error) => error.errno(),
        }
    }

    pub(crate) fn of(kind: UnionErrorKind, what: &Path) -> Self {
        Self::Union(UnionError { op: "look at", name: what.as_os_str().to_owned(), kind })
    }
}

/// What a change is about to take from its users.
#[derive(Debug)]
pub struct Affected<'a> {
    /// Nodes that no name will lead to any more.
    pub losing: &'a [Arc<Node>],
    /// Whether a branch goes, so that whoever uses what only it has is in the way.
    pub removes: bool,
    /// The branch that was the writable one and will not be, so that writers of its files are in the way.
    pub demotes: Option<BranchIndex>,
}

/// Who uses what, as far as it matters for a change.
#[derive(Debug, Default)]
pub struct Users {
    /// Of the losing nodes, and of those without a name, the ones somebody uses.
    pub in_use: Vec<Arc<Node>>,
    /// Files that somebody may write to without asking again.
    pub written: Vec<Arc<Node>>,
}

/// What a change has done.
#[derive(Debug, Default)]
pub struct Restacked {
    /// Directories, with the names of which another answer was given before.
    pub stale: Vec<(Arc<Node>, Vec<std::ffi::OsString>)>,
    /// Files with names left whose attributes may differ, such as their number of links.
    pub changed: Vec<Arc<Node>>,
    /// What the user should know about the branches.
    pub warnings: Vec<String>,
}

/// The stack as it is to be.
#[derive(Debug)]
pub(crate) struct Target {
    /// Keys and whether their whiteouts count, topmost first.
    pub(crate) branches: Vec<(BranchIndex, bool)>,
    pub(crate) writable: Option<BranchIndex>,
    pub(crate) removed: Option<BranchIndex>,
    /// The branch that comes, goes or gets another permission.
    pub(crate) changed: BranchIndex,
    /// Branches that become writable, or cease to be.
    pub(crate) reopened: Vec<BranchIndex>,
    /// The branch that gets this permission.
    modified: Option<(BranchIndex, BranchPerm)>,
}

impl Target {
    pub(crate) fn honors_whiteouts(&self, key: BranchIndex) -> bool {
        self.branches.contains(&(key, true))
    }
}

impl Union {
    /// Changes the branches; false when they are so already.
    ///
    /// `users` is asked who uses what is affected. Of what is in use and hidden
    /// by the change, the bytes are kept for those who have it open.
    ///
    /// # Errors
    ///
    /// See [`RestackError`]; the branches are as before then. Hard links have been completed even so, and
    /// names that others hide do not count any more.
    pub fn change_branches(
        &mut self,
        change: &BranchChange,
        users: impl FnOnce(&Affected<'_>) -> Users,
    ) -> Result<Option<Restacked>, RestackError> {
        self.flush_pseudo_links()?;
        let mut done = Restacked::default();
        let Some(target) = self.target(change, &mut done.warnings)? else { return Ok(None) };
        let result = self.restack(&target, users, &mut done);
        if result.is_err()
            && let BranchChange::Add { .. } = change
        {
            self.branches.remove(target.changed);
            self.handle_clock.keep(|it| it != target.changed);
        }
        result?;
        debug!(?change, branches = self.branches.len(), "branches changed");
        Ok(Some(done))
    }

    /// Works out the stack as it is to be; a new branch is opened, and lies in the table from here on.
    fn target(
        &mut self,
        change: &BranchChange,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Target>, RestackError> {
        let (mut removed, mut modified) = (None, None);
        let known = |path: &Path| {
            self.branches.find(path).ok_or_else(|| RestackError::NoBranch { path: path.to_owned() })
        };
        let changed = match change {
            BranchChange::Add { position, spec } => {
                let Some(key) = self.add(*position, spec, warnings)? else { return Ok(None) };
                key
            }
            BranchChange::Remove { path } => {
                let key = known(path)?;
                if self.branches.len() == 1 {
                    return Err(RestackError::LastBranch { path: path.clone() });
                }
                removed = Some(key);
                key
            }
            BranchChange::Modify { path, perm } => {
                let key = known(path)?;
                let branch = self.branches.get(key);
                if branch.is_some_and(|it| it.spec.perm == *perm) {
                    return Ok(None);
                }
                modified = Some((key, *perm));
                key
            }
        };
        let perms = self.branches.iter().filter(|it| Some(it.0) != removed).map(|(key, branch)| {
            (key, modified.filter(|it| it.0 == key).map_or(branch.spec.perm, |it| it.1))
        });
        let perms: Vec<_> = perms.collect();
        let writable = perms.iter().find(|it| it.1.is_writable()).map(|it| it.0);
        let mut reopened = Vec::new();
        if writable != self.writable_branch() {
            reopened.extend(writable);
            reopened.extend(self.writable_branch().filter(|it| Some(*it) != removed));
        }
        let branches = perms.iter().map(|(key, perm)| (*key, perm.honors_whiteouts())).collect();
        Ok(Some(Target { branches, writable, removed, changed, reopened, modified }))
    }

    /// Opens a new branch; none when it is one already.
    fn add(
        &mut self,
        position: Option<usize>,
        spec: &BranchSpec,
        warnings: &mut Vec<String>,
    ) -> Result<Option<BranchIndex>, RestackError> {
        if self.branches.find(&spec.path).is_some() {
            return Ok(None); // As in kernel aufs, which takes it for done.
        }
        let count = self.branches.len();
        let position = position.unwrap_or(count);
        if count < position {
            return Err(RestackError::Position { position, count });
        }
        handles::limit_for(count + 1)?;
        // What is to be written is opened for that when nothing else can fail any more.
        let branch = open_branch(spec, false, self.workdir.as_deref(), warnings)?;
        if let Some((_, other)) = self.branches.iter().find(|(_, it)| it.is_same_directory(&branch)) {
            let (path, other) = (spec.path.clone(), other.spec.path.clone());
            return Err(OpenUnionError::Twice { path, other }.into());
        }
        let key = self.branches.key_at(position).ok_or(RestackError::NoRoom)?;
        if !self.devices.contains(&branch.device) {
            self.devices.push(branch.device);
        }
        self.branches.insert(key, branch);
        Ok(Some(key))
    }

    fn restack(
        &mut self,
        target: &Target,
        users: impl FnOnce(&Affected<'_>) -> Users,
        done: &mut Restacked,
    ) -> Result<(), RestackError> {
        let plan = Plan::make(self, target)?;
        let demotes = self.writable_branch().filter(|it| target.writable != Some(*it));
        let removes = target.removed.is_some();
        let users = users(&Affected { losing: &plan.losing, removes, demotes });
        self.refuse_in_use(target, demotes, &plan, &users)?;
        let held = self.hold(&plan, &users)?;
        let links = self.links.collect(|group| Some(Arc::clone(&group.node)));
        let roots = self.open_anew(target, &mut done.warnings)?;
        // From here on nothing fails.
        for (key, branch, writable) in roots {
            if Some(key) == target.writable {
                self.writable = writable;
            }
            if let Some(slot) = self.branches.get_mut(key) {
                *slot = branch;
            }
        }
        if target.writable.is_none() {
            self.writable = None;
        }
        if let Some((key, perm)) = target.modified
            && let Some(branch) = self.branches.get_mut(key)
        {
            branch.spec.perm = perm;
            branch.honors_whiteouts = perm.honors_whiteouts();
        }
        if let Some(key) = target.removed {
            self.branches.remove(key);
        }
        self.handle_clock.keep(|it| Some(it) != target.removed && !target.reopened.contains(&it));
        self.apply(plan, held, target, done);
        done.changed.extend(links);
        Ok(())
    }

    fn refuse_in_use(
        &self,
        target: &Target,
        demotes: Option<BranchIndex>,
        plan: &Plan,
        users: &Users,
    ) -> Result<(), RestackError> {
        let losing: HashSet<u64> = plan.losing.iter().map(|it| it.id()).collect();
        let removed = target.removed.and_then(|key| {
            let is_lost = |it: &&Arc<Node>| losing.contains(&it.id()) || it.branch() == key;
            users.in_use.iter().find(is_lost).map(|node| (key, node))
        });
        let demoted = demotes
            .and_then(|key| users.written.iter().find(|it| it.branch() == key).map(|node| (key, node)));
        let Some((key, node)) = removed.or(demoted) else { return Ok(()) };
        let path = self.branches.get(key).map(|it| it.spec.path.clone()).unwrap_or_default();
        Err(RestackError::Busy { path, entry: node.path_for_messages().into() })
    }

    /// Holds what is in use and will have no name.
    fn hold(&self, plan: &Plan, users: &Users) -> Result<HashMap<u64, Arc<OwnedFd>>, RestackError> {
        let in_use: HashSet<u64> = users.in_use.iter().map(|it| it.id()).collect();
        let mut held = HashMap::new();
        for node in plan.losing.iter().filter(|it| in_use.contains(&it.id())) {
            let open = || -> Outcome<Arc<OwnedFd>> {
                if node.file_type() == FileType::Directory {
                    return self.dir_handle(node, node.branch());
                }
                let file =
                    self.on_entry(node, |_, entry| Ok(self.with_room(|| entry.open(OFlags::PATH))?))?;
                Ok(Arc::new(OwnedFd::from(file)))
            };
            let fd = open().map_err(|kind| RestackError::of(kind, Path::new(&node.path_for_messages())))?;
            held.insert(node.id(), fd);
        }
        Ok(held)
    }

    /// Opens the branches that become writable, or cease to be, as they are to be used.
    fn open_anew(
        &self,
        target: &Target,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<(BranchIndex, Branch, Option<Writable>)>, RestackError> {
        let mut roots = Vec::new();
        for &key in &target.reopened {
            let Some(known) = self.branches.get(key) else { continue };
            let is_writable = target.writable == Some(key);
            let workdir = self.workdir.as_deref();
            let branch = open_branch(&known.spec, is_writable, workdir, warnings)?;
            let path = known.spec.path.clone();
            if !branch.is_same_directory(known) {
                return Err(RestackError::Replaced { path });
            }
            let writable = match is_writable {
                true => Some(Writable::prepare(&path, &branch.root, key, workdir)?),
                false => None,
            };
            if let Some(writable) = &writable {
                let left = read_names(&writable.pseudo_links);
                let left = left.map_err(|errno| RestackError::of(errno.into(), &path))?;
                if !left.is_empty() {
                    return Err(RestackError::PseudoLinks { path });
                }
            }
            roots.push((key, branch, writable));
        }
        Ok(roots)
    }

    /// Brings every node that is affected to where it is now.
    fn apply(&self, plan: Plan, held: HashMap<u64, Arc<OwnedFd>>, target: &Target, done: &mut Restacked) {
        for KeptDir { dir, branches, host } in plan.dirs {
            let Ok(mut state) = dir.lock_dir() else { continue };
            let Some(&top) = branches.first() else { continue };
            dir.keep_handles(|it| branches.contains(&it));
            state.restack(branches);
            let mut spot = dir.spot.write();
            if spot.branch != top {
                spot.branch = top;
                spot.names.iter_mut().for_each(|it| it.branch = top);
                dir.moved();
                // Its number stays; listings take it from here.
                self.origins.insert(host, dir.ino());
            }
        }
        let losing: HashSet<u64> = plan.losing.iter().map(|it| it.id()).collect();
        for (dir, name, child) in plan.lost {
            if let Ok(mut state) = dir.lock_dir() {
                state.index.disown(&name);
            }
            child.spot.write().forget_name(&dir, &name);
        }
        for node in plan.losing {
            if let Ok(mut state) = node.lock_dir() {
                state.remove();
            }
            node.keep_handles(|_| false);
            let mut spot = node.spot.write();
            spot.names.clear();
            spot.held = held.get(&node.id()).map(Arc::clone);
        }
        for file in plan.files {
            if target.reopened.contains(&file.branch()) {
                file.moved(); // Whoever has it open opens it anew, for what it may be used for now.
            }
        }
        // Counts of links and where they lead are asked for again.
        self.links.retain(|_, _| false);
        self.linked.retain(|key, node| {
            let is_there = |node: Arc<Node>| {
                let stat = self.on_entry(&node, |_, entry| Ok(entry.stat()?));
                !losing.contains(&node.id()) && stat.is_ok_and(|it| (it.st_dev, it.st_ino) == *key)
            };
            Weak::upgrade(node).is_some_and(is_there)
        });
        done.stale = plan.stale;
    }
}
