//! The mathematics of the gate, against brute force and printed tables.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::check::Check;
use crate::gate::decide::{Look, Rules};
use crate::stats::signed_rank::{Walsh, critical, tails};
use crate::stats::{binomial, holm};

/// All checks of mathematics; `seed` draws the samples of those that need some.
pub fn checks(seed: u64) -> Vec<Check> {
    vec![
        Check::exact("signed-rank distribution", "tables against all 2ⁿ signs, n ≤ 12", brute_force()),
        Check::exact("critical values", "tables against printed ones, n ≤ 50", printed_values()),
        Check::exact("bounds", "bounds against the test at, above and below each average", inversion(seed)),
        Check::exact("Holm", "order kept, between none and Bonferroni, monotone", corrections(seed)),
        Check::exact("Clopper–Pearson", "bounds against the binomial formula", binomial_bounds()),
        Check::exact("refusals", "looks that can find nothing, by blocks and cells", refusals()),
    ]
}

/// `holds`, or what is wrong.
fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong()) }
}

fn brute_force() -> Result<usize, String> {
    let mut cases = 0;
    for n in 1..=12_usize {
        let mut counts = vec![0_u32; n * (n + 1) / 2 + 1];
        for signs in 0..1_usize << n {
            let rank_sum: usize = (0..n).filter(|bit| signs >> bit & 1 == 1).map(|bit| bit + 1).sum();
            counts[rank_sum] += 1;
        }
        let mut above = 0;
        for (w, count) in counts.iter().enumerate().rev() {
            above += count;
            // Both sides are whole multiples of 2⁻¹², hence exact.
            let expected = f64::from(above) / f64::from(1_u32 << n);
            ensure(tails(n)[w] == expected, || format!("n = {n}, w = {w}: {} for {expected}", tails(n)[w]))?;
            cases += 1;
        }
    }
    Ok(cases)
}

/// Largest rank sum that is significant from below, one-sided at 5, 2.5, 1 and 0.5 %; as in Conover, table A12.
const PRINTED: [(usize, [Option<usize>; 4]); 15] = [
    (5, [Some(0), None, None, None]),
    (6, [Some(2), Some(0), None, None]),
    (7, [Some(3), Some(2), Some(0), None]),
    (8, [Some(5), Some(3), Some(1), Some(0)]),
    (9, [Some(8), Some(5), Some(3), Some(1)]),
    (10, [Some(10), Some(8), Some(5), Some(3)]),
    (11, [Some(13), Some(10), Some(7), Some(5)]),
    (12, [Some(17), Some(13), Some(9), Some(7)]),
    (13, [Some(21), Some(17), Some(12), Some(9)]),
    (14, [Some(25), Some(21), Some(15), Some(12)]),
    (15, [Some(30), Some(25), Some(19), Some(15)]),
    (20, [Some(60), Some(52), Some(43), Some(37)]),
    (25, [Some(100), Some(89), Some(76), Some(68)]),
    (30, [Some(151), Some(137), Some(120), Some(109)]),
    (50, [Some(466), Some(434), Some(397), Some(373)]),
];

fn printed_values() -> Result<usize, String> {
    for (n, printed) in PRINTED {
        for (alpha, expected) in [0.05, 0.025, 0.01, 0.005].into_iter().zip(printed) {
            let found = critical(n, alpha).map(|it| n * (n + 1) / 2 - it);
            ensure(found == expected, || format!("n = {n}, α = {alpha}: {found:?} for {expected:?}"))?;
        }
    }
    Ok(PRINTED.len() * 4)
}

fn inversion(seed: u64) -> Result<usize, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cases = 0;
    for n in 1..=40_usize {
        // Few different values, so that there are many ties.
        let values: Vec<f64> = (0..n).map(|_| (rng.next_u64() % 17) as f64 - 8.0).collect();
        let walsh = Walsh::of(&values).ok_or("no averages")?;
        for (quarter, alpha) in (-40..=40).flat_map(|it| [0.0002, 0.0025, 0.05].map(|alpha| (it, alpha))) {
            let centre = f64::from(quarter) / 4.0;
            let above = (walsh.p_above(centre) <= alpha) == (centre < walsh.lower_bound(alpha));
            let below = (walsh.p_below(centre) <= alpha) == (walsh.upper_bound(alpha) < centre);
            ensure(above && below, || format!("{values:?} at {centre}, α = {alpha}: bound and test differ"))?;
            cases += 2;
        }
    }
    Ok(cases)
}

fn corrections(seed: u64) -> Result<usize, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut cases = 0;
    for n in 1..=30_usize {
        let p_values: Vec<f64> = (0..n).map(|_| uniform() * uniform()).collect();
        let corrected = holm::adjusted(&p_values);
        let wrong = |what: &str| format!("{p_values:?}: {what}");
        for (p, own) in p_values.iter().zip(&corrected) {
            ensure(p <= own && *own <= 1.0, || wrong("below the p-value, or above 1"))?;
            for (other_p, other) in p_values.iter().zip(&corrected) {
                ensure(other_p < p || own <= other, || wrong("another order"))?;
            }
        }
        let least = p_values.iter().copied().fold(1.0, f64::min);
        let least_corrected = corrected.iter().copied().fold(1.0, f64::min);
        ensure(least_corrected == (least * n as f64).min(1.0), || wrong("the least is not Bonferroni's"))?;
        let mut smaller = p_values.clone();
        smaller[n / 2] *= 0.5;
        let eased = holm::adjusted(&smaller);
        ensure(eased.iter().zip(&corrected).all(|(a, b)| a <= b), || {
            wrong("a smaller p made another harder")
        })?;
        cases += n * n;
    }
    Ok(cases)
}

fn binomial_bounds() -> Result<usize, String> {
    let mut cases = 0;
    for n in [1_u64, 2, 10, 20, 299, 412, 473, 1000, 5000] {
        for confidence in [0.95, 0.975, 0.99] {
            // No success and one: (1−p)ⁿ and (1−p)ⁿ + np(1−p)ⁿ⁻¹ must be what confidence leaves.
            for count in 0..=u64::from(1 < n) {
                let p = binomial::upper_bound(count, n, confidence);
                let none = (n as f64 * (-p).ln_1p()).exp();
                let one = if count == 1 { n as f64 * p * ((n - 1) as f64 * (-p).ln_1p()).exp() } else { 0.0 };
                let left = none + one;
                ensure((left - (1.0 - confidence)).abs() < 1e-6, || {
                    format!("{count} of {n} at {confidence}: the bound {p} leaves {left}")
                })?;
                cases += 1;
            }
        }
    }
    Ok(cases)
}

fn refusals() -> Result<usize, String> {
    let mut cases = 0;
    for (blocks, n_cells) in (1..=24).flat_map(|it| [1, 2, 6, 12, 100, 5000].map(|cells| (it, cells))) {
        let alpha = 0.01;
        let rules = Rules { looks: vec![Look { blocks, alpha }], ..Rules::default() };
        let level = (alpha / f64::from(n_cells)).min(rules.miss_per_look());
        let hopeless = level < 0.5_f64.powi(i32::try_from(blocks).unwrap_or(i32::MAX));
        let refused = rules.check(usize::try_from(n_cells).unwrap_or(usize::MAX)).is_err();
        ensure(refused == hopeless, || format!("{blocks} blocks, {n_cells} cells: refused {refused}"))?;
        cases += 1;
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mathematics_holds() {
        for check in checks(1) {
            assert!(check.green, "{}: {}", check.name, check.result);
        }
    }
}
