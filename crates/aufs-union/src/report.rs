//! What a union tells about changes that programs did not ask for, and about copies it made.

use std::time::{Duration, Instant};

use aufs_host::copy::CopyMethod;
use rustix::fs::FileType;

/// Something the server may want to know: that caches are out of date, or what an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Attributes of a node changed without a program asking for it.
    Attributes {
        /// What the server put into [`Node::server_tag`](crate::Node::server_tag).
        server_tag: u64,
    },
    /// An entry was copied up.
    CopiedUp(CopyUpReport),
}

/// A finished copy-up and where its time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyUpReport {
    /// Id of the node.
    pub node_id: u64,
    /// Type of the entry.
    pub file_type: FileType,
    /// Bytes that were to be kept; holes count.
    pub len_bytes: u64,
    /// How they travelled; none for what has no bytes.
    pub method: Option<CopyMethod>,
    /// Where the time went.
    pub phases: CopyUpPhases,
}

/// Nanoseconds of each phase of a copy-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyUpPhases {
    /// Until the parent directories were there; each of them has a report of its own.
    pub parents_ns: u64,
    /// Opening the source and asking for its attributes.
    pub open_source_ns: u64,
    /// Starting the draft and copying the bytes into it.
    pub data_ns: u64,
    /// Owner, mode, times and extended attributes, and the flush where one is asked for.
    pub attributes_ns: u64,
    /// Giving the draft its name.
    pub publish_ns: u64,
}

/// Measures one phase after the other.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// Returns the nanoseconds since the last call.
    pub(crate) fn lap_ns(&mut self) -> u64 {
        let now = Instant::now();
        let elapsed = now.duration_since(std::mem::replace(&mut self.since, now));
        as_ns(elapsed)
    }
}

fn as_ns(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
