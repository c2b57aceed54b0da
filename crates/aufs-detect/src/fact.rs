//! A fact and why it is believed.

use std::error::Error;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Something found out, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact<T> {
    /// What was found.
    pub value: T,
    /// Why: a file that was read, or how a trial ended.
    pub reason: String,
}

impl<T> Fact<T> {
    /// Joins a value and its reason.
    pub fn new(value: T, reason: impl Into<String>) -> Self {
        Self { value, reason: reason.into() }
    }
}

/// Whether something can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// A trial worked.
    Yes,
    /// A trial was refused.
    No,
    /// No trial could be made.
    Unknown,
}

impl Answer {
    /// Whether a trial worked.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// Writes an error and its causes in one line, the cause last.
pub(crate) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        write!(text, ": {error}").ok();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use aufs_host::private_child::{Step, TrialError};
    use rustix::io::Errno;

    #[test]
    fn an_error_is_explained_with_its_cause() {
        let error = TrialError { step: Step::Mount, errno: Errno::PERM };
        assert_eq!(explain(&error), "mount: Operation not permitted (os error 1)");
    }
}
