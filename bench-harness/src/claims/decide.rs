//! From values to verdicts: exact sign tests, both ways, with Holm's correction over the rows of a claim.

use schemars::JsonSchema;
use serde::Serialize;

use super::LEVEL;
use super::table::Rule;
use crate::stats::holm;
use crate::stats::sign_test::{least, sides};

/// What comes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Supported,
    /// The contrary holds.
    Refuted,
    /// The run says neither.
    Undecided,
}

impl Verdict {
    /// The word of tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
        }
    }
}

/// p-values of the claim and of its contrary.
fn p_values(rule: Rule, values: &[f64]) -> (f64, f64) {
    match rule {
        Rule::Above(limit) => {
            let it = sides(values, limit);
            (it.above, it.below)
        }
        Rule::Below(limit) => {
            let it = sides(values, limit);
            (it.below, it.above)
        }
        // Equivalence must pass on both sides; the contrary may be on either, hence twice the smaller.
        Rule::Within(low, high) => {
            let (low, high) = (sides(values, low), sides(values, high));
            (low.above.max(high.below), (2.0 * low.below.min(high.above)).min(1.0))
        }
    }
}

/// A verdict and its reason for each rule and its values, which together are one claim.
///
/// Sets without values are undecided and correct nothing.
///
/// Each direction is tested at half of [`LEVEL`], so that all verdicts of a
/// claim are right with 95 % together.
pub fn decide(all: &[(Rule, &[f64])]) -> Vec<(Verdict, String)> {
    let tested: Vec<usize> = (0..all.len()).filter(|it| !all[*it].1.is_empty()).collect();
    let p: Vec<(f64, f64)> = tested.iter().map(|it| p_values(all[*it].0, all[*it].1)).collect();
    let support = holm::adjusted(&p.iter().map(|it| it.0).collect::<Vec<_>>());
    let refute = holm::adjusted(&p.iter().map(|it| it.1).collect::<Vec<_>>());
    let mut decisions = vec![(Verdict::Undecided, "nothing was measured".to_owned()); all.len()];
    for (at, index) in tested.iter().enumerate() {
        let (rule, values) = all[*index];
        decisions[*index] = verdict(rule, values, support[at], refute[at], tested.len());
    }
    decisions
}

fn verdict(rule: Rule, values: &[f64], support: f64, refute: f64, n_rows: usize) -> (Verdict, String) {
    let level = LEVEL / 2.0;
    let n = values.len();
    let keeps = |it: &&f64| match rule {
        Rule::Above(limit) => limit < **it,
        Rule::Below(limit) => **it < limit,
        Rule::Within(low, high) => low < **it && **it < high,
    };
    let kept = values.iter().filter(keeps).count();
    let share = format!("{kept} of {n} blocks keep the limit");
    if support <= level {
        return (Verdict::Supported, format!("{share}; p = {}", p_text(support)));
    }
    if refute <= level {
        return (Verdict::Refuted, format!("{share}; p of the contrary = {}", p_text(refute)));
    }
    let needed = (1..=200).find(|it| least(*it) * n_rows as f64 <= level).unwrap_or(200);
    if n < needed {
        let among = if n_rows == 1 { String::new() } else { format!(" among {n_rows} rows") };
        return (Verdict::Undecided, format!("{n} blocks; a verdict{among} needs {needed}"));
    }
    (Verdict::Undecided, format!("{share}; p = {} either way, above {level}", p_text(support.min(refute))))
}

/// `0.012`, `< 0.0001`.
fn p_text(p: f64) -> String {
    match p {
        p if p < 1e-4 => "< 0.0001".to_owned(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.2}"),
    }
}
