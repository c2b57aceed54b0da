//! The error of the kit's own work, as opposed to errnos under test.

use std::io;
use std::path::{Path, PathBuf};

/// Building, running or reading a scenario failed; says nothing about the subject.
#[derive(Debug, thiserror::Error)]
#[error("{op} {path}: {source}", path = path.display())]
pub struct KitError {
    /// What was being done.
    pub op: &'static str,
    /// To which path.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl KitError {
    /// Names the operation and the path of a failed call.
    pub fn new(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { op, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// For use in `map_err`.
    pub fn at<E: Into<io::Error>>(op: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self { op, path, source: source.into() }
    }
}
