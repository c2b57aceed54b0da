//! Requests about open files and their bytes.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;

use aufs_fusedev::abi::flags::{FSYNC_DATA_ONLY, OpenedFlags, WriteFlags};
use aufs_fusedev::abi::replies::OpenOut;
use aufs_fusedev::abi::requests::{CreateIn, FAllocateIn, FSyncIn, LSeekIn, OpenIn, ReadIn, WriteIn};
use aufs_fusedev::interrupts::Interruptible;
use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::Caller;
use aufs_union::{CopiedFile, Found, IsMember, Keep, Node, UnionError};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::attr::errno_of;
use crate::handles::Handle;
use crate::names::creator;
use crate::numbers::Numbered;
use crate::opens::Way;
use crate::options::DataMode;
use crate::serve::Served;
use crate::shared::{REQUEST_LEN_BYTES_MAX, Shared};

impl Served {
    pub(crate) fn create(
        &self,
        parent: u64,
        name: &OsStr,
        args: &CreateIn,
        caller: Caller,
        responder: Responder,
    ) {
        if self.shared.data == DataMode::NoOpen {
            // The kernel then sends MKNOD, which needs no RELEASE, and opens by itself.
            return responder.error(Errno::NOSYS);
        }
        let creator = creator(caller, args.umask);
        let made =
            self.shared.on_node(parent, |dir| self.shared.union().create(dir, name, args.mode, creator));
        self.answer_made(made, responder);
    }

    pub(crate) fn tmpfile(&self, parent: u64, args: &CreateIn, caller: Caller, responder: Responder) {
        let creator = creator(caller, args.umask);
        let made =
            self.shared.on_node(parent, |dir| self.shared.union().create_nameless(dir, args.mode, creator));
        self.answer_made(made, responder);
    }

    /// Answers with a file that was just made, open for reading and writing.
    fn answer_made(&self, made: Result<(Found, File), Errno>, responder: Responder) {
        let (found, file) = match made {
            Ok(made) => made,
            Err(errno) => return responder.error(errno),
        };
        // What the kernel writes by itself it accounts for itself: it drops the attributes at each
        // write, and a mapping needs a length first, which is set by SETATTR.
        let entry = self.shared.tell_of_new(&found);
        let number = entry.nodeid;
        let Some(opens) = self.shared.numbers.opens(number) else {
            return responder.error(Errno::STALE);
        };
        let backing = self
            .shared
            .passes()
            .then(|| opens.created(&self.shared.backings, &file, found.node.version()))
            .flatten();
        let is_passthrough = backing.is_some();
        // The kernel reads and writes by itself; what else may come finds the file open, or opens it.
        let keeps = !is_passthrough || self.shared.handles.may_spare(number);
        let open = keeps.then(|| self.shared.union().open_created(&found.node, file));
        let handle = Handle::new(&found.node, opens, is_passthrough, is_passthrough, open);
        let handle = self.shared.handles.insert(handle.for_writing(true));
        let open = match &backing {
            Some(backing) => opened(handle, OpenedFlags::PASSTHROUGH, backing.id()),
            None => opened(handle, self.shared.cache_flags(), 0),
        };
        responder.created(&entry, &open);
    }

    pub(crate) fn open(&self, number: u64, args: &OpenIn, caller: Caller, responder: Responder) {
        if self.shared.data == DataMode::NoOpen {
            return responder.error(Errno::NOSYS); // The kernel never asks again.
        }
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        let flags = OFlags::from_bits_retain(args.flags);
        let how = How {
            truncates: flags.contains(OFlags::TRUNC),
            is_writer: flags.intersects(OFlags::ACCMODE | OFlags::TRUNC),
            may_write: flags.intersects(OFlags::ACCMODE),
            executes: args.executes(),
            kills_set_id: args.kills_set_id(),
            caller,
        };
        let copies_much =
            self.shared.passes() && how.is_writer && !how.truncates && self.shared.copies_much(&numbered);
        let shared = Arc::clone(&self.shared);
        // Only who takes long is told of signals.
        let signals = copies_much.then(|| self.shared.interrupts.register(responder.unique()));
        self.shared.run(copies_much, move || match shared.open(&numbered, how, signals.as_ref()) {
            Ok((_, Way::Moved)) => responder.error(Errno::STALE),
            Ok((handle, Way::Cached)) => responder.structure(&opened(handle, shared.cache_flags(), 0)),
            Ok((handle, Way::Passthrough(backing))) => {
                responder.structure(&opened(handle, OpenedFlags::PASSTHROUGH, backing.id()));
            }
            Err(errno) => responder.error(errno),
        });
    }

