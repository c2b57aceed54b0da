//! A fact and why it is believed.

use std::fmt;

use aufs_host::private_child::{Step, TrialError};
use rustix::io::Errno;
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

/// The reason where trials have no place.
pub(crate) const NO_SCRATCH: &str = "no directory to make a trial mount in";

/// Writes in one line what a trial was doing and why that was refused.
pub(crate) fn explain(error: &TrialError) -> String {
    let TrialError { step, errno } = error;
    match (step, *errno) {
        (Step::Unshare, Errno::NOSPC) => {
            format!("{step}: the limit user.max_user_namespaces or user.max_mnt_namespaces is reached")
        }
        (Step::Unshare | Step::MapIds | Step::MakePrivate, Errno::PERM | Errno::ACCESS) => {
            format!("{step}: {errno}; this host forbids namespaces to this process")
        }
        _ => format!("{step}: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_means() {
        for (step, errno, expected) in [
            (Step::Mount, Errno::PERM, "mount: Operation not permitted (os error 1)"),
            (Step::Unshare, Errno::NOSPC, "user.max_user_namespaces"),
            (Step::Unshare, Errno::PERM, "forbids namespaces"),
        ] {
            let text = explain(&TrialError { step, errno });
            assert!(text.contains(expected), "{text}");
        }
    }
}
