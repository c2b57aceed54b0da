//! A bounded number of open directory handles, the coldest closed first.
//!
//! Each directory keeps its own handles; this clock only decides which to
//! close when there are too many. A handle used since the hand last passed is
//! spared once, so that busy directories keep theirs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use aufs_host::entry::open_directory;
use parking_lot::Mutex;

use crate::branch::BranchIndex;
use crate::error::{Outcome, UnionErrorKind};
use crate::node::Node;
use crate::union::Union;

/// The hand's view of all handles that directories keep.
#[derive(Debug)]
pub(crate) struct HandleClock {
    queue: Mutex<VecDeque<(Weak<Node>, BranchIndex)>>,
    limit: usize,
}

impl HandleClock {
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: Mutex::default(), limit }
    }

    /// Returns how many handles directories keep open.
    pub(crate) fn open_count(&self) -> u64 {
        self.queue.lock().len() as u64
    }

    /// Notes a new handle, and closes the coldest ones beyond the limit.
    fn note(&self, node: &Arc<Node>, branch: BranchIndex) {
        let mut queue = self.queue.lock();
        queue.push_back((Arc::downgrade(node), branch));
        let mut spared = 0;
        while self.limit < queue.len() && spared <= self.limit {
            let Some((candidate, branch)) = queue.pop_front() else { return };
            match candidate.upgrade() {
                Some(node) if !node.release_handle(branch) => {
                    spared += 1;
                    queue.push_back((candidate, branch));
                }
                _ => (),
            }
        }
    }
}

impl Union {
    /// Returns a handle on `branch`'s part of the directory `node`.
    pub(crate) fn dir_handle(&self, node: &Arc<Node>, branch: BranchIndex) -> Outcome<Arc<OwnedFd>> {
        if node.id() == Node::ROOT_ID {
            return Ok(Arc::clone(&self.branches[branch.as_usize()].root));
        }
        if let Some(fd) = node.handle(branch) {
            return Ok(fd);
        }
        let spot = node.spot.read();
        if let Some(held) = &spot.held {
            return if spot.branch == branch { Ok(Arc::clone(held)) } else { Err(UnionErrorKind::NotFound) };
        }
        let name = spot.primary().ok_or(UnionErrorKind::NotFound)?;
        let parent = self.dir_handle(&name.dir, branch)?;
        let fd = Arc::new(open_directory(&parent, &name.name)?);
        let (fd, is_new) = node.keep_handle(branch, fd);
        drop(spot);
        if is_new {
            self.handle_clock.note(node, branch);
        }
        Ok(fd)
    }
}
