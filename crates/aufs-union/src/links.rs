//! Counts the names of files that the host alone cannot count.
//!
//! A lower file with several names keeps its link count below when one name
//! gets a whiteout, and its copy has only the names that were copied up. So
//! the first change of such a file notes how many names the union shows, and
//! each later one adds or takes away from that. Names that were hidden before
//! the union was opened count along, as nobody knows of them.

use std::ffi::OsString;
use std::sync::Arc;

use crate::node::Node;
use crate::pseudo_link::Origin;
use crate::union::Union;

/// A file with several names, at least one of which lies, or lay, on a lower branch.
#[derive(Debug)]
pub(crate) struct LinkGroup {
    /// Kept, so that the names that nobody asked for yet lead here too.
    pub(crate) node: Arc<Node>,
    /// Number of names the union shows.
    pub(crate) nlink: u32,
    /// What stands for the names still below, once the file is copied up.
    pub(crate) pseudo_link: Option<(OsString, Origin)>,
}

impl Union {
    /// Returns the number of names of `node`, which is no directory and has `host_nlink` where it lies.
    pub(crate) fn link_count(&self, node: &Node, host_nlink: u32) -> u32 {
        self.own_link_count(node).unwrap_or_else(|| {
            let spot = node.spot.read();
            // What was removed from the union keeps its names below.
            let is_gone = spot.names().is_empty() && self.writable_branch() != Some(spot.branch());
            if is_gone { 0 } else { host_nlink }
        })
    }

    /// Returns the number of names of `node`, where that is not the host's.
    pub(crate) fn own_link_count(&self, node: &Node) -> Option<u32> {
        self.links.with(&node.id(), |it| it.nlink)
    }

    /// Notes a copy of `node` and what stands for its names below.
    pub(crate) fn note_pseudo_link(&self, node: &Arc<Node>, nlink: u32, pseudo_link: (OsString, Origin)) {
        self.links.change(node.id(), |group| {
            let known =
                group.get_or_insert_with(|| LinkGroup { node: Arc::clone(node), nlink, pseudo_link: None });
            known.pseudo_link = Some(pseudo_link);
        });
    }

    /// Notes that `node` got one more name.
    pub(crate) fn note_new_link(&self, node: &Node) {
        if self.own_link_count(node).is_some() {
            self.links.change(node.id(), |group| {
                if let Some(group) = group {
                    group.nlink = group.nlink.saturating_add(1);
                }
            });
        }
    }

    /// Notes that `node` lost a name; `host_nlink` is how many it had where it lay.
    ///
    /// Returns the group when that was the last name.
    pub(crate) fn note_lost_link(&self, node: &Arc<Node>, host_nlink: u32) -> Option<LinkGroup> {
        let is_counted = self.own_link_count(node).is_some();
        let is_below = self.writable_branch() != Some(node.branch());
        if !is_counted && (!is_below || host_nlink < 2) {
            return None;
        }
        self.links.change(node.id(), |group| {
            let known = group.get_or_insert_with(|| LinkGroup {
                node: Arc::clone(node),
                nlink: host_nlink,
                pseudo_link: None,
            });
            known.nlink = known.nlink.saturating_sub(1);
            if known.nlink == 0 { group.take() } else { None }
        })
    }
}
