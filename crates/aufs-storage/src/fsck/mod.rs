//! Finds what is wrong with a data root, and mends what can be mended without touching good data.
//!
//! [`fsck`] reads what is there, decides what is wrong ([`Fault`]), and says what a repair
//! does about it or why it does nothing ([`Remedy`]). Good data is all that images, containers and
//! names lead to, all that a command of ours did not make, and all that is not understood: it
//! stays. What says that an image or a container exists is not taken away, but where a removal took all else.
//!
//! Without a repair nothing is written, not even by opening the driver, which sweeps; so it
//! works on a read-only file system. It waits for the commands at work.
//! A repair may be killed at any time and given again: each of its steps leaves what the next
//! look takes for what it is, since a layer goes before its record, and that before the note of it.
//!
//! Docker's own daemon does not know our locks: it must be stopped for a repair of its tree.

mod finding;
mod judge;
mod locks;
mod mount_points;
mod objects;
mod read;
mod repair;
mod snapshot;
mod uses;
mod verify;

use std::path::Path;
use std::time::Duration;

pub use finding::{Fault, Finding, Remedy};

use self::locks::{Share, hold, hold_store};
use self::read::Root;
use self::repair::Repair;
use crate::error::{StorageError, StorageErrorKind};

/// How to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Whether to mend what is found.
    pub repair: bool,
    /// Whether to read the files of layers and compare them with the archives they came from.
    pub verify: bool,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Found,
    /// It was there, and is mended.
    Repaired,
    /// Mending it failed, and so it is there.
    Failed(String),
}

/// How a data root is, after a repair if there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was wrong.
    Clean,
    /// All that was wrong is mended.
    Repaired,
    /// Something is wrong.
    Left,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What was mended, in that order, and then what is there.
    pub findings: Vec<(Finding, Outcome)>,
    /// How many layers were compared with the archives they came from.
    pub verified: usize,
    /// How many of them cannot be compared, since their archives cannot be put together again.
    pub unverifiable: usize,
}

impl Report {
    /// How the data root is.
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().any(|it| it.1 != Outcome::Repaired) {
            true => Verdict::Left,
            false if self.findings.is_empty() => Verdict::Clean,
            false => Verdict::Repaired,
        }
    }
}

/// Looks at a data root, whose driver's home is `aufs/` below it.
///
/// # Errors
///
/// There is none, or what the host refuses. What a repair did until then is done.
pub fn fsck(root: &Path, options: FsckOptions) -> Result<Report, StorageError> {
    look(root, options).map_err(|kind| kind.during("check", root.display()))
}

fn look(root: &Path, options: FsckOptions) -> Result<Report, StorageErrorKind> {
    let root = Root::open(root)?;
    let lock = hold_store(&root, Share::Readers)?;
    let mut report = Report::default();
    let findings = confirmed(&root)?;
    let lock = if options.repair && findings.iter().any(|it| it.remedy.is_repair()) {
        // A shared lock does not become an exclusive one without a chance for others in between.
        drop(lock);
        let mut repair = Repair::open(&root)?;
        let lock = hold_store(&root, Share::Nobody)?;
        repair.run()?;
        report.findings = repair.take_findings(&confirmed(&root)?);
        lock
    } else {
        report.findings = findings.into_iter().map(|it| (it, Outcome::Found)).collect();
        lock
    };
    if options.verify {
        verify::verify(&root, &mut report)?;
    }
    drop(lock);
    Ok(report)
}

/// How often what is found is looked at.
///
/// Once under its locks is not enough: a lock that was not there to be held may have come since, and
/// one that was may have been opened, but not locked yet, by a command that is about to begin.
const LOOKS: usize = 3;

/// How long commands that wait for us have between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What is wrong, but for what a command at work was about to finish.
fn confirmed(root: &Root) -> Result<Vec<Finding>, StorageErrorKind> {
    let mut findings = judge::judge(&root.read()?);
    for _ in 1..LOOKS {
        if !findings.is_empty() {
            let locks = hold(root, &findings)?;
            let again = judge::judge(&root.read()?);
            drop(locks);
            std::thread::sleep(PAUSE);
            findings.retain(|it| again.contains(it));
        }
    }
    Ok(findings)
}