    pub(crate) fn read(&self, number: u64, args: &ReadIn, responder: Responder) {
        let (shared, args) = (Arc::clone(&self.shared), *args);
        self.shared.run(Shared::moves_much(args.size.into()), move || {
            let file = match shared.file(number, args.fh) {
                Ok(file) => file,
                Err(errno) => return responder.error(errno),
            };
            let len_bytes = args.size.min(REQUEST_LEN_BYTES_MAX) as usize;
            responder.fill(len_bytes, |buffer| {
                shared.union().read_at(&file, buffer, args.offset).map_err(|it| errno_of(&it))
            });
        });
    }

    pub(crate) fn write(
        &self,
        number: u64,
        args: &WriteIn,
        data: &[u8],
        caller: Caller,
        responder: Responder,
    ) {
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        let takes_long = Shared::moves_much(data.len() as u64) || self.shared.copies_much(&numbered);
        let (shared, args) = (Arc::clone(&self.shared), *args);
        let flags = args.write_flags();
        let write = move |data: &[u8]| {
            let written = shared.on_file(number, args.fh, |file| {
                if flags.contains(WriteFlags::KILL_SUIDGID) {
                    shared.clear_set_id(file.node(), Keep::All, caller)?;
                }
                if flags.contains(WriteFlags::CACHE) {
                    let lacks_any = || shared.numbers.lacks_capabilities(number);
                    return shared.union().write_back_at(file, data, args.offset, lacks_any);
                }
                shared.union().write_at(file, data, args.offset)
            });
            match written {
                Ok(count) => responder.written(count),
                Err(errno) => responder.error(errno),
            }
        };
        if takes_long {
            let data = data.to_vec();
            self.shared.run(true, move || write(&data));
        } else {
            write(data);
        }
    }

    pub(crate) fn release(&self, handle: u64, responder: Responder) {
        if let Some(handle) = self.shared.handles.remove(handle) {
            handle.opens.release(&self.shared.backings, handle.is_writer, handle.is_passthrough);
        }
        responder.empty();
    }

    pub(crate) fn fsync(&self, number: u64, args: &FSyncIn, responder: Responder) {
        if self.shared.is_volatile {
            return responder.error(Errno::NOSYS); // The kernel reports success, and never asks again.
        }
        let (shared, args) = (Arc::clone(&self.shared), *args);
        self.shared.run(true, move || {
            let data_only = args.fsync_flags & FSYNC_DATA_ONLY != 0;
            responder.done(shared.on_file(number, args.fh, |file| shared.union().sync_file(file, data_only)));
        });
    }

    pub(crate) fn fallocate(&self, number: u64, args: &FAllocateIn, caller: Caller, responder: Responder) {
        let (shared, args) = (Arc::clone(&self.shared), *args);
        self.shared.run(true, move || {
            responder.done(shared.on_file(number, args.fh, |file| {
                // The kernel has no signal for this; whoever is root may keep the bits.
                if caller.uid != 0 {
                    shared.clear_set_id(file.node(), Keep::All, caller)?;
                }
                shared.union().allocate(file, args.mode, args.offset, args.length)
            }));
        });
    }

