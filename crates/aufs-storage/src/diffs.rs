//! What a layer adds to another: as an archive, as a list, as a size; and an archive made into a layer.
//!
//! To the layer directly below, the layer's own directory is the answer. Any other is compared as it is mounted.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::archive::{Applied, ApplyOptions, PackOptions, Packed, apply, pack, pack_changes};
use crate::changes::{self, Change};
use crate::count::State;
use crate::driver::Driver;
use crate::error::{StorageError, StorageErrorKind, failed};
use crate::id::LayerId;

/// What a difference is told of.
enum Told {
    /// The layer's own directory, and those below it, topmost first.
    Own(OwnedFd, Vec<OwnedFd>),
    /// The layer with all below it, as it is mounted.
    Whole(OwnedFd),
    /// The same, and what it differs in from another layer.
    Other(OwnedFd, Vec<Change>),
}

impl Driver {
    /// Writes what a layer adds to another as an uncompressed archive; without another, all that it shows.
    ///
    /// Of a base layer all is told whatever the other is, as by Docker's driver.
    ///
    /// # Errors
    ///
    /// [`Unknown`](StorageErrorKind::Unknown), [`UnknownParent`](StorageErrorKind::UnknownParent); [`Archive`](StorageErrorKind::Archive), upon which what was written is worth nothing.
    pub fn diff(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        out: impl Write,
        options: &PackOptions,
    ) -> Result<Packed, StorageError> {
        let diff = |told: &Told| match told {
            Told::Own(root, _) | Told::Whole(root) => Ok(pack(root.as_fd(), out, options)?),
            Told::Other(root, changes) => Ok(pack_changes(root.as_fd(), changes, out, options)?),
        };
        self.tell(id, parent, diff).map_err(|kind| kind.during("diff", id))
    }

    /// Lists what a layer adds to another, changes and deletes in it; without another, all that it shows.
    ///
    /// # Errors
    ///
    /// As [`Driver::diff`].
    pub fn changes(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<Change>, StorageError> {
        let list = |told: &Told| match told {
            Told::Own(root, lowers) => {
                let lowers: Vec<_> = lowers.iter().map(AsFd::as_fd).collect();
                Ok(changes::changes(root.as_fd(), &lowers)?)
            }
            Told::Whole(root) => Ok(changes::changes(root.as_fd(), &[])?),
            Told::Other(_, changes) => Ok(changes.clone()),
        };
        self.tell(id, parent, list).map_err(|kind| kind.during("list the changes of", id))
    }

    /// Sums up the lengths of the files that a layer adds to another, in bytes; without another, of all that it shows.
    ///
    /// # Errors
    ///
    /// As [`Driver::diff`].
    pub fn diff_size(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<u64, StorageError> {
        let sum = |told: &Told| match told {
            Told::Own(root, _) | Told::Whole(root) => Ok(changes::size(root.as_fd())?),
            Told::Other(root, changes) => Ok(changes::size_of(root.as_fd(), changes)?),
        };
        self.tell(id, parent, sum).map_err(|kind| kind.during("measure", id))
    }

    /// Unpacks an uncompressed archive into a layer, whiteouts and all.
    ///
    /// # Errors
    ///
    /// [`InUse`](StorageErrorKind::InUse) while it is mounted; [`Archive`](StorageErrorKind::Archive), upon which
    /// the layer holds some of the archive and is to be removed.
    pub fn apply_diff(
        &self,
        id: &LayerId,
        tar: impl Read,
        options: &ApplyOptions,
    ) -> Result<Applied, StorageError> {
        let apply = || -> Result<Applied, StorageErrorKind> {
            let (ancestors, lock) = self.known(id)?;
            let counted = self.users_of(id, &ancestors, &lock)?;
            if let State::Mounted(_) = counted.state {
                return Err(StorageErrorKind::InUse { count: counted.users });
            }
            Ok(apply(self.home.open_diff(id)?.as_fd(), tar, options)?)
        };
        apply().map_err(|kind| kind.during("apply to", id))
    }

    fn tell<T>(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        act: impl FnOnce(&Told) -> Result<T, StorageErrorKind>,
    ) -> Result<T, StorageErrorKind> {
        let ancestors = self.home.ancestors(id)?;
        match (ancestors.first(), parent) {
            (Some(_), None) => self.mounted(id, |root| act(&Told::Whole(root))),
            (Some(own), Some(other)) if own != other => self.mounted(id, |root| {
                let compare = |old: OwnedFd| Ok(changes::between(old.as_fd(), root.as_fd())?);
                let changes = self.mounted(other, compare).map_err(|kind| match kind {
                    StorageErrorKind::Unknown => StorageErrorKind::UnknownParent { parent: other.clone() },
                    kind => kind,
                })?;
                act(&Told::Other(root, changes))
            }),
            _ => {
                let lowers = ancestors.iter().map(|it| self.home.open_diff(it)).collect::<Result<_, _>>()?;
                act(&Told::Own(self.home.open_diff(id)?, lowers))
            }
        }
    }

    /// Does something with the tree of a layer while that is mounted.
    fn mounted<T>(
        &self,
        id: &LayerId,
        act: impl FnOnce(OwnedFd) -> Result<T, StorageErrorKind>,
    ) -> Result<T, StorageErrorKind> {
        self.within(id, |root| {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            act(rustix::fs::open(root, flags, Mode::empty()).map_err(failed("open", root))?)
        })
    }
}
