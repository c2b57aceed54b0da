//! Places out of sight where new entries inherit what they would inherit where they will show.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aufs_host::draft::{Draft, Special};
use aufs_host::entry::Entry;
use aufs_host::xattr;
use rustix::fs::{self, XattrFlags};

use crate::create::Place;
use crate::error::Outcome;
use crate::union::Union;

/// The attribute with the ACL that new entries of a directory get.
pub(crate) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// A directory among the drafts that passes on the group and the default ACL of another; it goes when dropped.
#[derive(Debug)]
pub(crate) struct Heir<'a> {
    dir: OwnedFd,
    _draft: Draft<'a>,
}

impl Heir<'_> {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Union {
    /// Returns where to draft an entry of `place`, whose mode and group were judged; none where nothing is inherited.
    pub(crate) fn heir_of(&self, place: &Place<'_>) -> Outcome<Option<Heir<'_>>> {
        const PASSES_GROUP: u32 = 0o2700;
        let passes_group = place.state.passes_group == Some(true);
        let parent = Entry::Held(place.parent.as_fd());
        let acl = match place.state.default_acl {
            Some(true) => xattr::get(parent, OsStr::new(DEFAULT_ACL))?,
            _ => None,
        };
        if !passes_group && acl.is_none() {
            return Ok(None);
        }
        let draft = Draft::special(self.writable()?.drafts.as_fd(), Special::Directory, 0o700)?;
        if passes_group {
            draft.entry().chown(None, Some(fs::fstat(&place.parent)?.st_gid))?;
            draft.entry().chmod(PASSES_GROUP)?;
        }
        if let Some(acl) = acl {
            xattr::set(draft.entry(), OsStr::new(DEFAULT_ACL), &acl, XattrFlags::empty())?;
        }
        let dir = self.with_room(|| draft.open_directory())?;
        Ok(Some(Heir { dir, _draft: draft }))
    }
}
