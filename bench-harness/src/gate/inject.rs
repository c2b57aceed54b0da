//! A slow-down made on purpose, by which the gate is tried: `10%`, `10%@copy-up-*` or `copy-fsync@copy-up-*`.

use std::fmt;
use std::fs::File;
use std::time::{Duration, Instant};

use glob::Pattern;
use rustix::fs::OFlags;

use super::settings::{parse_percent, percent};
use crate::error::{At as _, Result};
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::model::{Bed, Model};

/// Most that head is slowed down by: far more than any gate needs, and no sample becomes endless.
const SHARE_MAX: f64 = 100.0;

const COPY_FSYNC: &str = "copy-fsync";

/// What slows head down, and in which cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Inject {
    how: SlowDown,
    cells: Pattern,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SlowDown {
    /// The bench works on for this share of the sample's time.
    Share(f64),
    /// The bench syncs the copy, as a driver does that begins to care whether copies outlive a crash.
    CopyFsync,
}

impl Inject {
    /// Reads `SHARE[@GLOB]` or `copy-fsync[@GLOB]`; without a glob it is all cells.
    ///
    /// # Errors
    ///
    /// It is neither `copy-fsync` nor a percentage above zero and up to 10 000 %, or the glob is damaged.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (how, cells) = text.split_once('@').unwrap_or((text, "*"));
        let cells = Pattern::new(cells).map_err(|error| format!("{cells:?} is no glob: {}", error.msg))?;
        if how == COPY_FSYNC {
            return Ok(Self { how: SlowDown::CopyFsync, cells });
        }
        let share = parse_percent(how).map_err(|what| format!("{what}, nor {COPY_FSYNC}"))?;
        if SHARE_MAX < share {
            return Err(format!("{text:?} is more than {}", percent(SHARE_MAX)));
        }
        Ok(Self { how: SlowDown::Share(share), cells })
    }

    /// Whether the cell called `name` of `model` gets it; where no file is copied up no copy can be synced.
    pub fn hits(&self, name: &str, model: &dyn Model) -> bool {
        self.cells.matches(name) && (self.how != SlowDown::CopyFsync || model.copies_up())
    }

    /// What it hits, as errors say it.
    pub fn target(&self) -> &'static str {
        match self.how {
            SlowDown::Share(_) => "cell",
            SlowDown::CopyFsync => "cell that copies a file up",
        }
    }

    /// Slows down a sample of `file` that took `measured_ns`, and returns the time of both together.
    ///
    /// The time is spent, not added up: what disturbs a longer operation disturbs this too.
    ///
    /// # Errors
    ///
    /// The copy cannot be synced.
    pub fn slow_down(&self, bed: &Bed<'_>, file: &FileSpec, measured_ns: u64) -> Result<u64> {
        match self.how {
            SlowDown::Share(share) => Ok(work_on(share, measured_ns)),
            SlowDown::CopyFsync => {
                let start = Instant::now();
                sync_copy(bed, file)?;
                Ok(measured_ns.saturating_add(elapsed_ns(start)))
            }
        }
    }
}

fn work_on(share: f64, measured_ns: u64) -> u64 {
    let wanted = Duration::from_nanos(measured_ns).mul_f64(share);
    let start = Instant::now();
    while start.elapsed() < wanted {
        std::hint::spin_loop();
    }
    measured_ns.saturating_add(elapsed_ns(start))
}

/// Syncs the copy on the writable branch, since a mount may answer a sync by doing nothing; without a branch, the file.
fn sync_copy(bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
    let copy = match bed.upper_path(file) {
        Some(path) => File::open(&path).at("open", path)?,
        None => bed.open(file, OFlags::RDONLY)?,
    };
    copy.sync_all().at("sync", &file.path)
}

impl fmt::Display for Inject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            SlowDown::Share(share) => write!(f, "{}@{}", percent(share), self.cells),
            SlowDown::CopyFsync => write!(f, "{COPY_FSYNC}@{}", self.cells),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn slow_downs_and_cells_are_read() {
        let hits = |it: &Inject, name: &str, of: &str| it.hits(name, model::by_name(of).unwrap());
        for (text, hit, missed) in [
            ("10%", ("lookup-4K-8-fresh", "lookup"), None),
            ("2.5%@copy-up-*", ("copy-up-1M-8-fresh", "copy-up"), Some(("create-4K-8-fresh", "create"))),
            ("copy-fsync", ("copy-up-4K-8-fresh", "copy-up"), Some(("lookup-4K-8-fresh", "lookup"))),
            (
                "copy-fsync@copy-up-1M-*",
                ("copy-up-1M-8-fresh", "copy-up"),
                Some(("copy-up-4K-8-fresh", "copy-up")),
            ),
        ] {
            let inject = Inject::parse(text).unwrap();
            assert!(hits(&inject, hit.0, hit.1), "{text}");
            assert!(!missed.is_some_and(|it| hits(&inject, it.0, it.1)), "{text}");
            assert_eq!(Inject::parse(&inject.to_string()).unwrap(), inject);
        }
        for text in ["", "ten", "0%", "-3%", "10%@[", "inf%", "1e30%", "copy-fsync@[", "copy-sync", "fsync"] {
            assert!(Inject::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_time_is_really_spent() {
        for measured_ns in [0, 1_000, 3_000_000] {
            let start = Instant::now();
            let both = work_on(0.1, measured_ns);
            assert!(measured_ns + measured_ns / 10 <= both, "{both}");
            assert!(both - measured_ns <= elapsed_ns(start), "no more than what passed");
        }
    }
}
