//! What is concluded from the summaries of a run: fits and claims, made once for page, tables and JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::document::Table;
use super::{claims, fit};
use crate::claims::{Row, judge};
use crate::run::journal::RunRecord;
use crate::stats::fit::of_run::{Fit, Fits};
use crate::stats::summary::Summary;

/// The conclusions of a run.
#[derive(Debug)]
pub struct Conclusions {
    /// What a change costs by size and by layer.
    pub fits: Fits,
    /// The claims of the documentation.
    pub claims: Vec<Row>,
}

/// The same in `summary.json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConclusionsJson<'a> {
    fits: &'a [Fit],
    claims: &'a [Row],
}

impl Conclusions {
    /// What `summary` of `run` shows.
    pub fn of(summary: &Summary, run: &RunRecord) -> Self {
        Self { fits: Fits::of(summary, run), claims: judge(summary, run) }
    }

    /// Fits, then claims.
    pub fn tables(&self, run: &RunRecord) -> Vec<Table> {
        let mut tables = fit::tables(&self.fits, run);
        tables.extend(claims::tables(&self.claims));
        tables
    }

    /// For `summary.json`.
    pub fn json(&self) -> ConclusionsJson<'_> {
        ConclusionsJson { fits: &self.fits.fits, claims: &self.claims }
    }
}
