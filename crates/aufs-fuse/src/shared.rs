//! The state behind the handlers: which nodes and files the kernel knows, and how each open goes.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aufs_union::attr::SetAttr;
use aufs_union::{DirEntry, Keep, Node, Union, UnionError};
use fuser::{Errno, FileHandle, INodeNo, Notifier, OpenFlags};
use rustix::fs::{FileType, OFlags};
use tracing::{debug, warn};

use crate::attributes::{FOREVER, errno_of};
use crate::handles::{Handle, Handles};
use crate::numbers::{Numbered, Numbers};
use crate::passthrough::Way;
use crate::workers::Workers;

/// The attribute of the root that names the server's process, for `aufs umount`.
const SERVER_XATTR: &str = "user.aufs.server";
/// Largest single read or write.
pub(crate) const REQUEST_LEN_BYTES_MAX: u32 = 1 << 20;
/// Largest file, read or write that is dealt with at once.
const SHORT_LEN_BYTES: u64 = 64 << 10;
/// Threads for what takes long.
const WORKERS_MAX: usize = 16;
/// Entries taken from the union at a time while listing.
const LISTING_CHUNK: usize = 256;

/// What handlers and notifications share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) union: Union,
    pub(crate) numbers: Numbers,
    pub(crate) handles: Handles,
    pub(crate) workers: Workers,
    pub(crate) passes: AtomicBool,
    /// How long names and attributes keep.
    pub(crate) ttl: Duration,
    notifier: OnceLock<Notifier>,
}

impl Shared {
    pub(crate) fn new(union: Union, revalidate: bool) -> Self {
        let numbers = Numbers::new(union.root());
        let ttl = if revalidate { Duration::ZERO } else { FOREVER };
        let (handles, workers) = (Handles::default(), Workers::new(WORKERS_MAX));
        Self {
            union,
            numbers,
            handles,
            workers,
            passes: AtomicBool::new(false),
            ttl,
            notifier: OnceLock::new(),
        }
    }

    /// Whether the kernel agreed to do the I/O itself.
    pub(crate) fn passes(&self) -> bool {
        self.passes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        if self.notifier.set(notifier).is_err() {
            warn!("the notifier is set already");
        }
    }

    pub(crate) fn node(&self, number: INodeNo) -> Result<Arc<Numbered>, Errno> {
        self.numbers.get(number.0).ok_or(Errno::ESTALE)
    }

    fn handle(&self, number: FileHandle) -> Result<Arc<Handle>, Errno> {
        self.handles.get(number.0).ok_or(Errno::EBADF)
    }

    /// Returns how long attributes of `numbered` keep.
    pub(crate) fn attr_ttl(&self, numbered: &Numbered) -> Duration {
        // Through a mapping the kernel writes without a word, and an outdated number must not linger.
        if numbered.has_writers() || !self.numbers.is_current(numbered) { Duration::ZERO } else { self.ttl }
    }

    /// As [`Shared::attr_ttl`], for a reply in which the node number stands for `st_ino` too.
    pub(crate) fn entry_attr_ttl(&self, numbered: &Numbered) -> Duration {
        if numbered.is_plain() { self.attr_ttl(numbered) } else { Duration::ZERO }
    }

    /// Makes the kernel ask again for the attributes of `number`.
    fn invalidate(&self, number: u64) {
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(INodeNo(number), -1, 0)
        {
            debug!(%error, number, "attributes not invalidated");
        }
    }

    /// Whether a change of `number` copies so much first that others should not wait for it.
    pub(crate) fn copies_much(&self, number: INodeNo) -> bool {
        self.numbers.get(number.0).is_some_and(|it| self.copies_much_of(&it.node))
    }

    /// As [`Shared::copies_much`], for what is shown under a name.
    pub(crate) fn copies_much_under(&self, parent: INodeNo, name: &OsStr) -> bool {
        let Some(dir) = self.numbers.get(parent.0) else { return false };
        matches!(self.union.lookup(&dir.node, name), Ok(Some(found)) if self.copies_much_of(&found.node))
    }

    fn copies_much_of(&self, node: &Arc<Node>) -> bool {
        node.file_type() == FileType::RegularFile
            && Some(node.branch()) != self.union.writable_branch()
            && self.union.attributes(node).is_ok_and(|attr| SHORT_LEN_BYTES < attr.len_bytes)
    }

    /// Whether so many bytes take long to move.
    pub(crate) fn moves_much(len_bytes: u64) -> bool {
        SHORT_LEN_BYTES < len_bytes
    }

    /// Whether a file opened so is copied up at once, with its bytes, in passthrough mode.
    pub(crate) fn copies_at_open(flags: OpenFlags) -> bool {
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
        flags.intersects(OFlags::ACCMODE) && !flags.contains(OFlags::TRUNC)
    }

