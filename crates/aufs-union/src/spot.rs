//! Where a node lies: its names, and the branch that holds its bytes.

use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::branch::BranchIndex;
use crate::file_name::FileName;
use crate::node::Node;

/// Where a node lies, as those see it who change it.
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
    pub(crate) name: FileName,
    /// The branch that holds this name; hard links may differ in it.
    pub(crate) branch: BranchIndex,
}

impl Name {
    pub(crate) fn is(&self, dir: &Arc<Node>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.dir, dir) && *self.name == *name
    }
}

impl Spot {
    const NOWHERE: Self = Self { branch: BranchIndex(0), names: Vec::new(), held: None };

    /// Returns the name that leads to the bytes.
    pub(crate) fn primary(&self) -> Option<&Name> {
        primary(self.branch, &self.names)
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

fn primary(branch: BranchIndex, names: &[Name]) -> Option<&Name> {
    names.iter().find(|it| it.branch == branch).or(names.first())
}

/// A [`Spot`] in three words where it has one name, on the branch with the bytes, as nearly all have.
#[derive(Debug)]
pub(crate) enum Packed {
    One(Name),
    /// None only while somebody changes it.
    Any(Option<Box<Spot>>),
}

const _: () = assert!(size_of::<Packed>() == 24);

impl Packed {
    fn pack(mut spot: Spot) -> Self {
        let is_plain = spot.held.is_none() && matches!(&spot.names[..], [only] if only.branch == spot.branch);
        match spot.names.pop() {
            Some(only) if is_plain => Self::One(only),
            last => {
                spot.names.extend(last);
                Self::Any(Some(Box::new(spot)))
            }
        }
    }

    fn unpack(self) -> Spot {
        match self {
            Self::One(only) => Spot { branch: only.branch, names: vec![only], held: None },
            Self::Any(spot) => spot.map_or(Spot::NOWHERE, |it| *it),
        }
    }

    pub(crate) fn branch(&self) -> BranchIndex {
        match self {
            Self::One(only) => only.branch,
            Self::Any(spot) => spot.as_ref().map_or(Spot::NOWHERE.branch, |it| it.branch),
        }
    }

    pub(crate) fn names(&self) -> &[Name] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Any(spot) => spot.as_ref().map(|it| it.names.as_slice()).unwrap_or_default(),
        }
    }

    pub(crate) fn held(&self) -> Option<&Arc<OwnedFd>> {
        match self {
            Self::One(_) => None,
            Self::Any(spot) => spot.as_ref().and_then(|it| it.held.as_ref()),
        }
    }

    /// Returns the name that leads to the bytes.
    pub(crate) fn primary(&self) -> Option<&Name> {
        primary(self.branch(), self.names())
    }

    /// Takes all names away, for who lets go of the node.
    pub(crate) fn take_names(&mut self) -> Vec<Name> {
        match std::mem::replace(self, Self::Any(None)) {
            Self::One(only) => vec![only],
            Self::Any(spot) => spot.map(|it| it.names).unwrap_or_default(),
        }
    }

    pub(crate) fn is_named(&self, dir: &Arc<Node>, name: &OsStr) -> Option<&Name> {
        self.names().iter().find(|it| it.is(dir, name))
    }
}

/// The lock around where a node lies; held while a system call relies on it.
#[derive(Debug)]
pub(crate) struct SpotLock(RwLock<Packed>);

impl SpotLock {
    pub(crate) fn new(spot: Spot) -> Self {
        Self(RwLock::new(Packed::pack(spot)))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Packed> {
        self.0.read()
    }

    pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, Packed>> {
        self.0.try_read()
    }

    pub(crate) fn write(&self) -> SpotGuard<'_> {
        let mut packed = self.0.write();
        let spot = std::mem::replace(&mut *packed, Packed::Any(None)).unpack();
        SpotGuard { packed, spot }
    }

    pub(crate) fn get_mut(&mut self) -> &mut Packed {
        self.0.get_mut()
    }
}

/// Exclusive access to where a node lies.
#[derive(Debug)]
pub(crate) struct SpotGuard<'a> {
    packed: RwLockWriteGuard<'a, Packed>,
    spot: Spot,
}

impl Deref for SpotGuard<'_> {
    type Target = Spot;

    fn deref(&self) -> &Spot {
        &self.spot
    }
}

impl DerefMut for SpotGuard<'_> {
    fn deref_mut(&mut self) -> &mut Spot {
        &mut self.spot
    }
}

impl Drop for SpotGuard<'_> {
    fn drop(&mut self) {
        *self.packed = Packed::pack(std::mem::replace(&mut self.spot, Spot::NOWHERE));
    }
}
