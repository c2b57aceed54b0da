//! Requests about attributes, extended ones included.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use aufs_fusedev::abi::flags::SetAttrValid;
use aufs_fusedev::abi::replies::StatfsOut;
use aufs_fusedev::abi::requests::SetAttrIn;
use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::Caller;
use aufs_union::attr::Attr;
use aufs_union::{CAPABILITY, IsMember, Node, UnionError};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::attr::{attr_out, changes_of, errno_of, flushed_mtime, statx_out};
use crate::numbers::Numbered;
use crate::report::REPORT_XATTR;
use crate::serve::Served;
use crate::shared::Shared;

const ACCESS_ACL: &str = "system.posix_acl_access";
/// The attribute of the root that names the server's process, for `aufs umount`.
const SERVER_XATTR: &str = "user.aufs.server";

fn answer_attr(shared: &Shared, responder: Responder, numbered: &Numbered, attr: Result<Attr, UnionError>) {
    match attr {
        Ok(attr) => responder.structure(&attr_out(&attr, shared.attr_ttl(numbered))),
        Err(error) => responder.error(errno_of(&error)),
    }
}

impl Shared {
    /// Whether a SETATTR of nothing may be what the kernel sends ahead of an ordinary user's write that it does itself.
    ///
    /// A `chown(2)` of nothing is sent just so, for whoever calls it, and must not take bits from others' files.
    fn is_of_a_writer(&self, numbered: &Numbered, caller: Caller) -> bool {
        const SHARED_WRITE: u32 = 0o022; // The group's bit also stands for what ACLs grant.
        caller.uid != 0
            && numbered.has_writers()
            && self
                .union()
                .attributes(&numbered.node)
                .is_ok_and(|it| it.uid == caller.uid || it.mode & SHARED_WRITE != 0)
    }
}

