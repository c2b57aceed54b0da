//! A file of a layer under the load of a small transactional database with a write-ahead log.
//!
//! ```text
//! open the file and create an empty log beside it
//! 64 × { read 4 pages; append 2 pages to the log; fdatasync the log; write the 2 pages to the file }
//! after each 16th: fdatasync the file, and write the log from its start again
//! ```
//!
//! Pages of 4 KiB, at places drawn from the file's number and the block. The first transaction pays for the
//! copy-up, the others do not: both are metrics, and `plain` is what a volume takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustix::fs::{Mode, OFlags, fdatasync, openat};

use super::read_files::step_of;
use super::read_random::PAGE_BYTES;
use super::{Bed, Chill, Model, Timing, close};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::run::journal::Metric;

const TRANSACTIONS: usize = 64;
const READS: usize = 4;
const WRITES: usize = 2;
/// Transactions from one checkpoint to the next.
const CHECKPOINT: usize = 16;
const PAGE: usize = PAGE_BYTES as usize;

/// A small database.
#[derive(Debug)]
pub struct Database;

/// What one transaction does: pages by their numbers.
#[derive(Debug, PartialEq, Eq)]
struct Transaction {
    reads: [u64; READS],
    writes: [u64; WRITES],
    /// The written pages, one after the other.
    content: Vec<u8>,
}

