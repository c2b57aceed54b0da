//! Where a node lies: its names, and the branch that holds its bytes.

use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::branch::BranchIndex;
use crate::file_name::FileName;
use crate::node::Node;

/// Where a node lies.
#[derive(Debug)]
pub(crate) struct Spot {
    /// The branch with its attributes and bytes; for a directory, the topmost one.
    pub(crate) branch: BranchIndex,
    /// The names under which it is known; empty once all are gone.
    pub(crate) names: Names,
    /// The file itself, once no name leads to it.
    pub(crate) held: Option<Arc<OwnedFd>>,
}

/// One name of a node.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) dir: Arc<Node>,
    pub(crate) name: FileName,
    /// The branch that holds this name; hard links may differ in it.
    pub(crate) branch: BranchIndex,
}

impl Name {
    pub(crate) fn is(&self, dir: &Arc<Node>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.dir, dir) && *self.name == *name
    }
}

/// The names of a node: nearly always one, which then needs no allocation.
#[derive(Debug)]
pub(crate) enum Names {
    One(Name),
    #[expect(clippy::box_collection, reason = "a pointer keeps the common variant, and so every node, small")]
    Others(Box<Vec<Name>>),
}

const _: () = assert!(size_of::<Names>() == 24);

impl Names {
    pub(crate) fn none() -> Self {
        Self::Others(Box::default())
    }

    pub(crate) fn push(&mut self, name: Name) {
        match std::mem::replace(self, Self::none()) {
            Self::One(first) => *self = Self::Others(Box::new(vec![first, name])),
            Self::Others(names) if names.is_empty() => *self = Self::One(name),
            Self::Others(mut names) => {
                names.push(name);
                *self = Self::Others(names);
            }
        }
    }

    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&Name) -> bool) {
        match self {
            Self::One(name) if !is_kept(name) => *self = Self::none(),
            Self::One(_) => (),
            Self::Others(names) => names.retain(is_kept),
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::none();
    }
}

impl Deref for Names {
    type Target = [Name];

    fn deref(&self) -> &[Name] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Others(names) => names,
        }
    }
}

impl DerefMut for Names {
    fn deref_mut(&mut self) -> &mut [Name] {
        match self {
            Self::One(name) => std::slice::from_mut(name),
            Self::Others(names) => names,
        }
    }
}

impl Spot {
    /// Returns the name that leads to the bytes.
    pub(crate) fn primary(&self) -> Option<&Name> {
        self.names.iter().find(|it| it.branch == self.branch).or(self.names.first())
    }

    pub(crate) fn is_named(&self, dir: &Arc<Node>, name: &OsStr) -> Option<&Name> {
        self.names.iter().find(|it| it.is(dir, name))
    }

    /// Notes that `branch` holds this name now.
    pub(crate) fn name_is_on(&mut self, dir: &Arc<Node>, name: &OsStr, branch: BranchIndex) {
        for it in self.names.iter_mut().filter(|it| it.is(dir, name)) {
            it.branch = branch;
        }
    }

    pub(crate) fn forget_name(&mut self, dir: &Arc<Node>, name: &OsStr) {
        self.names.retain(|it| !it.is(dir, name));
    }
}
