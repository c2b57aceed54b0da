//! Requests about names: finding, making, moving and removing entries.

use std::ffi::OsStr;
use std::sync::Arc;

use aufs_fusedev::abi::requests::{MkDirIn, MkNodIn};
use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::Caller;
use aufs_union::attr::Creator;
use aufs_union::{Found, New, RenameMode, UnionError};
use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use crate::attr::{errno_of, host_device, no_entry_out};
use crate::options::DataMode;
use crate::serve::Served;
use crate::shared::Shared;

/// Answers with a node, or with the lasting absence of one.
pub(crate) fn answer_entry(shared: &Shared, responder: Responder, found: Result<Option<Found>, UnionError>) {
    match found {
        Ok(Some(found)) => responder.structure(&shared.tell(&found)),
        Ok(None) => responder.structure(&no_entry_out(shared.ttl)),
        Err(error) => responder.error(errno_of(&error)),
    }
}

pub(crate) fn creator(caller: Caller, umask: u32) -> Creator {
    Creator { uid: caller.uid, gid: caller.gid, umask }
}

impl Served {
    pub(crate) fn lookup(&self, parent: u64, name: &OsStr, responder: Responder) {
        let dir = match self.shared.node(parent) {
            Ok(dir) => dir,
            Err(errno) => return responder.error(errno),
        };
        if !dir.node.is_busy() {
            return answer_entry(&self.shared, responder, self.shared.union().lookup(&dir.node, name));
        }
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.shared.run(true, move || {
            answer_entry(&shared, responder, shared.union().lookup(&dir.node, &name));
        });
    }

    pub(crate) fn symlink(
        &self,
        parent: u64,
        name: &OsStr,
        target: &OsStr,
        caller: Caller,
        responder: Responder,
    ) {
        self.make(parent, name, New::Symlink(target), creator(caller, 0), responder);
    }

    pub(crate) fn mkdir(
        &self,
        parent: u64,
        name: &OsStr,
        args: &MkDirIn,
        caller: Caller,
        responder: Responder,
    ) {
        self.make(parent, name, New::Directory(args.mode), creator(caller, args.umask), responder);
    }

    pub(crate) fn mknod(
        &self,
        parent: u64,
        name: &OsStr,
        args: &MkNodIn,
        caller: Caller,
        responder: Responder,
    ) {
        let creator = creator(caller, args.umask);
        if FileType::from_raw_mode(args.mode) != FileType::RegularFile {
            let what = New::Node(args.mode, host_device(args.rdev));
            return self.make(parent, name, what, creator, responder);
        }
        match self.shared.on_node(parent, |dir| self.shared.union().create(dir, name, args.mode, creator)) {
            Ok((found, file)) => {
                let entry = self.shared.tell_of_new(&found);
                if self.shared.data == DataMode::NoOpen {
                    // Who makes a file writes to it next.
                    let open = self.shared.union().open_created(&found.node, file);
                    self.shared.recent.keep(entry.nodeid, Arc::new(open));
                }
                responder.structure(&entry);
            }
            Err(errno) => responder.error(errno),
        }
    }

    fn make(&self, parent: u64, name: &OsStr, what: New<'_>, creator: Creator, responder: Responder) {
        match self.shared.node(parent) {
            Ok(dir) => {
                let made = self.shared.union().create_special(&dir.node, name, what, creator);
                answer_entry(&self.shared, responder, made.map(Some));
            }
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn unlink(&self, parent: u64, name: &OsStr, responder: Responder) {
        responder.done(self.shared.on_node(parent, |dir| self.shared.union().unlink(dir, name)));
    }

    pub(crate) fn rmdir(&self, parent: u64, name: &OsStr, responder: Responder) {
        responder.done(self.shared.on_node(parent, |dir| self.shared.union().rmdir(dir, name)));
    }

    pub(crate) fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32, responder: Responder) {
        let mode = match RenameFlags::from_bits_retain(flags) {
            it if it.is_empty() => RenameMode::Replace,
            RenameFlags::NOREPLACE => RenameMode::NoReplace,
            RenameFlags::EXCHANGE => RenameMode::Exchange,
            _ => return responder.error(Errno::INVAL),
        };
        let ends = self.shared.node(from.0).and_then(|dir| Ok((dir.node, self.shared.node(to.0)?.node)));
        let (dir, new_dir) = match ends {
            Ok(ends) => ends,
            Err(errno) => return responder.error(errno),
        };
        let copies_much = self.shared.copies_much_under(&dir, from.1)
            || mode == RenameMode::Exchange && self.shared.copies_much_under(&new_dir, to.1);
        let shared = Arc::clone(&self.shared);
        let (name, new_name) = (from.1.to_owned(), to.1.to_owned());
        self.shared.run(copies_much, move || {
            let renamed = shared.union().rename(&dir, &name, &new_dir, &new_name, mode);
            responder.done(renamed.map_err(|error| errno_of(&error)));
        });
    }

    pub(crate) fn link(&self, number: u64, new_parent: u64, new_name: &OsStr, responder: Responder) {
        let ends = self.shared.node(number).and_then(|it| Ok((it, self.shared.node(new_parent)?.node)));
        let (numbered, dir) = match ends {
            Ok(ends) => ends,
            Err(errno) => return responder.error(errno),
        };
        let (shared, new_name) = (Arc::clone(&self.shared), new_name.to_owned());
        self.shared.run(self.shared.copies_much(&numbered), move || {
            let linked = shared.union().link(&numbered.node, &dir, &new_name);
            answer_entry(&shared, responder, linked.map(Some));
        });
    }
}
