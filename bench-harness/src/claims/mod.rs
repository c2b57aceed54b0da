//! The claims that the documentation of AUFS makes about write layers, tested on a run.
//!
//! A claim is a line in [`table`]: a sentence, a statistic with one value for
//! each block, and the limits that the median must keep. What comes of it is
//! decided in [`mod@decide`], in the same way for all.

mod decide;
mod evidence;
mod measures;
mod table;

pub use decide::Verdict;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cell::Subject;
use crate::run::journal::RunRecord;
use crate::stats::order::{Interval, median, median_interval, sorted};
use crate::stats::summary::Summary;
use decide::decide;
use evidence::Evidence;
use table::Claim;

/// Error rate of all verdicts of one claim together: half for supporting, half for refuting.
pub const LEVEL: f64 = 0.05;

/// What a measure found for one subject on one backing.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which cells, in words.
    pub what: String,
    /// One value for each block, or why there is none.
    pub values: Result<Vec<f64>, String>,
}

/// A claim judged for one subject on one backing.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Row {
    /// `C1` to `C8`.
    pub claim: &'static str,
    /// The claim, in our words.
    pub says: &'static str,
    /// Who was measured.
    #[serde(flatten)]
    pub subject: Subject,
    /// Where.
    pub backing: String,
    /// The statistic and its limits, in words.
    pub statistic: String,
    /// Which cells it is taken of.
    pub what: String,
    /// Median over blocks.
    pub p50: Option<f64>,
    /// Its exact 95 % interval, by itself; the verdict is corrected for the number of drivers.
    pub interval: Option<Interval>,
    /// Blocks with a value.
    pub blocks: usize,
    /// What comes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// Judges all claims on `run`, in the order of the table.
pub fn judge(summary: &Summary, run: &RunRecord) -> Vec<Row> {
    let evidence = Evidence::of(summary, run);
    let claims: Vec<&[Claim]> = table::CLAIMS.chunk_by(|a, b| a.id == b.id).collect();
    claims.into_par_iter().flat_map_iter(|lines| judge_one(lines, &evidence)).collect()
}

/// One claim for everybody; Holm's correction goes over all rows of all its `lines` that have values.
fn judge_one(lines: &'static [Claim], evidence: &Evidence<'_>) -> Vec<Row> {
    let mut measured: Vec<(&Claim, Subject, String, Measured)> = Vec::new();
    for claim in lines {
        for (subject, backing) in evidence.places().into_iter().filter(|it| claim.is_about(&it.0)) {
            let found = (claim.measure)(evidence, &subject, &backing).into_iter();
            measured.extend(found.map(|it| (claim, subject.clone(), backing.clone(), it)));
        }
    }
    let values = measured.iter().map(|it| (it.0.rule, it.3.values.as_deref().unwrap_or_default()));
    let decisions = decide(&values.collect::<Vec<_>>());
    let rows = measured.iter().zip(decisions).map(|((claim, subject, backing, found), (verdict, reason))| {
        let values = sorted(found.values.clone().unwrap_or_default());
        Row {
            claim: claim.id,
            says: claim.says,
            subject: subject.clone(),
            backing: evidence.backing_label(backing),
            statistic: format!("{} {}", claim.statistic, claim.rule),
            what: found.what.clone(),
            p50: median(&values),
            interval: median_interval(&values),
            blocks: values.len(),
            verdict,
            reason: match (&found.values, evidence.n_failed(subject, backing)) {
                (Ok(_), _) => reason,
                (Err(missing), 0) => missing.clone(),
                (Err(missing), n) => format!("{missing} with numbers; {n} cells of this driver failed"),
            },
        }
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
