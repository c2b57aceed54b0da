//! Lists directories, with and without attributes.

use std::time::Duration;

use aufs_union::attr::Attr;
use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::attributes::{errno_of, file_attr, kind_of};
use crate::replies;
use crate::shared::Shared;

/// Answers with as many names from `offset` on as fit.
pub(crate) fn names(shared: &Shared, ino: INodeNo, offset: u64, mut reply: ReplyDirectory) {
    match shared.list(ino, offset) {
        Ok((_, entries)) => {
            for it in entries {
                if reply.add(INodeNo(it.ino), it.next_offset, kind_of(it.file_type), &it.name) {
                    break;
                }
            }
            reply.ok();
        }
        Err(errno) => reply.error(errno),
    }
}

/// As [`names`], with the attributes, so that the kernel need not ask for each.
pub(crate) fn names_and_attributes(
    shared: &Shared,
    ino: INodeNo,
    offset: u64,
    mut reply: ReplyDirectoryPlus,
) {
    let (dir, entries) = match shared.list(ino, offset) {
        Ok(listed) => listed,
        Err(errno) => return reply.error(errno),
    };
    for it in entries {
        // The kernel takes no lookup for these two, but shows their numbers.
        let is_full = if it.name == "." || it.name == ".." {
            let attr = file_attr(&Attr { mode: it.file_type.as_raw_mode(), ..replies::nothing() }, it.ino);
            reply.add(INodeNo(it.ino), it.next_offset, &it.name, &Duration::ZERO, &attr, Generation(0))
        } else {
            let found = match shared.union.lookup(&dir.node, &it.name) {
                Ok(Some(found)) => found,
                Ok(None) => continue, // Removed meanwhile.
                Err(error) => {
                    errno_of(&error);
                    continue;
                }
            };
            let numbered = shared.numbers.tell(&found.node);
            let ttl = shared.entry_attr_ttl(&numbered);
            let attr = file_attr(&found.attr, numbered.number);
            let is_full = reply.add(INodeNo(it.ino), it.next_offset, &it.name, &ttl, &attr, Generation(0));
            if is_full {
                shared.numbers.forget(numbered.number, 1);
            }
            is_full
        };
        if is_full {
            break;
        }
    }
    reply.ok();
}