/// The transactions on `file` in this block.
fn script(bed: &Bed<'_>, file: &FileSpec) -> Result<Vec<Transaction>> {
    let n_pages = file.len_bytes / PAGE_BYTES;
    if n_pages == 0 {
        let reason = format!("a database of {} bytes has no page; give sizes from 4K on", file.len_bytes);
        return Err(BenchError::new("use", &file.path, BenchErrorKind::Config(reason)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(file.number);
    rng.set_stream(u64::from(bed.block));
    let mut page = || ((u128::from(rng.next_u64()) * u128::from(n_pages)) >> 64) as u64;
    let first = bed.written_number(file);
    let transaction = |number: usize| {
        let (reads, writes) = (std::array::from_fn(|_| page()), std::array::from_fn(|_| page()));
        // Contents differ between writes, and from those of any layer and of the block before.
        let numbers = (0..WRITES).map(|it| first + (((number * WRITES + it) as u64 + 1) << 24));
        let content = numbers.flat_map(|it| bed.pattern.small(it, PAGE_BYTES)).collect();
        Transaction { reads, writes, content }
    };
    Ok((0..TRANSACTIONS).map(transaction).collect())
}

fn log_of(file: &FileSpec) -> PathBuf {
    let mut name = file.path.clone().into_os_string();
    name.push("-wal");
    PathBuf::from(name)
}

/// The open database and its log.
struct Store {
    file: File,
    log: File,
}

impl Store {
    fn open(bed: &Bed<'_>, file: &FileSpec, log: &Path) -> Result<Self> {
        let data = bed.open(file, OFlags::RDWR)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let log = openat(bed.root(), log, flags, Mode::from_raw_mode(0o644)).at("create", log)?;
        Ok(Self { file: data, log: File::from(log) })
    }

    /// Does transaction `number`, and reads into `read`.
    fn commit(&self, number: usize, it: &Transaction, read: &mut [u8]) -> std::io::Result<()> {
        for (page, buffer) in it.reads.iter().zip(read.chunks_exact_mut(PAGE)) {
            self.file.read_exact_at(buffer, page * PAGE_BYTES)?;
        }
        let at = (number % CHECKPOINT * WRITES * PAGE) as u64;
        self.log.write_all_at(&it.content, at)?;
        fdatasync(&self.log)?;
        for (page, content) in it.writes.iter().zip(it.content.chunks_exact(PAGE)) {
            self.file.write_all_at(content, page * PAGE_BYTES)?;
        }
        if (number + 1).is_multiple_of(CHECKPOINT) {
            fdatasync(&self.file)?;
        }
        Ok(())
    }

    fn close(self) -> std::io::Result<()> {
        close(self.file)?;
        close(self.log)
    }
}

/// What each page holds, whose content is known before a transaction writes to it.
struct Pages<'a> {
    bed: &'a Bed<'a>,
    number: u64,
    written: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Pages<'a> {
    fn of(bed: &'a Bed<'a>, file: &FileSpec) -> Self {
        Self { bed, number: file.number, written: BTreeMap::new() }
    }

    fn holds(&self, page: u64, found: &[u8]) -> bool {
        match self.written.get(&page) {
            Some(content) => found == *content,
            None => found == self.bed.pattern.page(self.number, page * PAGE_BYTES, PAGE),
        }
    }

    fn write(&mut self, it: &'a Transaction) {
        self.written.extend(it.writes.iter().copied().zip(it.content.chunks_exact(PAGE)));
    }
}

/// An error where the transactions have read something else than what was there.
fn check_reads(bed: &Bed<'_>, file: &FileSpec, script: &[Transaction], read: &[u8]) -> Result<()> {
    let mut pages = Pages::of(bed, file);
    for (it, read) in script.iter().zip(read.chunks_exact(READS * PAGE)) {
        let mut met = it.reads.iter().zip(read.chunks_exact(PAGE));
        if let Some((page, _)) = met.find(|(page, found)| !pages.holds(**page, found)) {
            return Err(bed.incorrect(file, format!("page {page} was read with a content it never had")));
        }
        pages.write(it);
    }
    Ok(())
}

impl Model for Database {
    fn name(&self) -> &'static str {
        "database"
    }

    fn about(&self) -> &'static str {
        "64 transactions on a file of a layer: 4 reads, a log synced, 2 writes of 4 KiB, a checkpoint each 16th; from open to close."
    }

    fn chills(&self) -> Chill {
        Chill::Data
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        bed.renew(file)?;
        bed.warm(file)
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let (script, log) = (script(bed, file)?, log_of(file));
        let mut read = vec![0; TRANSACTIONS * READS * PAGE];
        let mut ends_ns = Vec::with_capacity(TRANSACTIONS);
        let start = Instant::now();
        let store = Store::open(bed, file, &log)?;
        let open_ns = elapsed_ns(start);
        let steps = script.iter().zip(read.chunks_exact_mut(READS * PAGE)).enumerate();
        for (number, (it, read)) in steps {
            store.commit(number, it, read).at("commit to", &file.path)?;
            ends_ns.push(elapsed_ns(start));
        }
        let closed = store.close();
        let elapsed_ns = elapsed_ns(start);
        closed.at("close", &file.path)?;
        check_reads(bed, file, &script, &read)?;
        let metrics = commits(&ends_ns);
        Ok(Timing { elapsed_ns, open_ns: Some(open_ns), metrics })
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()> {
        let (script, log) = (script(bed, file)?, log_of(file));
        let mut pages = Pages::of(bed, file);
        script.iter().for_each(|it| pages.write(it));
        let (open, mut found) = (bed.open(file, OFlags::RDONLY)?, vec![0; PAGE]);
        let all = (0..file.len_bytes / PAGE_BYTES).step_by(step_of(extent));
        for page in pages.written.keys().copied().chain(all) {
            open.read_exact_at(&mut found, page * PAGE_BYTES).at("read", &file.path)?;
            if !pages.holds(page, &found) {
                return Err(bed.incorrect(file, format!("page {page} is not what was written last")));
            }
        }
        let logged: Vec<u8> =
            script[TRANSACTIONS - CHECKPOINT..].iter().flat_map(|it| it.content.iter().copied()).collect();
        let full = bed.view.root.join(&log);
        if std::fs::read(&full).at("read", &full)? != logged {
            return Err(bed.incorrect(file, "the log does not hold the last transactions".to_owned()));
        }
        bed.check_copied(file)
    }

    fn restore(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        let log = bed.view.root.join(log_of(file));
        std::fs::remove_file(&log).at("remove", &log)
    }
}

/// The time of the first transaction with what goes before it, and the median of the others.
fn commits(ends_ns: &[u64]) -> Vec<(Metric, u64)> {
    let mut later: Vec<u64> = ends_ns.windows(2).map(|it| it[1].saturating_sub(it[0])).collect();
    later.sort_unstable();
    let first = ends_ns.first().map(|it| (Metric::FirstCommit, *it));
    let median = later.get(later.len() / 2).map(|it| (Metric::LaterCommit, *it));
    first.into_iter().chain(median).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_commit_stands_apart() {
        for (ends_ns, expected) in [
            (&[][..], &[][..]),
            (&[90], &[(Metric::FirstCommit, 90)]),
            (&[90, 100, 130, 150], &[(Metric::FirstCommit, 90), (Metric::LaterCommit, 20)]),
        ] {
            assert_eq!(commits(ends_ns), expected);
        }
    }
}
