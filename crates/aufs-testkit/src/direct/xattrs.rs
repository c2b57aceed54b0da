//! Who may read and change which extended attribute.

use std::sync::Arc;

use aufs_union::{Found, Node, Union};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::Direct;
use crate::subject::{Final, Outcome};
use crate::walk::{READ, WRITE};

impl Direct {
    /// The entry at `path` to read an extended attribute of.
    pub(super) fn xattr_reader(&self, union: &Union, path: &str, name: &str) -> Outcome<Arc<Node>> {
        let found = self.walk(union, path, Final::Itself)?.existing()?;
        if name.starts_with("user.") {
            if !has_user_xattrs(&found) {
                return Err(Errno::NODATA.into());
            }
            self.caller.may(&found.attr, READ)?;
        } else if name.starts_with("trusted.") && !self.caller.is_root() {
            return Err(Errno::NODATA.into());
        }
        Ok(found.node)
    }

    /// The entry at `path` to change an extended attribute of.
    pub(super) fn xattr_writer(&self, union: &Union, path: &str, name: &str) -> Outcome<Arc<Node>> {
        let found = self.walk(union, path, Final::Itself)?.existing()?;
        self.refuse_read_only()?;
        self.may_change_xattr(&found, name)?;
        Ok(found.node)
    }

    pub(super) fn may_change_xattr(&self, found: &Found, name: &str) -> Outcome<()> {
        let is_allowed = match name.split_once('.') {
            Some(("user", _)) => {
                self.caller.may(&found.attr, WRITE)?;
                has_user_xattrs(found)
            }
            Some(("trusted" | "security", _)) => self.caller.is_root(),
            Some(("system", _)) => self.caller.owns(&found.attr),
            _ => return Err(Errno::OPNOTSUPP.into()),
        };
        if is_allowed { Ok(()) } else { Err(Errno::PERM.into()) }
    }
}

fn has_user_xattrs(found: &Found) -> bool {
    matches!(found.node.file_type(), FileType::RegularFile | FileType::Directory)
}