    /// Opens a regular file in the way the kernel can use.
    pub(crate) fn open(
        &self,
        number: INodeNo,
        flags: OpenFlags,
        uid: u32,
        register: impl FnOnce(&std::fs::File) -> io::Result<fuser::BackingId>,
    ) -> Result<(u64, Way), Errno> {
        let numbered = self.node(number)?;
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
        let truncates = flags.contains(OFlags::TRUNC);
        let is_writer = truncates || flags.intersects(OFlags::ACCMODE);
        if !self.passes() {
            let file = self.union.open_file(&numbered.node).map_err(|it| errno_of(&it))?;
            if truncates {
                self.truncate(&numbered.node)?;
                self.clear_set_id(&numbered.node, uid)?;
            }
            // Every write comes by here, so the kernel keeps the attributes right itself.
            let handle = Handle::new(numbered, false, false, Some(file));
            return Ok((self.handles.insert(handle), Way::Cached));
        }
        if is_writer {
            // Before the lock, which others need to open and close the file while its bytes are copied.
            let keep = if truncates { Keep::First(0) } else { Keep::All };
            self.union.copy_up(&numbered.node, keep).map_err(|it| errno_of(&it))?;
            numbered.node.diverge();
        }
        let way = {
            let mut passing = numbered.passing.lock();
            if !self.numbers.is_current(&numbered) {
                return Ok((0, Way::Moved));
            }
            let way =
                passing.open(&self.union, &numbered, is_writer, register).map_err(|it| errno_of(&it))?;
            if matches!(way, Way::Moved) {
                self.numbers.renumber(&numbered);
            }
            way
        };
        if is_writer || matches!(way, Way::Moved) {
            self.invalidate(numbered.number);
        }
        if matches!(way, Way::Moved) {
            return Ok((0, way));
        }
        let is_passthrough = matches!(way, Way::Passthrough(_));
        let handle = Handle::new(Arc::clone(&numbered), is_writer, is_passthrough, None);
        let ready = if truncates { self.truncate(&numbered.node) } else { Ok(()) };
        // No WRITE will come by here, so what a write does to these bits happens now.
        let ready =
            ready.and_then(|()| if is_writer { self.clear_set_id(&numbered.node, uid) } else { Ok(()) });
        if let Err(errno) = ready {
            numbered.passing.lock().release(&numbered, is_writer, is_passthrough);
            return Err(errno);
        }
        Ok((self.handles.insert(handle), way))
    }

    fn truncate(&self, node: &Arc<Node>) -> Result<(), Errno> {
        let change = SetAttr { len_bytes: Some(0), ..SetAttr::default() };
        self.union.set_attributes(node, &change).map(drop).map_err(|it| errno_of(&it))
    }

    /// Does what a change of content by `uid` does to set-id bits; root may keep them.
    pub(crate) fn clear_set_id(&self, node: &Arc<Node>, uid: u32) -> Result<(), Errno> {
        if uid == 0 { Ok(()) } else { self.union.clear_set_id(node).map_err(|it| errno_of(&it)) }
    }

    pub(crate) fn read(&self, handle: FileHandle, offset: u64, len_bytes: u32) -> Result<Vec<u8>, Errno> {
        let handle = self.handle(handle)?;
        let file = handle.file(&self.union).map_err(|it| errno_of(&it))?;
        let mut buffer = vec![0; len_bytes.min(REQUEST_LEN_BYTES_MAX) as usize];
        let count = self.union.read_at(&file, &mut buffer, offset).map_err(|it| errno_of(&it))?;
        buffer.truncate(count);
        Ok(buffer)
    }

    pub(crate) fn on_file<T>(
        &self,
        handle: FileHandle,
        act: impl FnOnce(&aufs_union::OpenFile) -> Result<T, UnionError>,
    ) -> Result<T, Errno> {
        let handle = self.handle(handle)?;
        handle.file(&self.union).and_then(|file| act(&file)).map_err(|it| errno_of(&it))
    }

    /// Returns the listing of `number` from `offset` on, `.` and `..` included.
    pub(crate) fn list(&self, number: INodeNo, offset: u64) -> Result<(Arc<Numbered>, Vec<DirEntry>), Errno> {
        let numbered = self.node(number)?;
        let node = &numbered.node;
        let mut entries = Vec::new();
        for (name, of, at) in [(".", Arc::clone(node), 0), ("..", node.parent_or_self(), 1)] {
            if offset <= at {
                let (name, file_type) = (name.into(), of.file_type());
                entries.push(DirEntry { name, ino: of.ino(), file_type, next_offset: at + 1 });
            }
        }
        entries.extend(self.union.read_directory(node, offset, LISTING_CHUNK).map_err(|it| errno_of(&it))?);
        Ok((numbered, entries))
    }

    pub(crate) fn xattr(&self, number: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let numbered = self.node(number)?;
        if number.0 == Node::ROOT_ID && name == SERVER_XATTR {
            return Ok(std::process::id().to_string().into_bytes());
        }
        match self.union.xattr(&numbered.node, name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Errno::ENODATA),
            Err(error) => Err(errno_of(&error)),
        }
    }
}
