//! The handlers the FUSE library calls, a few lines each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use aufs_union::attr::{Creator, SetAttr, SetTime};
use aufs_union::{New, RenameMode};
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::{SeekFrom, XattrFlags};
use tracing::warn;

use crate::attributes::{errno_of, file_attr, host_device, timespec_of};
use crate::handles::Handle;
use crate::listing;
use crate::passthrough::Way;
use crate::replies;
use crate::shared::{REQUEST_LEN_BYTES_MAX, Shared};

/// The file system as the FUSE library sees it.
#[derive(Debug)]
pub(crate) struct Served {
    shared: Arc<Shared>,
    wants_passthrough: bool,
}

impl Served {
    pub(crate) fn new(shared: Arc<Shared>, wants_passthrough: bool) -> Self {
        Self { shared, wants_passthrough }
    }

    /// Pages of the last open are still right when nobody else writes to the branches.
    fn cache_flags(&self) -> FopenFlags {
        if self.shared.union.revalidates() { FopenFlags::empty() } else { FopenFlags::FOPEN_KEEP_CACHE }
    }
}

fn creator(req: &Request, umask: u32) -> Creator {
    Creator { uid: req.uid(), gid: req.gid(), umask }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timespec_of(time)),
    }
}

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO;
        if self.shared.union.revalidates() {
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        if let Err(missing) = config.add_capabilities(wanted) {
            warn!(?missing, "an old kernel; going on without");
            let rest = wanted & !missing;
            if config.add_capabilities(rest).is_err() {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        if self.wants_passthrough
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(2).is_ok()
        {
            self.shared.passes.store(true, Ordering::Relaxed);
        }
        if config.set_max_write(REQUEST_LEN_BYTES_MAX).is_err() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let dir = match self.shared.node(parent) {
            Ok(dir) => dir,
            Err(errno) => return reply.error(errno),
        };
        if !dir.node.is_busy() {
            return replies::entry(&self.shared, reply, self.shared.union.lookup(&dir.node, name));
        }
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.shared.workers.run(true, move || {
            replies::entry(&shared, reply, shared.union.lookup(&dir.node, &name));
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.shared.numbers.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.shared.node(ino) {
            Ok(numbered) => {
                let attr = self.shared.union.attributes(&numbered.node);
                replies::attr(&self.shared, reply, &numbered, attr);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let numbered = match self.shared.node(ino) {
            Ok(numbered) => numbered,
            Err(errno) => return reply.error(errno),
        };
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let change = SetAttr { mode, uid, gid, len_bytes: size, atime, mtime };
        let copies_much = size.is_none_or(Shared::moves_much) && self.shared.copies_much(ino);
        let (shared, caller) = (Arc::clone(&self.shared), req.uid());
        self.shared.workers.run(copies_much, move || {
            let mut attr = shared.union.set_attributes(&numbered.node, &change);
            if size.is_some() && attr.is_ok() {
                if let Err(errno) = shared.clear_set_id(&numbered.node, caller) {
                    return reply.error(errno);
                }
                attr = shared.union.attributes(&numbered.node);
            }
            replies::attr(&shared, reply, &numbered, attr);
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.shared.node(ino).and_then(|numbered| {
            self.shared.union.read_link(&numbered.node).map_err(|error| errno_of(&error))
        });
        match target {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        match self.shared.node(parent) {
            Ok(dir) => {
                let what = New::Node(mode, host_device(rdev));
                let made = self.shared.union.create_special(&dir.node, name, what, creator(req, umask));
                replies::entry(&self.shared, reply, made.map(Some));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        match self.shared.node(parent) {
            Ok(dir) => {
                let what = New::Directory(mode);
                let made = self.shared.union.create_special(&dir.node, name, what, creator(req, umask));
                replies::entry(&self.shared, reply, made.map(Some));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self
            .shared
            .node(parent)
            .and_then(|dir| self.shared.union.unlink(&dir.node, name).map_err(|error| errno_of(&error)));
        replies::empty(reply, done);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self
            .shared
            .node(parent)
            .and_then(|dir| self.shared.union.rmdir(&dir.node, name).map_err(|error| errno_of(&error)));
        replies::empty(reply, done);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        match self.shared.node(parent) {
            Ok(dir) => {
                let what = New::Symlink(target.as_os_str());
                let made = self.shared.union.create_special(&dir.node, link_name, what, creator(req, 0));
                replies::entry(&self.shared, reply, made.map(Some));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            it if it.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let ends = self.shared.node(parent).and_then(|from| Ok((from, self.shared.node(newparent)?)));
        let copies_much = self.shared.copies_much_under(parent, name)
            || mode == RenameMode::Exchange && self.shared.copies_much_under(newparent, newname);
        let shared = Arc::clone(&self.shared);
        let (name, newname) = (name.to_owned(), newname.to_owned());
        self.shared.workers.run(copies_much, move || {
            let done = ends.and_then(|(from, to)| {
                let renamed = shared.union.rename(&from.node, &name, &to.node, &newname, mode);
                renamed.map_err(|error| errno_of(&error))
            });
            replies::empty(reply, done);
        });
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let ends = self.shared.node(ino).and_then(|node| Ok((node, self.shared.node(newparent)?)));
        let (shared, newname) = (Arc::clone(&self.shared), newname.to_owned());
        self.shared.workers.run(self.shared.copies_much(ino), move || match ends {
            Ok((numbered, dir)) => {
                let linked = shared.union.link(&numbered.node, &dir.node, &newname);
                replies::entry(&shared, reply, linked.map(Some));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (shared, caller, cache_flags) = (Arc::clone(&self.shared), req.uid(), self.cache_flags());
        let copies_much =
            self.shared.passes() && Shared::copies_at_open(flags) && self.shared.copies_much(ino);
        self.shared.workers.run(copies_much, move || {
            match shared.open(ino, flags, caller, |file| reply.open_backing(file)) {
                Ok((_, Way::Moved)) => reply.error(Errno::ESTALE),
                Ok((handle, Way::Cached)) => reply.opened(FileHandle(handle), cache_flags),
                Ok((handle, Way::Passthrough(id))) => {
                    reply.opened_passthrough(FileHandle(handle), FopenFlags::empty(), &id);
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let shared = Arc::clone(&self.shared);
        self.shared.workers.run(Shared::moves_much(size.into()), move || {
            match shared.read(fh, offset, size) {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let takes_long = Shared::moves_much(data.len() as u64) || self.shared.copies_much(ino);
        let shared = Arc::clone(&self.shared);
        let write = move |data: &[u8]| {
            let written = shared.on_file(fh, |file| {
                let count = shared.union.write_at(file, data, offset)?;
                if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
                    shared.union.clear_set_id(file.node())?;
                }
                Ok(count)
            });
            match written {
                Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        };
        if takes_long {
            let data = data.to_vec();
            self.shared.workers.run(true, move || write(&data));
        } else {
            write(data);
        }
    }

    /// The kernel stops asking after this answer: nothing is buffered here.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(handle) = self.shared.handles.remove(fh.0) {
            let numbered = &handle.numbered;
            numbered.passing.lock().release(numbered, handle.is_writer, handle.is_passthrough);
        }
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let shared = Arc::clone(&self.shared);
        self.shared.workers.run(true, move || {
            let done = shared.on_file(fh, |file| shared.union.sync_file(file, datasync));
            replies::empty(reply, done);
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = if self.shared.union.revalidates() {
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        };
        let Some(numbered) = self.shared.numbers.get(ino.0) else { return reply.error(Errno::ESTALE) };
        let shared = Arc::clone(&self.shared);
        let must_read = !self.shared.union.is_indexed(&numbered.node);
        // A directory is read whole before it is listed; a large one takes its time.
        self.shared.workers.run(must_read, move || match shared.union.read_directory(&numbered.node, 0, 1) {
            Ok(_) => reply.opened(FileHandle(0), flags),
            Err(error) => reply.error(errno_of(&error)),
        });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        listing::names(&self.shared, ino, offset, reply);
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        listing::names_and_attributes(&self.shared, ino, offset, reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let shared = Arc::clone(&self.shared);
        self.shared.workers.run(true, move || {
            let done = shared.node(ino).and_then(|numbered| {
                shared.union.sync_directory(&numbered.node).map_err(|error| errno_of(&error))
            });
            replies::empty(reply, done);
        });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.shared.union.stat_fs() {
            Ok(it) => {
                let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                reply.statfs(
                    it.f_blocks,
                    it.f_bfree,
                    it.f_bavail,
                    it.f_files,
                    it.f_ffree,
                    narrow(it.f_bsize),
                    narrow(it.f_namemax),
                    narrow(it.f_frsize),
                );
            }
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
        let shared = Arc::clone(&self.shared);
        let (name, value) = (name.to_owned(), value.to_owned());
        self.shared.workers.run(self.shared.copies_much(ino), move || {
            let done = shared.node(ino).and_then(|numbered| {
                let set = shared.union.set_xattr(&numbered.node, &name, &value, flags);
                set.map_err(|error| errno_of(&error))
            });
            replies::empty(reply, done);
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        replies::bytes(reply, size, self.shared.xattr(ino, name));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.shared.node(ino).and_then(|numbered| {
            self.shared.union.xattr_names(&numbered.node).map_err(|error| errno_of(&error))
        });
        let bytes = names.map(|names| {
            let mut bytes = Vec::new();
            for name in names {
                bytes.extend_from_slice(name.as_bytes());
                bytes.push(0);
            }
            bytes
        });
        replies::bytes(reply, size, bytes);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.shared.workers.run(self.shared.copies_much(ino), move || {
            let done = shared.node(ino).and_then(|numbered| {
                shared.union.remove_xattr(&numbered.node, &name).map_err(|error| errno_of(&error))
            });
            replies::empty(reply, done);
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.shared.node(parent).and_then(|dir| {
            let made = self.shared.union.create(&dir.node, name, mode, creator(req, umask));
            made.map_err(|error| errno_of(&error))
        });
        let (found, file) = match made {
            Ok(made) => made,
            Err(errno) => return reply.error(errno),
        };
        let numbered = self.shared.numbers.tell(&found.node);
        let id = if self.shared.passes() { reply.open_backing(&file).ok().map(Arc::new) } else { None };
        if let Some(id) = &id {
            numbered.passing.lock().created(&numbered, id, found.node.version());
        }
        let open = self.shared.union.open_created(&found.node, file);
        let handle = Handle::new(Arc::clone(&numbered), id.is_some(), id.is_some(), Some(open));
        let handle = FileHandle(self.shared.handles.insert(handle));
        // One time serves for name and attributes here. The kernel drops the attributes
        // itself at each write, and a mapping needs a length first, which is set by SETATTR.
        let ttl = if numbered.is_plain() { self.shared.ttl } else { Duration::ZERO };
        let attr = file_attr(&found.attr, numbered.number);
        match id {
            Some(id) => {
                reply.created_passthrough(&ttl, &attr, Generation(0), handle, FopenFlags::empty(), &id);
            }
            None => reply.created(&ttl, &attr, Generation(0), handle, self.cache_flags()),
        }
    }

    fn fallocate(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (shared, caller) = (Arc::clone(&self.shared), req.uid());
        self.shared.workers.run(true, move || {
            let done = shared.on_file(fh, |file| {
                shared.union.allocate(file, mode.cast_unsigned(), offset, length)?;
                if caller == 0 { Ok(()) } else { shared.union.clear_set_id(file.node()) }
            });
            replies::empty(reply, done);
        });
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        const SEEK_DATA: i32 = 3;
        const SEEK_HOLE: i32 = 4;
        let offset = offset.cast_unsigned();
        let whence = match whence {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return reply.error(Errno::EINVAL),
        };
        match self.shared.on_file(fh, |file| self.shared.union.seek(file, whence)) {
            Ok(found) => reply.offset(found.cast_signed()),
            Err(errno) => reply.error(errno),
        }
    }
}
