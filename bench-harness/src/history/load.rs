//! Stored runs, in the order they were made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::run::journal::{FILE_NAME, RunRecord};
use crate::stats::summary::Summary;

/// A run and its summary.
#[derive(Debug)]
pub struct Stored {
    /// Its directory.
    pub dir: PathBuf,
    /// What was recorded.
    pub run: RunRecord,
    /// What comes of it.
    pub summary: Summary,
}

/// What makes two machines comparable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Name in reports.
    pub label: String,
    /// Model of the processor, and how many there are.
    pub cpu: (String, usize),
    /// Memory, in GiB; the last bytes differ with the kernel.
    pub memory_gib: u64,
}

impl Stored {
    /// The machine of the run.
    pub fn host(&self) -> Host {
        let host = &self.run.header.host;
        Host {
            label: host.label.clone(),
            cpu: (host.cpu.clone(), host.cpus),
            memory_gib: (host.memory_bytes + (1 << 29)) >> 30,
        }
    }

    /// `2026-11-23 d0e06d76b0`: when the run was made, and of what.
    pub fn when(&self) -> String {
        let host = &self.run.header.host;
        let date = host.started_at.split('T').next().unwrap_or_default();
        format!("{date} {}", host.git_rev.as_deref().unwrap_or("no commit"))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} × {}, {} GiB)", self.label, self.cpu.1, self.cpu.0, self.memory_gib)
    }
}

fn is_run(dir: &Path) -> bool {
    dir.join(FILE_NAME).exists() || dir.join(format!("{FILE_NAME}.gz")).exists()
}

/// All runs in `dirs`, each a run or a directory of runs, oldest first, and what was left out and why.
///
/// # Errors
///
/// A directory that was named is no run and has none, or cannot be read.
pub fn load(dirs: &[PathBuf]) -> Result<(Vec<Stored>, Vec<BenchError>)> {
    let (mut stored, mut left_out) = (Vec::new(), Vec::new());
    for dir in dirs {
        if is_run(dir) {
            stored.push(open(dir.clone())?);
            continue;
        }
        let entries = fs::read_dir(dir).at("read", dir)?.map(|it| Ok(it?.path()));
        // A run that cannot be listed must not be missing in silence.
        let mut inner: Vec<PathBuf> = entries.collect::<io::Result<_>>().at("read", dir)?;
        inner.retain(|it| is_run(it));
        inner.sort();
        if inner.is_empty() {
            let reason = format!("neither it nor a directory in it has {FILE_NAME}");
            return Err(BenchError::new("find runs in", dir, BenchErrorKind::Journal(reason)));
        }
        for dir in inner {
            match open(dir) {
                Ok(run) => stored.push(run),
                Err(error) => left_out.push(error),
            }
        }
    }
    stored.sort_by(|a, b| a.started().cmp(&b.started()).then_with(|| a.dir.cmp(&b.dir)));
    // A directory and the runs in it may both be named; resumed runs keep their start.
    let mut seen = std::collections::BTreeSet::new();
    stored.retain(|it| seen.insert((it.run.header.host.started_at.clone(), it.run.header.host.seed)));
    Ok((stored, left_out))
}

impl Stored {
    /// The start, in ns since 1970; texts of different precision would not sort.
    fn started(&self) -> Option<i128> {
        let text = &self.run.header.host.started_at;
        text.parse::<jiff::Timestamp>().ok().map(|it| it.as_nanosecond())
    }
}

fn open(dir: PathBuf) -> Result<Stored> {
    let run = RunRecord::load(&dir)?;
    let summary = Summary::of(&run);
    Ok(Stored { dir, run, summary })
}

/// Refuses runs of unlike machines, with the difference.
///
/// # Errors
///
/// `Refused`: there are several machines.
pub fn one_host(stored: &[Stored]) -> Result<()> {
    let mut hosts: Vec<Host> = stored.iter().map(Stored::host).collect();
    hosts.sort();
    hosts.dedup();
    if hosts.len() < 2 {
        return Ok(());
    }
    let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let reason = format!(
        "they were made on {} machines: {}; --allow shows each machine by itself",
        hosts.len(),
        names.join("; ")
    );
    Err(BenchError::new("compare runs of", stored[0].dir.clone(), BenchErrorKind::Refused(reason)))
}
