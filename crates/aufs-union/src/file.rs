//! Open files: reading where the bytes are, writing where they may be.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::entry::Entry;
use aufs_host::xattr;
use parking_lot::RwLock;
use rustix::fs::{self, FallocateFlags, FileType, OFlags, SeekFrom, Stat, XattrFlags};
use rustix::io::Errno;

use crate::copy_up::Keep;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::node::Node;
use crate::union::Union;

/// What a program may do beyond its user, and a write takes away.
pub const CAPABILITY: &str = "security.capability";

/// A regular file somebody opened.
///
/// As in kernel aufs, opening copies nothing up; the first write does, and
/// whoever has the file open then sees the copy.
#[derive(Debug)]
pub struct OpenFile {
    node: Arc<Node>,
    opened: RwLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: Arc<File>,
    version: u64,
    is_writable: bool,
}

impl OpenFile {
    /// Returns the node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the file when it is `node`, of the writable branch, and open for writing.
    pub(crate) fn ready_to_change(&self, node: &Arc<Node>) -> Option<Arc<File>> {
        let opened = self.opened.read();
        // What is open for writing lies on the writable branch, unless another took its place.
        let is_ready = opened.is_writable && opened.version == node.version();
        (Arc::ptr_eq(&self.node, node) && is_ready).then(|| Arc::clone(&opened.file))
    }
}

impl Union {
    /// Opens a regular file for reading; [`Union::write_at`] makes it writable when needed.
    ///
    /// # Errors
    ///
    /// `EISDIR`; `EINVAL` for other types; else what the branch reports.
    pub fn open_file(&self, node: &Arc<Node>) -> Result<OpenFile, UnionError> {
        self.open_node(node).during_on("open", node)
    }

    fn open_node(&self, node: &Arc<Node>) -> Outcome<OpenFile> {
        match node.file_type() {
            FileType::RegularFile => (),
            FileType::Directory => return Err(UnionErrorKind::IsDirectory),
            _ => return Err(UnionErrorKind::Invalid),
        }
        let opened = self.reopen(node, false)?;
        Ok(OpenFile { node: Arc::clone(node), opened: RwLock::new(opened) })
    }

    /// Wraps a file of the writable branch that was just created with [`Union::create`].
    pub fn open_created(&self, node: &Arc<Node>, file: File) -> OpenFile {
        let opened = Opened { file: Arc::new(file), version: node.version(), is_writable: true };
        OpenFile { node: Arc::clone(node), opened: RwLock::new(opened) }
    }

