//! `verify`: every cell once, checked and not timed.

use std::collections::BTreeMap;
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
use crate::run::journal::Origin;
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

/// One line for each driver: cells that are right, that failed, or why it was skipped.
fn print_verified(outcome: &Outcome) -> Result<()> {
    let (record, errors) = (&outcome.record, outcome.record.errors());
    let mut counts: BTreeMap<Subject, (usize, usize)> = BTreeMap::new();
    for (index, planned) in record.header.cells.iter().enumerate() {
        let count = counts.entry(planned.cell.subject()).or_default();
        if errors.contains_key(&index) { count.1 += 1 } else { count.0 += 1 }
    }
    for (subject, (right, wrong)) in counts {
        outln!("{:<26} {right} right, {wrong} wrong", subject.label())?;
    }
    for skip in &record.header.skips {
        let model = skip.model.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
        outln!("{:<26} skipped{model} on {}: {}", skip.subject.label(), skip.backing, skip.reason)?;
    }
    for (index, message) in errors {
        outln!("wrong: {}: {message}", record.header.cells[index].cell)?;
    }
    let layers = if record.layers_unchanged == Some(true) { "unchanged" } else { "CHANGED" };
    outln!("layers {layers}")?;
    Ok(())
}
