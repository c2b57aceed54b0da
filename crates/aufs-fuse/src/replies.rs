//! Answers in the words of the FUSE library.

use aufs_union::attr::Attr;
use aufs_union::{Found, UnionError};
use fuser::{Errno, Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr};

use crate::attributes::{errno_of, file_attr};
use crate::numbers::Numbered;
use crate::shared::Shared;

/// Answers with a node, or with the lasting absence of one.
pub(crate) fn entry(shared: &Shared, reply: ReplyEntry, found: Result<Option<Found>, UnionError>) {
    match found {
        Ok(Some(Found { node, attr })) => {
            let numbered = shared.numbers.tell(&node);
            let attr_ttl = shared.entry_attr_ttl(&numbered);
            let attr = file_attr(&attr, numbered.number);
            reply.entry_with_ttls(&attr_ttl, &shared.ttl, &attr, Generation(0));
        }
        // Node number 0 says that there is nothing, and that this keeps too.
        Ok(None) => reply.entry(&shared.ttl, &file_attr(&nothing(), 0), Generation(0)),
        Err(error) => reply.error(errno_of(&error)),
    }
}

/// Answers with attributes.
pub(crate) fn attr(shared: &Shared, reply: ReplyAttr, numbered: &Numbered, attr: Result<Attr, UnionError>) {
    match attr {
        Ok(attr) => reply.attr(&shared.attr_ttl(numbered), &file_attr(&attr, attr.ino)),
        Err(error) => reply.error(errno_of(&error)),
    }
}

/// Answers that it is done, or why not.
pub(crate) fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with bytes, or with their count when no room was offered.
pub(crate) fn bytes(reply: ReplyXattr, size: u32, bytes: Result<Vec<u8>, Errno>) {
    match bytes {
        Err(errno) => reply.error(errno),
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if (size as usize) < bytes.len() => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
    }
}

/// Attributes of nothing at all.
pub(crate) fn nothing() -> Attr {
    let time = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    Attr {
        ino: 0,
        mode: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        len_bytes: 0,
        blocks: 0,
        blksize_bytes: 0,
        atime: time,
        mtime: time,
        ctime: time,
    }
}