impl Served {
    pub(crate) fn getattr(&self, number: u64, responder: Responder) {
        match self.shared.node(number) {
            Ok(numbered) => {
                let attr = self.shared.union().attributes(&numbered.node);
                answer_attr(&self.shared, responder, &numbered, attr);
            }
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn statx(&self, number: u64, responder: Responder) {
        let asked = self.shared.node(number).and_then(|numbered| {
            let attr = self.shared.union().attributes(&numbered.node).map_err(|error| errno_of(&error))?;
            let born = self.shared.union().birth_time(&numbered.node).map_err(|error| errno_of(&error))?;
            Ok(statx_out(&attr, born, self.shared.attr_ttl(&numbered)))
        });
        match asked {
            Ok(answer) => responder.structure(&answer),
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn setattr(&self, number: u64, args: &SetAttrIn, caller: Caller, responder: Responder) {
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        if let Some(mtime) = flushed_mtime(args).filter(|_| self.shared.must_copy(&numbered.node)) {
            let attr = self.shared.union().attributes(&numbered.node);
            if attr.as_ref().is_ok_and(|it| it.mtime == mtime) {
                return answer_attr(&self.shared, responder, &numbered, attr);
            }
        }
        let change = changes_of(args);
        let kills_set_id = args.valid().contains(SetAttrValid::KILL_SUIDGID) || change.is_empty();
        let copies_much =
            change.len_bytes.is_none_or(Shared::moves_much) && self.shared.copies_much(&numbered);
        let open = if args.valid().contains(SetAttrValid::FH) {
            self.shared.handles.get(args.fh).and_then(|it| it.opened())
        } else {
            self.shared.recent.find(number)
        };
        let shared = Arc::clone(&self.shared);
        self.shared.run(copies_much, move || {
            let may_kill = kills_set_id && (!change.is_empty() || shared.is_of_a_writer(&numbered, caller));
            // A chown is marked whoever makes it, anything else only where the caller lacks CAP_FSETID.
            let may_set_group_id = caller.uid == 0 && change.uid.or(change.gid).is_some();
            let is_member = |gid| may_set_group_id || caller.is_in_group(gid);
            let ends_set_id: Option<IsMember<'_>> = if may_kill { Some(&is_member) } else { None };
            let attr =
                shared.union().set_attributes_through(&numbered.node, open.as_deref(), &change, ends_set_id);
            answer_attr(&shared, responder, &numbered, attr);
        });
    }

    pub(crate) fn readlink(&self, number: u64, responder: Responder) {
        match self.shared.on_node(number, |node| self.shared.union().read_link(node)) {
            Ok(target) => responder.bytes(target.as_bytes()),
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn setxattr(
        &self,
        number: u64,
        name: &OsStr,
        value: &[u8],
        flags: u32,
        kills_sgid: bool,
        responder: Responder,
    ) {
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        self.shared.numbers.may_get_capabilities(number);
        let flags = XattrFlags::from_bits_retain(flags);
        let shared = Arc::clone(&self.shared);
        let (name, value) = (name.to_owned(), value.to_owned());
        self.shared.run(self.shared.copies_much(&numbered), move || {
            let set = shared.union().set_xattr(&numbered.node, &name, &value, flags);
            let set = match set {
                // The kernel says so of either ACL, but that for new entries changes nobody's rights on this one.
                Ok(()) if kills_sgid && name == ACCESS_ACL => {
                    shared.union().clear_set_group_id(&numbered.node)
                }
                other => other,
            };
            responder.done(set.map_err(|error| errno_of(&error)));
        });
    }

    pub(crate) fn getxattr(&self, number: u64, name: &OsStr, size: u32, responder: Responder) {
        match self.xattr(number, name) {
            Ok(value) => responder.sized(size, &value),
            Err(errno) => responder.error(errno),
        }
    }

    fn xattr(&self, number: u64, name: &OsStr) -> Result<Vec<u8>, Errno> {
        // The kernel asks for it before the first write to each file.
        if name == CAPABILITY && self.shared.numbers.lacks_capabilities(number) {
            return Err(Errno::NODATA);
        }
        let numbered = self.shared.node(number)?;
        if number == Node::ROOT_ID && name == SERVER_XATTR {
            return Ok(std::process::id().to_string().into_bytes());
        }
        if number == Node::ROOT_ID && name == REPORT_XATTR {
            return serde_json::to_vec(&self.shared.report()).map_err(|_| Errno::IO);
        }
        match self.shared.union().xattr(&numbered.node, name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Errno::NODATA),
            Err(error) => Err(errno_of(&error)),
        }
    }

    /// The kernel refuses `trusted.` values to others than root, but leaves hiding the names to us.
    pub(crate) fn listxattr(&self, number: u64, size: u32, caller: Caller, responder: Responder) {
        match self.shared.on_node(number, |node| self.shared.union().xattr_names(node)) {
            Ok(names) => {
                let mut bytes = Vec::new();
                let is_hidden = |name: &OsStr| caller.uid != 0 && name.as_bytes().starts_with(b"trusted.");
                for name in names.iter().filter(|it| !is_hidden(it)) {
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.push(0);
                }
                responder.sized(size, &bytes);
            }
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn removexattr(&self, number: u64, name: &OsStr, responder: Responder) {
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.shared.run(self.shared.copies_much(&numbered), move || {
            let removed = shared.union().remove_xattr(&numbered.node, &name);
            responder.done(removed.map_err(|error| errno_of(&error)));
        });
    }

    pub(crate) fn statfs(&self, responder: Responder) {
        match self.shared.union().stat_fs() {
            Ok(it) => {
                let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                responder.structure(&StatfsOut {
                    blocks: it.f_blocks,
                    bfree: it.f_bfree,
                    bavail: it.f_bavail,
                    files: it.f_files,
                    ffree: it.f_ffree,
                    bsize: narrow(it.f_bsize),
                    namelen: narrow(it.f_namemax),
                    frsize: narrow(it.f_frsize),
                    padding: 0,
                    spare: [0; 6],
                });
            }
            Err(error) => responder.error(errno_of(&error)),
        }
    }
}
