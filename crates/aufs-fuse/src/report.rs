//! What a server tells of itself: the JSON of `aufs stat`.
//!
//! It is the value of the attribute [`REPORT_XATTR`] of the mount's root, so
//! that whoever may read the root may ask, without a socket or a file.

use serde::{Deserialize, Serialize};

use aufs_fusedev::stats::OpcodeStats;

use crate::shared::Shared;

/// The attribute of the root whose value is a [`Report`].
pub const REPORT_XATTR: &str = "user.aufs.report";

/// A server and what it did since it was mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The data mode in use.
    pub data_mode: String,
    /// How requests travel, and why not by io_uring where they do not.
    pub transport: String,
    /// Version of the protocol in force, such as `7.45`.
    pub protocol: String,
    /// The serving process.
    pub pid: u32,
    /// Seconds since it was mounted.
    pub uptime_s: f64,
    /// Nodes the kernel knows now.
    pub nodes: u64,
    /// Files that are open now, or were used a moment ago without being opened.
    pub open_files: u64,
    /// Directory handles the server has open now.
    pub open_directories: u64,
    /// Requests answered, which are round trips between kernel and server; FORGET, which has no answer, counts too.
    pub requests: u64,
    /// How lookups were answered.
    pub lookups: LookupTotals,
    /// What was copied up.
    pub copy_ups: CopyUpTotals,
    /// Counts and latencies by operation, in the order of the protocol.
    pub operations: Vec<OperationReport>,
}

/// How lookups were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupTotals {
    /// Of names whose node was known.
    pub known_names: u64,
    /// From the index of a directory, without asking a branch.
    pub index_hits: u64,
    /// By asking the branches.
    pub probes: u64,
    /// Directories that were read whole.
    pub indexes_built: u64,
}

/// What was copied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUpTotals {
    /// Regular files.
    pub files: u64,
    /// Directories, without what they contain.
    pub directories: u64,
    /// Symbolic links, devices and others.
    pub others: u64,
    /// Bytes of the files, holes included.
    pub len_bytes: u64,
    /// Files whose blocks are shared (`FICLONE`).
    pub by_reflink: u64,
    /// Files the kernel copied (`copy_file_range`).
    pub by_copy_file_range: u64,
    /// Files that were read and written.
    pub by_read_write: u64,
    /// Where the time went.
    pub phases: PhaseTotals,
}

/// Time of all copy-ups by phase, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTotals {
    /// Making sure of the parent directories.
    pub parents_ns: u64,
    /// Opening the source.
    pub open_source_ns: u64,
    /// Starting the draft and copying the bytes.
    pub data_ns: u64,
    /// Owner, mode, times, extended attributes.
    pub attributes_ns: u64,
    /// Giving the copy its name.
    pub publish_ns: u64,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationReport {
    /// Its name, such as `lookup`.
    pub name: String,
    /// Requests.
    pub count: u64,
    /// Those answered with an errno; `lookup` of a missing name is none.
    pub errors: u64,
    /// Time from reading to answering, all together, in nanoseconds.
    pub total_ns: u64,
    /// Median, in nanoseconds; as the other two at most 25 % too large.
    pub p50_ns: u64,
    /// 99 of 100 took no longer, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// Upper bound in nanoseconds and count of each bucket that is not empty.
    pub histogram: Vec<(u64, u64)>,
}

impl OperationReport {
    fn of(stats: OpcodeStats) -> Self {
        let percentile_ns = |percent| stats.percentile_ns(percent).unwrap_or(0);
        Self {
            name: stats.opcode.as_str().to_owned(),
            count: stats.count,
            errors: stats.errors,
            total_ns: stats.total_ns,
            p50_ns: percentile_ns(50.0),
            p99_ns: percentile_ns(99.0),
            max_ns: percentile_ns(100.0),
            histogram: stats.buckets,
        }
    }
}

impl Shared {
    /// Returns what the server tells of itself.
    pub(crate) fn report(&self) -> Report {
        let operations: Vec<_> = self.stats.snapshot().into_iter().map(OperationReport::of).collect();
        let counters = self.union().counters();
        Report {
            data_mode: self.data.as_str().to_owned(),
            transport: self.about.transport.to_string(),
            protocol: format!("7.{}", self.about.minor),
            pid: std::process::id(),
            uptime_s: self.about.since.elapsed().as_secs_f64(),
            nodes: self.numbers.count() as u64,
            open_files: (self.handles.count() + self.recent.count()) as u64,
            open_directories: counters.open_handles,
            requests: operations.iter().map(|it| it.count).sum(),
            lookups: LookupTotals {
                known_names: counters.known_names,
                index_hits: counters.index_hits,
                probes: counters.probes,
                indexes_built: counters.indexes_built,
            },
            copy_ups: self.copy_ups.totals(),
            operations,
        }
    }
}
