//! What can go wrong in a measurement, and the exit code it means.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit codes of `aufs-bench`; part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The operation failed; stderr says why.
    Failure = 1,
    /// The command line or the matrix file is wrong (as clap exits).
    Usage = 2,
    /// The samples do not decide: neither a regression nor its absence is shown.
    Inconclusive = 3,
    /// This host can run none of the wanted drivers.
    Refused = 4,
    /// A sample failed, or its result was not what it must be.
    Incorrect = 5,
    /// Stopped by SIGINT, SIGTERM or SIGHUP; what was measured is kept.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failed step of the bench: what was done, to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}", path.display())]
pub struct BenchError {
    /// The step, verb first.
    pub op: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub kind: BenchErrorKind,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchErrorKind {
    /// The system refused a call.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The command line or a matrix file asks for something wrong.
    #[error("{0}")]
    Config(String),
    /// This host cannot do it.
    #[error("{0}")]
    Refused(String),
    /// A tool that the bench calls failed.
    #[error("{0}")]
    Tool(String),
    /// A driver did not answer in time, and its processes were ended.
    #[error("{0}")]
    TimedOut(String),
    /// The driver's result is not what it must be.
    #[error("{0}")]
    Incorrect(String),
    /// The disk has no room for what was to be written.
    #[error("{0}")]
    Full(String),
    /// A sample that should start cold would not, with the resident share of a file in thousandths.
    #[error("not cold: {0} thousandths of the file are still in the page cache")]
    NotCold(u64),
    /// A recorded run cannot be read.
    #[error("{0}")]
    Journal(String),
    /// A picture could not be drawn.
    #[error("{0}")]
    Plot(String),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl BenchErrorKind {
    /// A driver did not answer within `limit`.
    pub fn timed_out(limit: std::time::Duration) -> Self {
        Self::TimedOut(format!("no answer in {} s; its processes were ended", limit.as_secs_f64()))
    }
}

impl From<nix::errno::Errno> for BenchErrorKind {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Io(io::Error::from(errno))
    }
}

impl From<rustix::io::Errno> for BenchErrorKind {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(io::Error::from(errno))
    }
}

/// The result of a step of the bench.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

impl BenchError {
    /// An error of `op` on `path`.
    pub fn new(op: &'static str, path: impl AsRef<Path>, kind: impl Into<BenchErrorKind>) -> Self {
        Self { op, path: path.as_ref().to_owned(), kind: kind.into() }
    }

    /// The exit code that reports this error.
    pub fn exit(&self) -> Exit {
        match self.kind {
            BenchErrorKind::Config(_) => Exit::Usage,
            BenchErrorKind::Refused(_) => Exit::Refused,
            BenchErrorKind::Incorrect(_)
            | BenchErrorKind::NotCold(_)
            | BenchErrorKind::TimedOut(_)
            | BenchErrorKind::Full(_) => Exit::Incorrect,
            BenchErrorKind::Interrupted => Exit::Interrupted,
            BenchErrorKind::Io(_)
            | BenchErrorKind::Tool(_)
            | BenchErrorKind::Journal(_)
            | BenchErrorKind::Plot(_) => Exit::Failure,
        }
    }

    /// Whether a file system or a quota has no room left.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = |error: &io::Error| matches!(error.kind(), StorageFull | QuotaExceeded);
        matches!(&self.kind, BenchErrorKind::Full(_))
            || matches!(&self.kind, BenchErrorKind::Io(it) if full(it))
    }

    /// The error and its causes on one line.
    pub fn line(&self) -> String {
        format!("{self}: {}", self.kind)
    }
}

/// Names the step and the path of a failed call.
pub trait At<T> {
    /// Turns the error into a [`BenchError`] of `op` on `path`.
    ///
    /// # Errors
    ///
    /// The error of `self`, with its place.
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<BenchErrorKind>> At<T> for std::result::Result<T, E> {
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| BenchError::new(op, path, error))
    }
}