    pub(crate) fn lseek(&self, number: u64, args: &LSeekIn, responder: Responder) {
        const SEEK_DATA: u32 = 3;
        const SEEK_HOLE: u32 = 4;
        let whence = match args.whence {
            SEEK_DATA => SeekFrom::Data(args.offset),
            SEEK_HOLE => SeekFrom::Hole(args.offset),
            _ => return responder.error(Errno::INVAL),
        };
        match self.shared.on_file(number, args.fh, |file| self.shared.union().seek(file, whence)) {
            Ok(found) => responder.offset(found),
            Err(errno) => responder.error(errno),
        }
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
struct How {
    truncates: bool,
    is_writer: bool,
    /// The kernel looked already whether the file is being executed.
    may_write: bool,
    executes: bool,
    /// The kernel signals that set-id bits have to go.
    kills_set_id: bool,
    caller: Caller,
}

fn opened(handle: u64, flags: OpenedFlags, backing_id: i32) -> OpenOut {
    let flags = flags | OpenedFlags::NO_FLUSH;
    OpenOut { fh: handle, open_flags: flags.bits(), backing_id }
}

impl Shared {
    /// Pages of the last open are still right when nobody else writes to the branches.
    fn cache_flags(&self) -> OpenedFlags {
        if self.union().revalidates() { OpenedFlags::empty() } else { OpenedFlags::KEEP_CACHE }
    }

    /// Opens a regular file in the way the kernel can use.
    fn open(
        &self,
        numbered: &Numbered,
        how: How,
        signals: Option<&Interruptible>,
    ) -> Result<(u64, Way), Errno> {
        let node = &numbered.node;
        let opens = self.numbers.opens(numbered.number).ok_or(Errno::STALE)?;
        if !self.passes() {
            let file = self.union().open_file(node).map_err(|it| errno_of(&it))?;
            if how.truncates {
                self.truncate(node, how.kills_set_id.then_some(how.caller)).map_err(|it| errno_of(&it))?;
            }
            // Every write comes by here, so the kernel keeps the attributes right itself.
            let handle = Handle::new(node, opens, false, false, Some(file)).for_writing(how.is_writer);
            return Ok((self.handles.insert(handle), Way::Cached));
        }
        // The kernel would look after the bytes are gone.
        if how.truncates && !how.may_write && opens.are_executed() {
            return Err(Errno::TXTBSY);
        }
        // No WRITE will come by here, so what a write by an ordinary user does to these bits happens now.
        let kills = how.kills_set_id || how.is_writer && how.caller.uid != 0;
        let mut copied = None;
        if how.is_writer {
            // Before the lock, which others need to open and close the file while its bytes are copied.
            copied = self.copy_up_for(node, how, kills, signals).map_err(|it| errno_of(&it))?;
            node.diverge();
            if copied.as_ref().is_some_and(|it| !it.has_xattrs) {
                self.numbers.lacks_capabilities_now(numbered.number);
            }
        }
        // A copy that is to be empty is so from the start.
        let is_cut = how.truncates && copied.is_some();
        let copy = copied.and_then(|it| it.file);
        let is_current = || self.numbers.is_current(numbered);
        let way = opens.open(&self.union(), node, &self.backings, how.is_writer, copy.as_ref(), is_current);
        let way = way.map_err(|it| errno_of(&it))?;
        if matches!(way, Way::Moved) {
            self.numbers.renumber(numbered);
        }
        if how.is_writer || matches!(way, Way::Moved) {
            self.invalidate(numbered.number);
        }
        if matches!(way, Way::Moved) {
            return Ok((0, way));
        }
        let is_passthrough = matches!(way, Way::Passthrough(_));
        let ready = match (kills, how.truncates) {
            _ if is_cut => Ok(()),
            (_, true) => self.truncate(node, kills.then_some(how.caller)),
            (true, false) => self.clear_set_id(node, Keep::All, how.caller),
            (false, false) => Ok(()),
        };
        let ready = ready.map_err(|it| errno_of(&it));
        if let Err(errno) = ready {
            opens.release(&self.backings, how.is_writer, is_passthrough);
            return Err(errno);
        }
        let handle = Handle::new(node, opens, how.is_writer, is_passthrough, None);
        Ok((self.handles.insert(handle.for_execution(how.executes)), way))
    }

    /// Copies a file up that is opened for writing, as far as its bytes stay.
    fn copy_up_for(
        &self,
        node: &Arc<Node>,
        how: How,
        kills_set_id: bool,
        signals: Option<&Interruptible>,
    ) -> Result<Option<CopiedFile>, UnionError> {
        let is_abandoned = || signals.is_some_and(|it| it.is_given_up(how.caller));
        if !how.truncates {
            return self.union().copy_file_up(node, Keep::All, &is_abandoned);
        }
        let is_member = |gid| how.caller.is_in_group(gid);
        let ends_set_id: Option<IsMember<'_>> = if kills_set_id { Some(&is_member) } else { None };
        self.union().copy_file_up_empty(node, ends_set_id, &is_abandoned)
    }
}
