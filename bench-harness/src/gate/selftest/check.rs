//! One check: what was done, what came of it, and what was required.

use serde::Serialize;

use super::trial::Tally;
use crate::stats::binomial;

/// Confidence of the bounds that are shown, one-sided.
const SHOWN_CONFIDENCE: f64 = 0.95;

/// What is judged by chance is red where a requirement that is just met would come out as bad with this probability or less.
const CHANCE: f64 = 0.001;

/// The kind of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Mathematics.
    Exact,
    /// Noise of a model.
    Simulated,
    /// Recorded latencies.
    Replayed,
    /// A gate broken on purpose.
    Mutation,
}

/// A check and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Its kind.
    pub part: Part,
    /// What it is about.
    pub name: String,
    /// What was done.
    pub done: String,
    /// What came of it.
    pub result: String,
    /// What must come of it.
    pub required: String,
    /// How often, where gates were counted.
    pub share: Option<Share>,
    /// All verdicts of the gates, where gates were counted.
    pub gates: Option<Tally>,
    /// Whether the requirement is met.
    pub green: bool,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Times it happened.
    pub count: u64,
    /// Gates.
    pub n: u64,
    /// The probability is not below this, with 95 % confidence (Clopper–Pearson, one-sided).
    pub lower_bound: f64,
    /// The probability is not above this, likewise.
    pub upper_bound: f64,
}

impl Share {
    /// `count` of `n`, with bounds.
    pub fn new(count: u64, n: u64) -> Self {
        let lower_bound = binomial::lower_bound(count, n, SHOWN_CONFIDENCE);
        let upper_bound = binomial::upper_bound(count, n, SHOWN_CONFIDENCE);
        Self { count, n, lower_bound, upper_bound }
    }
}

/// What is required of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Required {
    /// It happens this often or less.
    AtMost(f64),
    /// It happens this often or more.
    AtLeast(f64),
}

/// How a share is compared with what is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// The share itself.
    AsCounted,
    /// Red only where chance does not explain the difference.
    ByChance,
}

impl Judged {
    /// The stricter way where there are enough gates for it.
    pub fn by_form(is_full: bool) -> Self {
        if is_full { Self::AsCounted } else { Self::ByChance }
    }
}

impl Required {
    /// Whether `share` meets it.
    ///
    /// A few hundred gates do not tell 99 % from 98 %, and a rate that the design
    /// puts at its limit is above it every other time: neither may cry at luck.
    pub fn is_met(self, share: Share, judged: Judged) -> bool {
        let (count, most) = match self {
            Self::AtMost(most) => (share.count, most),
            Self::AtLeast(least) => (share.n - share.count, 1.0 - least),
        };
        // The tolerance keeps 1 − 0.99 = 0.010000000000000009 from deciding.
        let as_counted = count as f64 <= most * share.n as f64 + 1e-9;
        0 < share.n
            && (as_counted
                || judged == Judged::ByChance && binomial::lower_bound(count, share.n, 1.0 - CHANCE) <= most)
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}", percent(most)),
            Self::AtLeast(least) => format!("≥ {}", percent(least)),
        }
    }
}

impl Check {
    /// A check of mathematics over a number of cases, or the first case that is wrong.
    pub fn exact(name: &str, done: &str, outcome: Result<usize, String>) -> Self {
        let green = outcome.is_ok();
        Self {
            part: Part::Exact,
            name: name.to_owned(),
            done: done.to_owned(),
            result: outcome.map_or_else(|wrong| wrong, |cases| format!("{cases} cases agree")),
            required: "all".to_owned(),
            share: None,
            gates: None,
            green,
        }
    }

    /// A check that counts `what` in gates.
    pub fn counted(
        part: Part,
        name: &str,
        done: &str,
        what: &str,
        share: Share,
        required: Required,
        judged: Judged,
    ) -> Self {
        let bound = match required {
            Required::AtMost(_) => format!("at 95 % ≤ {}", percent(share.upper_bound)),
            Required::AtLeast(_) => format!("at 95 % ≥ {}", percent(share.lower_bound)),
        };
        Self {
            part,
            name: name.to_owned(),
            done: done.to_owned(),
            result: format!("{what} {}/{}, {bound}", share.count, share.n),
            required: format!("{what} {}", required.text()),
            share: Some(share),
            gates: None,
            green: required.is_met(share, judged),
        }
    }

    /// The same check with all verdicts.
    pub fn with_gates(self, gates: Tally) -> Self {
        Self { gates: Some(gates), ..self }
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_met_as_counted_or_as_far_as_chance_tells() {
        use Required::{AtLeast, AtMost};
        for (required, count, n, full, short) in [
            (AtMost(0.01), 10, 1000, true, true),
            (AtMost(0.01), 11, 1000, false, true),
            (AtMost(0.01), 30, 1000, false, false),
            (AtLeast(0.99), 990, 1000, true, true),
            (AtLeast(0.99), 989, 1000, false, true),
            (AtLeast(0.99), 960, 1000, false, false),
            (AtLeast(0.99), 196, 200, false, true),
            (AtMost(0.01), 0, 0, false, false),
            (AtLeast(0.99), 0, 0, false, false),
        ] {
            let share = Share::new(count, n);
            assert_eq!(required.is_met(share, Judged::AsCounted), full, "{required:?}: {count} of {n}");
            assert_eq!(
                required.is_met(share, Judged::ByChance),
                short,
                "by chance, {required:?}: {count} of {n}"
            );
        }
    }

    #[test]
    fn percents_are_short() {
        for (share, expected) in
            [(0.01, "1 %"), (0.0073, "0.73 %"), (0.5, "50 %"), (0.0, "0 %"), (1.0, "100 %")]
        {
            assert_eq!(percent(share), expected);
        }
    }
}
