//! Gates in simulated noise.

use super::SelftestOptions;
use super::check::{Check, Judged, Part, Required};
use super::noise::{Host, NASTY, Noise, QUIET, SHARED};
use super::trial::{Setup, SlowDown, Source, Tally, tally};
use crate::error::Result;
use crate::gate::decide::Rules;
use crate::gate::interleave::Arm;
use crate::matrix::Matrix;

/// Cells of a simulated gate.
pub const N_CELLS: usize = 12;

/// What is injected where a slow-down must be found.
pub const SLOWER: f64 = 1.10;

/// How much longer the second of a pair takes, where that is tried.
pub const SECOND: f64 = 1.05;

/// Cells of a gate at the margin: so many that it shows when nothing corrects for them.
pub const N_CELLS_MARGIN: usize = 48;

/// Times of a simulated host.
pub struct Simulated(Host);

impl Simulated {
    /// A host of `noise` with the future of `seed`.
    pub fn new(noise: Noise, seed: u64) -> Self {
        Self(Host::new(noise, seed))
    }
}

impl Source for Simulated {
    fn respawn(&mut self) {
        self.0.respawn();
    }

    fn next_ns(&mut self, cell: usize, arm: Arm) -> f64 {
        // Cells from some 0.1 ms up to some ms.
        let own_ns = 1e5 * 1.4_f64.powi(cell as i32 % 12);
        own_ns * self.0.ln_factor(usize::from(arm == Arm::Head)).exp()
    }
}

/// All checks in simulated noise.
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn checks(options: &SelftestOptions) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    // What is found depends on the noise: these floors lie below what was measured, so that a loss shows.
    for (noise, power) in [(QUIET, 0.99), (SHARED, 0.97), (NASTY, 0.50)] {
        checks.extend(at_level(noise, power, options)?);
    }
    checks.extend(shipped(options)?);
    checks.push(at_margin(options, &at_margin_setup())?);
    checks.push(second_slower(options, &second_slower_setup())?);
    Ok(checks)
}

fn at_level(noise: Noise, power: f64, options: &SelftestOptions) -> Result<Vec<Check>> {
    let gates = |setup: &Setup| simulated(noise, setup, options);
    let same = gates(&Setup::same(N_CELLS))?;
    let one = gates(&Setup::slowed(N_CELLS, SlowDown::OneCell(SLOWER)))?;
    let all = gates(&Setup::slowed(N_CELLS, SlowDown::AllCells(SLOWER)))?;
    let by_form = Judged::by_form(options.is_full());
    let missed = Required::AtMost(Rules::default().miss);
    let check = |done: &str, what: &str, tally: Tally, share, required, judged| {
        Check::counted(Part::Simulated, noise.name, done, what, share, required, judged).with_gates(tally)
    };
    Ok(vec![
        check("head is base", "FAIL", same, same.failed(), Required::AtMost(0.01), by_form),
        check("+10 % in one of 12 cells", "FAIL", one, one.failed(), Required::AtLeast(power), by_form),
        // A slow-down of just the limit: the rule lets two in a thousand pass.
        check("the same gates", "PASS", one, one.passed(), missed, Judged::ByChance),
        check("+10 % in all cells", "FAIL", all, all.failed(), Required::AtLeast(0.99), by_form),
    ])
}

/// The rules of the matrix `gate`, which are what a gate is judged by where nobody asks for others.
///
/// # Errors
///
/// The matrix is damaged.
pub fn shipped_rules() -> Result<Rules> {
    Ok(Matrix::load("gate")?.gate.unwrap_or_default().rules())
}

fn shipped(options: &SelftestOptions) -> Result<Vec<Check>> {
    let rules = shipped_rules()?;
    let gates = |setup: Setup| simulated(NASTY, &Setup { rules: rules.clone(), ..setup }, options);
    let same = gates(Setup::same(N_CELLS))?;
    let one = gates(Setup::slowed(N_CELLS, SlowDown::OneCell(SLOWER)))?;
    let by_form = Judged::by_form(options.is_full());
    let check = |done: &str, what: &str, tally: Tally, share, required, judged| {
        let done = format!("{done}, by the matrix gate");
        Check::counted(Part::Simulated, NASTY.name, &done, what, share, required, judged).with_gates(tally)
    };
    Ok(vec![
        check("head is base", "FAIL", same, same.failed(), Required::AtMost(0.01), by_form),
        check("+10 % in one of 12 cells", "FAIL", one, one.failed(), Required::AtLeast(0.95), by_form),
        check("the same gates", "PASS", one, one.passed(), Required::AtMost(rules.miss), Judged::ByChance),
    ])
}

/// Every cell slower by just the margin: where a correction for many cells shows.
pub fn at_margin_setup() -> Setup {
    Setup::slowed(N_CELLS_MARGIN, SlowDown::AllCells(1.0 + Rules::default().margin))
}

/// False alarms of gates like [`at_margin_setup`].
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn at_margin(options: &SelftestOptions, setup: &Setup) -> Result<Check> {
    let tally = simulated(NASTY, setup, options)?;
    let (share, required) = (tally.failed(), Required::AtMost(0.01));
    let done = "all of 48 cells slower by the margin of 3 %";
    Ok(Check::counted(Part::Simulated, "at the margin", done, "FAIL", share, required, Judged::ByChance)
        .with_gates(tally))
}

/// Head is base, but whichever goes second takes longer.
pub fn second_slower_setup() -> Setup {
    Setup { second: SECOND, ..Setup::same(N_CELLS) }
}

/// False alarms of gates like [`second_slower_setup`].
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn second_slower(options: &SelftestOptions, setup: &Setup) -> Result<Check> {
    let tally = simulated(SHARED, setup, options)?;
    let (share, required) = (tally.failed(), Required::AtMost(0.01));
    let (done, by_form) = ("head is base; the second of a pair +5 %", Judged::by_form(options.is_full()));
    Ok(Check::counted(Part::Simulated, "position", done, "FAIL", share, required, by_form).with_gates(tally))
}

/// Gates in `noise`, as many as the options want.
///
/// # Errors
///
/// A gate that ended without a verdict.
pub fn simulated(noise: Noise, setup: &Setup, options: &SelftestOptions) -> Result<Tally> {
    tally(setup, options.seed, options.n_gates, |seed| Simulated::new(noise, seed))
}
