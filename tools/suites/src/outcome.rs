//! What a suite found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The tests of one suite on one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many passed.
    pub passed: usize,
    /// Names of those that failed, and what they said.
    pub failed: BTreeMap<String, String>,
    /// Names of those that cannot run there.
    pub skipped: BTreeSet<String>,
}

impl Outcome {
    /// Returns how many tests there are.
    pub fn total(&self) -> usize {
        self.passed + self.failed.len() + self.skipped.len()
    }
}
