//! The claims and their limits.

use std::fmt;

use super::Measured;
use super::evidence::Evidence;
use super::measures;
use crate::cell::Subject;

/// What the median of the statistic must keep for a claim to hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Above the limit; below it the claim is refuted.
    Above(f64),
    /// Below the limit; above it the claim is refuted.
    Below(f64),
    /// Between both: an equivalence, by two one-sided tests; refuted when outside on one side.
    Within(f64, f64),
}

/// A sentence of the documentation, and how it is tested.
pub struct Claim {
    /// `C1` to `C8`; one with two statistics has two lines, next to each other.
    pub id: &'static str,
    /// In our words.
    pub says: &'static str,
    /// What has a value in each block.
    pub statistic: &'static str,
    /// What its median must keep.
    pub rule: Rule,
    /// Takes the values from the run.
    pub measure: fn(&Evidence<'_>, &Subject, &str) -> Vec<Measured>,
    /// Only these drivers, where it is about some.
    pub only: &'static [&'static str],
    /// Not these.
    pub except: &'static [&'static str],
}

/// Where a driver writes to a directory and has nothing to copy.
const UNLAYERED: &[&str] = &["plain", "volume"];

/// An effect counts from a tenth on: what is smaller is not what a reader of the sentence expects.
const EFFECT: f64 = 1.10;

/// All claims. The limits of C3 are wider: these writes take microseconds, of which a page more or less is a tenth.
pub static CLAIMS: &[Claim] = &[
    Claim {
        id: "C1",
        says: "The first write to a file takes longer the larger the file is.",
        statistic: "time at the largest size in that at the smallest",
        rule: Rule::Above(EFFECT),
        measure: measures::larger_files,
        only: &[],
        except: &[],
    },
    Claim {
        id: "C2",
        says: "A file in a lower layer takes longer to find.",
        statistic: "first lookup in the lowest layer in that in the topmost, of one stack",
        rule: Rule::Above(EFFECT),
        measure: measures::lower_layers,
        only: &[],
        except: &[],
    },
    Claim {
        id: "C3",
        says: "Only the first write pays: a later one is about as fast as without a union.",
        statistic: "time of a second write in that of a directory without a union",
        rule: Rule::Below(1.25),
        measure: measures::second_write,
        only: &[],
        except: UNLAYERED,
    },
    Claim {
        id: "C3",
        says: "A later write takes less than half of the first, which paid for the copy.",
        statistic: "time of a second write in that of the first, at the largest size",
        rule: Rule::Below(0.5),
        measure: measures::second_after_first,
        only: &[],
        except: UNLAYERED,
    },
    Claim {
        id: "C4",
        says: "The first write to a file takes longer deep in a directory tree.",
        statistic: "time at the deepest path in that at the shallowest",
        rule: Rule::Above(EFFECT),
        measure: measures::deep_paths,
        only: &[],
        except: &[],
    },
    Claim {
        id: "C5",
        says: "A volume bypasses the driver.",
        statistic: "time in a volume in that in a plain directory",
        rule: Rule::Within(1.0 / EFFECT, EFFECT),
        measure: measures::volume,
        only: &["volume"],
        except: &[],
    },
    Claim {
        id: "C6",
        says: "The whole file is copied, however little of it changes.",
        statistic: "space of the copy in the size of the file",
        rule: Rule::Above(0.99),
        measure: measures::whole_copy,
        only: &[],
        except: UNLAYERED,
    },
    Claim {
        id: "C7",
        says: "A deletion leaves a small whiteout.",
        statistic: "space of what a deletion leaves in the size of the file",
        rule: Rule::Below(measures::SMALL),
        measure: measures::small_whiteout,
        only: &[],
        except: UNLAYERED,
    },
    Claim {
        id: "C7",
        says: "A deletion takes no longer for a larger file.",
        statistic: "time at the largest size in that at the smallest",
        rule: Rule::Below(EFFECT),
        measure: measures::deletion_by_size,
        only: &[],
        except: UNLAYERED,
    },
    Claim {
        id: "C8",
        says: "Containers share the page cache of a file.",
        statistic: "page cache after two readers in the size of the file",
        rule: Rule::Below(1.5),
        measure: measures::shared_cache,
        only: &[],
        except: &[],
    },
];

impl Claim {
    /// Whether the claim is about `subject`.
    pub fn is_about(&self, subject: &Subject) -> bool {
        let driver = subject.driver.as_str();
        (self.only.is_empty() || self.only.contains(&driver)) && !self.except.contains(&driver)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(limit) => write!(f, "> {limit}"),
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::Within(low, high) => write!(f, "within {low:.2} to {high:.2}"),
        }
    }
}
