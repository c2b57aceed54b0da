//! New and removed names, with the checks of the VFS.

use aufs_union::{New, Union};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::Direct;
use crate::subject::{Final, Outcome};
use crate::walk::{Place, SEARCH, WRITE, errno_of};

impl Direct {
    /// A free name in a directory that the caller may write, as `filename_create` of the kernel.
    pub(super) fn free_place(&self, union: &Union, path: &str) -> Outcome<Place> {
        let place = self.walk(union, path, Final::Itself)?;
        if place.found.is_some() {
            return Err(Errno::EXIST.into());
        }
        self.refuse_read_only()?;
        self.caller.may(&place.dir()?.attr, WRITE | SEARCH)?;
        Ok(place)
    }

    pub(super) fn create_special(&self, path: &str, what: New<'_>) -> Outcome<()> {
        let union = self.mounted()?;
        let place = self.free_place(union, path)?;
        let name = place.name_or(Errno::EXIST)?;
        union.create_special(&place.dir()?.node, name, what, self.creator()).map_err(errno_of)?;
        Ok(())
    }

    pub(super) fn remove(&self, path: &str, wants_dir: bool) -> Outcome<()> {
        let union = self.mounted()?;
        let place = self.walk(union, path, Final::Itself)?;
        // A path without a last name is the mount point itself, or ends in a dot.
        let nameless = match (wants_dir, path) {
            (true, ".") => Errno::BUSY,
            (true, _) => Errno::INVAL,
            (false, _) => Errno::ISDIR,
        };
        let name = place.name_or(nameless)?.to_owned();
        let dir = place.dir()?.clone();
        self.refuse_read_only()?;
        let victim = place.existing()?;
        self.caller.may_delete(&dir.attr, &victim.attr)?;
        let is_dir = victim.node.file_type() == FileType::Directory;
        match (wants_dir, is_dir) {
            (true, true) => union.rmdir(&dir.node, &name).map_err(errno_of),
            (false, false) => union.unlink(&dir.node, &name).map_err(errno_of),
            (true, false) => Err(Errno::NOTDIR.into()),
            (false, true) => Err(Errno::ISDIR.into()),
        }
    }
}
