//! Requests about directories: listings, with and without attributes.

use std::sync::Arc;

use aufs_fusedev::abi::flags::OpenedFlags;
use aufs_fusedev::abi::replies::{EntryOut, OpenOut};
use aufs_fusedev::abi::requests::ReadIn;
use aufs_fusedev::listing::{Full, Listed, Listing};
use aufs_fusedev::reply::Responder;
use aufs_union::{DirEntry, Node};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::attr::{Ttl, bare_attr, errno_of, no_entry_out};
use crate::serve::Served;
use crate::shared::{REQUEST_LEN_BYTES_MAX, Shared};

/// Entries taken from the union at a time.
const CHUNK: usize = 256;

impl Served {
    pub(crate) fn opendir(&self, number: u64, responder: Responder) {
        if !self.shared.union().revalidates() {
            return responder.error(Errno::NOSYS); // The kernel keeps listings from now on, and never asks again.
        }
        match self.shared.node(number) {
            Ok(_) => {
                let flags = OpenedFlags::empty().bits();
                responder.structure(&OpenOut { fh: 0, open_flags: flags, backing_id: 0 });
            }
            Err(errno) => responder.error(errno),
        }
    }

    pub(crate) fn readdir(&self, number: u64, args: &ReadIn, with_entries: bool, responder: Responder) {
        let numbered = match self.shared.node(number) {
            Ok(numbered) => numbered,
            Err(errno) => return responder.error(errno),
        };
        let (shared, args) = (Arc::clone(&self.shared), *args);
        // A directory is read whole before it is listed; a large one takes its time.
        self.shared.run(!self.shared.union().is_indexed(&numbered.node), move || {
            let mut listing = Listing::new(args.size.min(REQUEST_LEN_BYTES_MAX));
            match shared.list(&numbered.node, args.offset, with_entries, &mut listing) {
                Ok(()) => responder.bytes(listing.as_bytes()),
                Err(errno) => responder.error(errno),
            }
        });
    }

    pub(crate) fn fsyncdir(&self, number: u64, responder: Responder) {
        if self.shared.is_volatile {
            return responder.error(Errno::NOSYS); // As for files.
        }
        let shared = Arc::clone(&self.shared);
        self.shared.run(true, move || {
            responder.done(shared.on_node(number, |node| shared.union().sync_directory(node)));
        });
    }
}

impl Shared {
    /// Fills `listing` from `offset` on, with `.` and `..` first.
    fn list(
        &self,
        node: &Arc<Node>,
        mut offset: u64,
        with_entries: bool,
        listing: &mut Listing,
    ) -> Result<(), Errno> {
        for (name, of, at) in [(".", Arc::clone(node), 0), ("..", node.parent_or_self(), 1)] {
            if offset <= at {
                let (name, file_type) = (name.into(), of.file_type());
                let dots = DirEntry { name, ino: of.ino(), file_type, next_offset: at + 1 };
                if self.add(node, &dots, with_entries, listing) == Err(Full) {
                    return Ok(());
                }
            }
        }
        loop {
            let entries = self.union().read_directory(node, offset, CHUNK).map_err(|it| errno_of(&it))?;
            let Some(last) = entries.last() else { return Ok(()) };
            offset = last.next_offset;
            for entry in &entries {
                if self.add(node, entry, with_entries, listing) == Err(Full) {
                    return Ok(());
                }
            }
        }
    }

    fn add(
        &self,
        dir: &Arc<Node>,
        it: &DirEntry,
        with_entries: bool,
        listing: &mut Listing,
    ) -> Result<(), Full> {
        let kind = it.file_type.as_raw_mode() >> 12;
        let listed = Listed { name: &it.name, ino: it.ino, kind, next_offset: it.next_offset };
        if !with_entries {
            return listing.add(&listed);
        }
        // The kernel takes no lookup for these two.
        if it.name == "." || it.name == ".." {
            return listing.add_with_entry(&nothing_known(it), &listed);
        }
        match self.union().lookup(dir, &it.name) {
            Ok(Some(found)) => {
                let entry = self.tell(&found);
                let added = listing.add_with_entry(&entry, &listed);
                if added.is_err() {
                    self.numbers.forget(entry.nodeid, 1);
                }
                added
            }
            Ok(None) => Ok(()), // Removed meanwhile.
            Err(error) => {
                errno_of(&error);
                // Its name shows; who asks for more learns why there is none.
                listing.add_with_entry(&nothing_known(it), &listed)
            }
        }
    }
}

/// An entry without a node number: the kernel takes the name and looks no further.
fn nothing_known(it: &DirEntry) -> EntryOut {
    let mode = if it.file_type == FileType::Unknown { 0 } else { it.file_type.as_raw_mode() };
    EntryOut { attr: bare_attr(it.ino, mode), ..no_entry_out(Ttl::NONE) }
}
