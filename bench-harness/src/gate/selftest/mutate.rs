//! Gates broken on purpose: the check that watches over a part must turn red without it.
//!
//! A self-test that stays green whatever is broken proves nothing; these are the
//! proof that it would not.

use rayon::prelude::*;

use super::SelftestOptions;
use super::check::{Check, Judged, Part, Required, Share};
use super::noise::{NASTY, SHARED};
use super::simulate::{
    N_CELLS, N_CELLS_MARGIN, SLOWER, Simulated, at_margin, at_margin_setup, second_slower,
    second_slower_setup, simulated,
};
use super::trial::{Fault, Setup, SlowDown, play};
use crate::error::{Exit, Result};
use crate::gate::decide::Rules;

/// All mutations.
///
/// # Errors
///
/// A gate that ended without a verdict where it must have one.
pub fn checks(options: &SelftestOptions) -> Result<Vec<Check>> {
    let no_coin = Setup { fault: Fault::NoCoin, ..second_slower_setup() };
    let no_holm = Setup { rules: without_holm(N_CELLS_MARGIN), ..at_margin_setup() };
    Ok(vec![
        caught("no coin", &second_slower(options, &no_coin)?),
        caught("no Holm", &at_margin(options, &no_holm)?),
        caught("clearing at 10 %", &at_limit(options, &easily_cleared())?),
        caught("swapped arms", &swapped(options)?),
        head_fails(options),
    ])
}

/// The check of a mutation: green if that of the broken gate is red.
fn caught(name: &str, broken: &Check) -> Check {
    let word = if broken.green { "NOT caught" } else { "caught" };
    Check {
        part: Part::Mutation,
        name: name.to_owned(),
        result: format!("{word}: {}", broken.result),
        required: format!("red at {}", broken.required),
        green: !broken.green,
        ..broken.clone()
    }
}

/// Rules by which each cell is tested at the whole α.
///
/// A gate fails when Holm's least corrected p is within α, and that is the least
/// p times the number of cells.
fn without_holm(n_cells: usize) -> Rules {
    let mut rules = Rules::default();
    rules.looks.iter_mut().for_each(|it| it.alpha *= n_cells as f64);
    rules
}

/// Rules that clear a cell far too easily.
fn easily_cleared() -> Setup {
    let slowed = Setup::slowed(N_CELLS, SlowDown::OneCell(SLOWER));
    Setup { rules: Rules { miss: 0.10, ..Rules::default() }, ..slowed }
}

/// How often a slow-down of just the limit passes, held against the share that the rules promise.
fn at_limit(options: &SelftestOptions, setup: &Setup) -> Result<Check> {
    let tally = simulated(NASTY, setup, options)?;
    let (share, required) = (tally.passed(), Required::AtMost(Rules::default().miss));
    let done = "+10 % in one of 12 cells";
    Ok(Check::counted(Part::Simulated, NASTY.name, done, "PASS", share, required, Judged::ByChance)
        .with_gates(tally))
}

fn swapped(options: &SelftestOptions) -> Result<Check> {
    let slowed = Setup::slowed(N_CELLS, SlowDown::OneCell(SLOWER));
    let tally = simulated(SHARED, &Setup { fault: Fault::SwappedArms, ..slowed }, options)?;
    let (share, required) = (tally.failed(), Required::AtLeast(0.97));
    let done = "+10 % in one of 12 cells";
    Ok(Check::counted(
        Part::Simulated,
        SHARED.name,
        done,
        "FAIL",
        share,
        required,
        Judged::by_form(options.is_full()),
    )
    .with_gates(tally))
}

/// Gates whose head fails at some sample of the first twenty blocks: each must end with exit code 5.
fn head_fails(options: &SelftestOptions) -> Check {
    let n = options.n_gates;
    let per_look = 20 * N_CELLS as u64 * u64::from(Rules::default().pairs);
    let ends_with_5 = |trial: &u64| {
        let fault = Fault::HeadFails(1 + trial * per_look / n);
        let setup = Setup { fault, ..Setup::same(N_CELLS) };
        let end = play(&setup, options.seed, *trial, |seed| Simulated::new(SHARED, seed));
        end.is_err_and(|error| error.exit() == Exit::Incorrect)
    };
    let count = (0..n).into_par_iter().filter(ends_with_5).count() as u64;
    let (share, done) = (Share::new(count, n), "head fails at one sample of the first 20 blocks");
    let check = Check::counted(
        Part::Mutation,
        "head fails",
        done,
        "exit 5",
        share,
        Required::AtLeast(1.0),
        Judged::AsCounted,
    );
    let word = if check.green { "caught" } else { "NOT caught" };
    Check { result: format!("{word}: {}", check.result), ..check }
}
