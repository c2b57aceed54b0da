//! What was copied up, how, and where the time went.

use std::sync::atomic::{AtomicU64, Ordering};

use aufs_union::{CopyMethod, CopyUpReport};
use rustix::fs::FileType;

use crate::report::{CopyUpTotals, PhaseTotals};

/// Sums over all copy-ups of a mount; each stands alone, so no order is needed.
#[derive(Debug, Default)]
pub(crate) struct CopyUps {
    files: AtomicU64,
    directories: AtomicU64,
    others: AtomicU64,
    len_bytes: AtomicU64,
    by_reflink: AtomicU64,
    by_copy_file_range: AtomicU64,
    by_read_write: AtomicU64,
    parents_ns: AtomicU64,
    open_source_ns: AtomicU64,
    data_ns: AtomicU64,
    attributes_ns: AtomicU64,
    publish_ns: AtomicU64,
}

impl CopyUps {
    pub(crate) fn note(&self, report: &CopyUpReport) {
        let add = |sum: &AtomicU64, value| {
            sum.fetch_add(value, Ordering::Relaxed);
        };
        match report.file_type {
            FileType::RegularFile => add(&self.files, 1),
            FileType::Directory => add(&self.directories, 1),
            _ => add(&self.others, 1),
        }
        add(&self.len_bytes, report.len_bytes);
        match report.method {
            Some(CopyMethod::Reflink) => add(&self.by_reflink, 1),
            Some(CopyMethod::CopyFileRange) => add(&self.by_copy_file_range, 1),
            Some(CopyMethod::ReadWrite) => add(&self.by_read_write, 1),
            None => (),
        }
        let phases = &report.phases;
        add(&self.parents_ns, phases.parents_ns);
        add(&self.open_source_ns, phases.open_source_ns);
        add(&self.data_ns, phases.data_ns);
        add(&self.attributes_ns, phases.attributes_ns);
        add(&self.publish_ns, phases.publish_ns);
    }

    pub(crate) fn totals(&self) -> CopyUpTotals {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        CopyUpTotals {
            files: get(&self.files),
            directories: get(&self.directories),
            others: get(&self.others),
            len_bytes: get(&self.len_bytes),
            by_reflink: get(&self.by_reflink),
            by_copy_file_range: get(&self.by_copy_file_range),
            by_read_write: get(&self.by_read_write),
            phases: PhaseTotals {
                parents_ns: get(&self.parents_ns),
                open_source_ns: get(&self.open_source_ns),
                data_ns: get(&self.data_ns),
                attributes_ns: get(&self.attributes_ns),
                publish_ns: get(&self.publish_ns),
            },
        }
    }
}
