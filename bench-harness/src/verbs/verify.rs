//! `verify`: every cell once, checked and not timed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;

use super::limits::LimitArgs;
use super::matrix::{MatrixArgs, planned};
use super::outln;
use super::run::seed_from_clock;
use super::signals;
use crate::cell::Subject;
use crate::error::{At as _, Exit, Result};
use crate::run;
use crate::run::journal::{Origin, RunRecord};
use crate::run::lock::Lock;
use crate::run::record::Method;
use crate::run::{Outcome, Plan};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What to verify.
    #[command(flatten)]
    pub matrix: MatrixArgs,

    #[command(flatten)]
    limits: LimitArgs,
}

/// Does every cell once, and prints what came of it.
///
/// # Errors
///
/// A wrong matrix, or nothing that can run here.
pub fn verify(args: &VerifyArgs) -> Result<Exit> {
    args.limits.choose();
    let (matrix, mut cells) = planned(&args.matrix, None)?;
    let _lock = Lock::take(&args.matrix.backing)?;
    let interrupt = signals::install()?;
    cells.iter_mut().for_each(|it| it.files = 1);
    let out = tempfile::tempdir().at("create", "run directory")?;
    let plan = Plan {
        cuts: Vec::new(),
        goals: None,
        matrix: matrix.name,
        cells,
        blocks_max: 1,
        budget: Duration::from_secs(3600),
        seed: seed_from_clock(),
        scratch: args.matrix.backing.clone(),
        label: None,
        check_all: true,
        method: Method::default(),
        origin: Origin::default(),
    };
    let outcome = run::start(&plan, out.path(), &interrupt)?;
    print_verified(&outcome)?;
    Ok(outcome.exit)
}

/// Cells of a driver, by what came of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    right: usize,
    wrong: usize,
    /// Not done before the end came.
    left: usize,
}

/// What came of the cells of each subject.
fn counts(record: &RunRecord) -> BTreeMap<Subject, Counts> {
    let errors = record.errors();
    let done: BTreeSet<usize> =
        record.blocks.values().flat_map(|block| block.samples.iter().map(|it| it.0)).collect();
    let mut counts: BTreeMap<Subject, Counts> = BTreeMap::new();
    for (index, planned) in record.header.cells.iter().enumerate() {
        let count = counts.entry(planned.cell.subject()).or_default();
        match (errors.contains_key(&index), done.contains(&index)) {
            (true, _) => count.wrong += 1,
            (false, true) => count.right += 1,
            (false, false) => count.left += 1,
        }
    }
    counts
}

/// One line for each driver: cells that are right, that failed, or why it was skipped.
fn print_verified(outcome: &Outcome) -> Result<()> {
    let record = &outcome.record;
    for (subject, Counts { right, wrong, left }) in counts(record) {
        let left = if left == 0 { String::new() } else { format!(", {left} not done") };
        outln!("{:<26} {right} right, {wrong} wrong{left}", subject.label())?;
    }
    for skip in &record.header.skips {
        let model = skip.model.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
        outln!("{:<26} skipped{model} on {}: {}", skip.subject.label(), skip.backing, skip.reason)?;
    }
    for (index, message) in record.errors() {
        outln!("wrong: {}: {message}", record.header.cells[index].cell)?;
    }
    let layers = match record.layers_unchanged {
        Some(true) => "unchanged",
        Some(false) => "CHANGED",
        None => "not compared",
    };
    outln!("layers {layers}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{cell, run, subject};

    #[test]
    fn a_cell_that_was_not_done_is_not_right() {
        let cells = ["copy-up", "lookup", "chmod"].map(|it| cell("plain", "default", it, 4096, 1));
        // A time of 0 is an error.
        let mut record =
            run(&cells.map(|it| (it.clone(), if it.params.model == "chmod" { 0 } else { 1000 })), 1);
        for block in record.blocks.values_mut() {
            block.samples.retain(|it| it.0 == 0);
        }
        let found = counts(&record).remove(&subject("plain", "default"));
        assert_eq!(found, Some(Counts { right: 1, wrong: 1, left: 1 }));
    }
}
