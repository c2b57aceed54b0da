//! A comparison as JSON.

use serde::Serialize;

use super::{Anchor, Comparison};
use crate::cell::Cell;
use crate::compare::fingerprint::Difference;
use crate::error::Result;
use crate::report;
use crate::stats::summary::Ratio;

/// Version of this form.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
struct Root<'a> {
    schema: u32,
    /// Never true: the runs were made one after the other.
    interleaved: bool,
    base: &'a str,
    heads: Vec<Head<'a>>,
}

#[derive(Debug, Serialize)]
struct Head<'a> {
    name: &'a str,
    /// Fact, value of the base, value of this run.
    differences: Vec<(&'a str, &'a str, &'a str)>,
    cells: Vec<CellJson<'a>>,
    /// Cells of both runs without numbers in one, and why.
    failed: Vec<(&'a Cell, &'a str)>,
    only_in_base: usize,
    only_in_head: usize,
}

#[derive(Debug, Serialize)]
struct CellJson<'a> {
    #[serde(flatten)]
    cell: &'a Cell,
    base_n: usize,
    base_p50_ns: f64,
    head_n: usize,
    head_p50_ns: f64,
    ratio: RatioJson,
    anchor: Option<&'static str>,
    ratio_to_anchor: Option<RatioJson>,
}

#[derive(Debug, Serialize)]
struct RatioJson {
    estimate: f64,
    low: Option<f64>,
    high: Option<f64>,
    blocks: usize,
}

impl From<Ratio> for RatioJson {
    fn from(it: Ratio) -> Self {
        let (low, high) = (it.interval.map(|it| it.low), it.interval.map(|it| it.high));
        Self { estimate: it.p50, low, high, blocks: it.n_blocks }
    }
}

/// All of `comparisons`, each with the differences of the machines.
///
/// # Errors
///
/// A value cannot be written as JSON.
pub fn json(comparisons: &[(Comparison<'_>, Vec<Difference>)]) -> Result<String> {
    report::pretty(&Root {
        schema: SCHEMA,
        interleaved: false,
        base: comparisons.first().map_or("", |it| it.0.base.name.as_str()),
        heads: comparisons.iter().map(|(it, differences)| head(it, differences)).collect(),
    })
}

fn head<'a>(it: &'a Comparison<'_>, differences: &'a [Difference]) -> Head<'a> {
    let cells = it.rows.iter().map(|row| CellJson {
        cell: &row.cell,
        base_n: row.base.0,
        base_p50_ns: row.base.1,
        head_n: row.head.0,
        head_p50_ns: row.head.1,
        ratio: row.ratio.into(),
        anchor: row.anchored.map(|it| it.0).map(Anchor::as_str),
        ratio_to_anchor: row.anchored.map(|it| it.1.into()),
    });
    Head {
        name: &it.head.name,
        differences: differences
            .iter()
            .map(|it| (it.fact.as_str(), it.base.as_str(), it.head.as_str()))
            .collect(),
        cells: cells.collect(),
        failed: it.failed.iter().map(|it| (&it.0, it.1.as_str())).collect(),
        only_in_base: it.only[0],
        only_in_head: it.only[1],
    }
}
