//! Open files: which calls their flags allow, and what opening checks.

use std::sync::Arc;

use aufs_union::attr::SetAttr;
use aufs_union::{Node, OpenFile, Union};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Direct;
use crate::subject::{Fault, Final, Outcome};
use crate::walk::{Place, READ, SEARCH, WRITE, errno_of};

/// An open file of a union.
#[derive(Debug)]
pub struct OpenNode {
    pub(super) node: Arc<Node>,
    /// None for directories and `O_PATH`.
    pub(super) file: Option<OpenFile>,
    pub(super) offset: u64,
    pub(super) flags: OFlags,
}

impl OpenNode {
    pub(super) fn file(&self) -> Outcome<&OpenFile> {
        let errno = if self.node.file_type() == FileType::Directory { Errno::ISDIR } else { Errno::BADF };
        self.file.as_ref().ok_or(Fault::Errno(errno))
    }

    pub(super) fn can_read(&self) -> bool {
        !self.flags.intersects(OFlags::WRONLY | OFlags::PATH)
    }

    pub(super) fn can_write(&self) -> bool {
        self.flags.intersects(OFlags::WRONLY | OFlags::RDWR)
    }

    pub(super) fn writable(&self) -> Outcome<&OpenFile> {
        if self.can_write() { self.file() } else { Err(Errno::BADF.into()) }
    }
}

impl Direct {
    /// Takes set-id bits and capabilities off a file that is about to be written, as the kernel does.
    pub(super) fn strip_privileges(&self, union: &Union, node: &Arc<Node>) -> Outcome<()> {
        const CAPABILITY: &str = "security.capability";
        let mode = union.attributes(node).map_err(errno_of)?.mode;
        let mut kept = mode & !0o4000;
        if mode & 0o2010 == 0o2010 {
            kept &= !0o2000;
        }
        if !self.caller.is_root() && kept != mode {
            self.change(union, node, &SetAttr { mode: Some(kept & 0o7777), ..SetAttr::default() })?;
        }
        match union.xattr(node, CAPABILITY.as_ref()) {
            Ok(Some(_)) => union.remove_xattr(node, CAPABILITY.as_ref()).map_err(errno_of),
            Ok(None) => Ok(()),
            Err(error) if error.errno() == Errno::OPNOTSUPP => Ok(()),
            Err(error) => Err(errno_of(error)),
        }
    }

    pub(super) fn cut(&self, union: &Union, node: &Arc<Node>, len_bytes: u64) -> Outcome<()> {
        self.strip_privileges(union, node)?;
        self.change(union, node, &SetAttr { len_bytes: Some(len_bytes), ..SetAttr::default() })
    }

    /// Opens or creates a regular file or directory.
    pub(super) fn open_at(&self, union: &Union, path: &str, flags: OFlags, mode: Mode) -> Outcome<OpenNode> {
        if flags.contains(OFlags::TMPFILE) {
            return self.create_nameless(union, path, flags, mode);
        }
        let stays = flags.contains(OFlags::NOFOLLOW) || flags.contains(OFlags::CREATE | OFlags::EXCL);
        let last = if stays { Final::Itself } else { Final::Follow };
        let place = self.walk(union, path, last)?;
        let Some(found) = place.found.clone() else {
            return self.create(union, &place, flags, mode);
        };
        if flags.contains(OFlags::CREATE | OFlags::EXCL) {
            return Err(Errno::EXIST.into());
        }
        let mut open = OpenNode { node: Arc::clone(&found.node), file: None, offset: 0, flags };
        let kind = found.node.file_type();
        if flags.contains(OFlags::DIRECTORY) && kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        if flags.contains(OFlags::PATH) {
            return Ok(open);
        }
        let writes = open.can_write() || flags.contains(OFlags::TRUNC);
        match kind {
            FileType::Symlink => return Err(Errno::LOOP.into()),
            FileType::Directory if writes || flags.contains(OFlags::CREATE) => {
                return Err(Errno::ISDIR.into());
            }
            FileType::Directory | FileType::RegularFile => {}
            _ => return Err(Fault::Unsupported("the kernel opens devices and pipes itself")),
        }
        let rights = if open.can_read() { READ } else { 0 } | if writes { WRITE } else { 0 };
        if writes {
            self.refuse_read_only()?;
        }
        self.caller.may(&found.attr, rights)?;
        if kind == FileType::RegularFile {
            if flags.contains(OFlags::TRUNC) {
                self.cut(union, &found.node, 0)?;
            }
            open.file = Some(union.open_file(&found.node).map_err(errno_of)?);
        }
        Ok(open)
    }

    fn create_nameless(&self, union: &Union, path: &str, flags: OFlags, mode: Mode) -> Outcome<OpenNode> {
        let dir = self.walk(union, path, Final::Follow)?.existing()?;
        if dir.node.file_type() != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        self.refuse_read_only()?;
        self.caller.may(&dir.attr, WRITE | SEARCH)?;
        let (made, file) =
            union.create_nameless(&dir.node, mode.bits() & 0o7777, self.creator()).map_err(errno_of)?;
        let file = Some(union.open_created(&made.node, file));
        Ok(OpenNode { node: made.node, file, offset: 0, flags })
    }

    pub(super) fn create(
        &self,
        union: &Union,
        place: &Place,
        flags: OFlags,
        mode: Mode,
    ) -> Outcome<OpenNode> {
        if !flags.contains(OFlags::CREATE) {
            return Err(Errno::NOENT.into());
        }
        self.refuse_read_only()?;
        let dir = place.dir()?;
        self.caller.may(&dir.attr, WRITE | SEARCH)?;
        let name = place.name_or(Errno::ISDIR)?;
        let (made, file) =
            union.create(&dir.node, name, mode.bits() & 0o7777, self.creator()).map_err(errno_of)?;
        let file = Some(union.open_created(&made.node, file));
        Ok(OpenNode { node: made.node, file, offset: 0, flags })
    }
}