    fn reopen(&self, node: &Arc<Node>, writable: bool) -> Outcome<Opened> {
        // Others may have put a FIFO or a device there, which is neither waited for nor used.
        let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY } | OFlags::NONBLOCK;
        let version = node.version();
        let file = self.on_entry(node, |_, entry| Ok(self.with_room(|| entry.open(flags))?))?;
        refuse_other_types(&fs::fstat(&file)?)?;
        Ok(Opened { file: Arc::new(file), version, is_writable: writable })
    }

    /// Returns an `O_PATH` handle on the file's bytes and the branch they lie on.
    ///
    /// # Errors
    ///
    /// What the branch reports.
    pub fn open_path(&self, node: &Arc<Node>) -> Result<(File, crate::branch::BranchIndex), UnionError> {
        self.on_entry(node, |branch, entry| Ok((self.with_room(|| entry.open(OFlags::PATH))?, branch)))
            .during_on("open", node)
    }

    fn readable(&self, open: &OpenFile) -> Outcome<Arc<File>> {
        {
            let opened = open.opened.read();
            if opened.version == open.node.version() {
                return Ok(Arc::clone(&opened.file));
            }
        }
        let mut opened = open.opened.write();
        if opened.version != open.node.version() {
            *opened = self.reopen(&open.node, false)?;
        }
        Ok(Arc::clone(&opened.file))
    }

    fn writable_file(&self, open: &OpenFile, keep: Keep) -> Outcome<Arc<File>> {
        {
            let opened = open.opened.read();
            if opened.is_writable && opened.version == open.node.version() {
                return Ok(Arc::clone(&opened.file));
            }
        }
        self.copy_node_up(&open.node, keep)?;
        open.node.diverge();
        let mut opened = open.opened.write();
        if !opened.is_writable || opened.version != open.node.version() {
            *opened = self.reopen(&open.node, true)?;
        }
        Ok(Arc::clone(&opened.file))
    }

    /// Reads at `offset` into `buffer`; fewer bytes than asked mean the end of the file.
    ///
    /// # Errors
    ///
    /// What `pread(2)` on the branch reports.
    pub fn read_at(&self, open: &OpenFile, buffer: &mut [u8], offset: u64) -> Result<usize, UnionError> {
        self.readable(open)
            .and_then(|file| {
                let mut done = 0;
                while done < buffer.len() {
                    match rustix::io::pread(&*file, &mut buffer[done..], offset + done as u64) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(Errno::INTR) => (),
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Ok(done)
            })
            .during_on("read", &open.node)
    }

    /// Writes `bytes` at `offset`, after copying the file up where it must be; returns how many it wrote.
    ///
    /// # Errors
    ///
    /// As [`Union::copy_up`], and what `pwrite(2)` reports when nothing could be written.
    pub fn write_at(&self, open: &OpenFile, bytes: &[u8], offset: u64) -> Result<usize, UnionError> {
        self.writable_file(open, Keep::All)
            .and_then(|file| write_all(&file, bytes, offset))
            .during_on("write", &open.node)
    }

    /// As [`Union::write_at`], for bytes that a kernel collected: the capabilities that the file has by now stay.
    ///
    /// The kernel took away those of before when it collected the bytes, but a write takes away any.
    /// `lacks_capabilities` says whether there surely are none.
    ///
    /// # Errors
    ///
    /// As [`Union::write_at`], and what `fgetxattr(2)` and `fsetxattr(2)` report.
    pub fn write_back_at(
        &self,
        open: &OpenFile,
        bytes: &[u8],
        offset: u64,
        lacks_capabilities: impl FnOnce() -> bool,
    ) -> Result<usize, UnionError> {
        let write = || -> Outcome<usize> {
            let file = self.writable_file(open, Keep::All)?;
            // Who gives them or takes them away meanwhile waits, so that neither is undone.
            let _copying = open.node.copying.lock();
            if self.no_xattrs || lacks_capabilities() {
                return write_all(&file, bytes, offset);
            }
            let (entry, name) = (Entry::Open(file.as_fd()), OsStr::new(CAPABILITY));
            let capability = match xattr::get(entry, name) {
                Err(Errno::OPNOTSUPP) => None,
                other => other?,
            };
            let written = write_all(&file, bytes, offset)?;
            if let Some(value) = capability {
                xattr::set(entry, name, &value, XattrFlags::empty())?;
            }
            Ok(written)
        };
        write().during_on("write", &open.node)
    }

    /// Flushes the file to its disk.
    ///
    /// # Errors
    ///
    /// What `fsync(2)` reports.
    pub fn sync_file(&self, open: &OpenFile, data_only: bool) -> Result<(), UnionError> {
        self.readable(open)
            .and_then(|file| {
                if data_only { fs::fdatasync(&*file) } else { fs::fsync(&*file) }.map_err(Into::into)
            })
            .during_on("sync", &open.node)
    }

    /// Reserves, punches or zeroes a range, after copying the file up where it must be.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` as the branch's file system; else as [`Union::write_at`].
    pub fn allocate(
        &self,
        open: &OpenFile,
        mode: u32,
        offset: u64,
        len_bytes: u64,
    ) -> Result<(), UnionError> {
        let flags = FallocateFlags::from_bits_retain(mode);
        self.writable_file(open, Keep::All)
            .and_then(|file| Ok(fs::fallocate(&*file, flags, offset, len_bytes)?))
            .during_on("allocate", &open.node)
    }

    /// Finds data or a hole from `offset` on.
    ///
    /// # Errors
    ///
    /// `ENXIO` beyond the end; else what `lseek(2)` reports.
    pub fn seek(&self, open: &OpenFile, whence: SeekFrom) -> Result<u64, UnionError> {
        self.readable(open).and_then(|file| Ok(fs::seek(&*file, whence)?)).during_on("seek", &open.node)
    }
}

fn write_all(file: &File, bytes: &[u8], offset: u64) -> Outcome<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => (),
            // A full disk: the caller learns what got there first.
            Err(_) if done != 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

/// Refuses what is no regular file any more.
pub(crate) fn refuse_other_types(stat: &Stat) -> Outcome<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(UnionErrorKind::Stale),
    }
}
