//! Tests of the rules and of the decider.

use proptest::prelude::*;

use super::*;

/// Pushes blocks, in which cell `i` has `value(i, block)`, until there is a verdict.
fn decided(rules: Rules, n_cells: usize, value: impl Fn(usize, u32) -> f64) -> Decider {
    let mut decider = Decider::new(rules, n_cells).unwrap();
    while decider.verdict().is_none() {
        let block = decider.n_blocks();
        assert!(block < 400, "a gate ends");
        let values = decider.open().map(|cell| (cell, value(cell, block))).collect();
        decider.push_block(&values);
        decider.look();
    }
    decider
}

/// A value between `centre` − `spread` and `centre` + `spread`, evenly spread over blocks.
fn about(centre: f64, spread: f64, block: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    centre + spread * (2.0 * (f64::from(block) * GOLDEN).fract() - 1.0)
}

#[test]
fn verdicts_by_slow_down() {
    use CellState::{Cleared, Improved, Open, Slower};
    use Verdict::{Fail, Inconclusive, Pass};
    let (exact, noisy) = ([0.001; 3], [0.9; 3]);
    for (case, slow_downs, spread, verdict, states, n_blocks) in [
        ("the same", [0.0, 0.0, 0.0], exact, Pass, [Cleared; 3], 20),
        ("within the margin", [0.02, 0.0, -0.02], exact, Pass, [Cleared; 3], 20),
        ("one slower", [0.0, 0.10, 0.0], exact, Fail, [Cleared, Slower, Cleared], 20),
        ("above the margin, below the limit", [0.0, 0.06, 0.0], exact, Fail, [Cleared, Slower, Cleared], 20),
        ("faster never fails", [-0.2, -0.04, 0.0], exact, Pass, [Improved, Improved, Cleared], 20),
        ("noise that hides all", [0.05, 0.05, 0.05], noisy, Inconclusive, [Open; 3], 160),
        ("one open cell", [0.0, 0.06, 0.0], [0.001, 0.9, 0.001], Inconclusive, [Cleared, Open, Cleared], 160),
    ] {
        let value = |cell: usize, block| about(f64::ln_1p(slow_downs[cell]), spread[cell], block);
        let decider = decided(Rules::default(), 3, value);
        assert_eq!(decider.verdict(), Some(verdict), "{case}: {:?}", decider.judgements());
        let found: Vec<CellState> = decider.judgements().iter().map(|it| it.state).collect();
        assert_eq!((found.as_slice(), decider.n_blocks()), (&states[..], n_blocks), "{case}");
        assert_eq!(decider.open().count(), 0, "{case}: nothing is measured after the verdict");
    }
}

#[test]
fn cleared_cells_stop_and_still_count() {
    // Cell 0 is cleared at the first look; cell 1 is noisy at first, and then slower.
    let value = |cell: usize, block: u32| match (cell, block) {
        (0, _) => about(0.0, 0.001, block),
        (_, ..20) => about(0.05, 0.5, block),
        _ => 0.5,
    };
    let decider = decided(Rules::default(), 2, value);
    assert_eq!(decider.verdict(), Some(Verdict::Fail));
    let [cleared, slower] = decider.judgements() else { panic!("two cells") };
    assert_eq!((cleared.n_blocks, decider.values[0].len()), (20, 20));
    assert_eq!((cleared.state, slower.state), (CellState::Cleared, CellState::Slower));
    assert!(20 < slower.n_blocks && slower.n_blocks == decider.n_blocks());
}

#[test]
fn cells_without_values_are_never_passed() {
    let mut decider = Decider::new(Rules::default(), 2).unwrap();
    while decider.verdict().is_none() {
        let block = decider.n_blocks();
        decider.push_block(&[(0, about(0.0, 0.001, block)), (1, f64::NAN), (7, 0.0)].into());
        decider.look();
    }
    assert_eq!(decider.verdict(), Some(Verdict::Inconclusive));
    assert_eq!(decider.judgements()[1].n_blocks, 0);
}

#[test]
fn looks_come_when_due_only() {
    let mut decider = Decider::new(Rules::default(), 1).unwrap();
    for block in 1..=19 {
        decider.push_block(&[(0, 1.0)].into());
        assert!(!decider.look_due(), "block {block}");
        decider.look();
        assert_eq!(decider.judgements()[0].n_blocks, 0, "an early look looks at nothing");
    }
    decider.push_block(&[(0, 1.0)].into());
    assert!(decider.look_due());
    decider.look();
    assert_eq!(decider.verdict(), Some(Verdict::Fail));
}

#[test]
fn rules_that_cannot_decide_are_refused() {
    let looks = |looks: &[(u32, f64)]| {
        let looks = looks.iter().map(|(blocks, alpha)| Look { blocks: *blocks, alpha: *alpha }).collect();
        Rules { looks, ..Rules::default() }
    };
    for (rules, n_cells, expected) in [
        (Rules::default(), 0, "needs a cell"),
        (looks(&[]), 1, "needs a look"),
        (Rules { miss: 0.001, ..looks(&[(9, 0.002)]) }, 1, "look at 9 blocks can never clear a cell"),
        (looks(&[(8, 0.002), (160, 0.003)]), 1, "look at 8 blocks can never find one of 1 cells slower"),
        (looks(&[(10, 0.01)]), 11, "look at 10 blocks can never find one of 11 cells slower"),
        (looks(&[(20, 0.002), (20, 0.002)]), 1, "ascending"),
        (looks(&[(401, 0.002)]), 1, "400 or fewer"),
        (looks(&[(20, 0.3), (40, 0.3)]), 1, "0.6 in all"),
        (looks(&[(20, 0.0)]), 1, "above 0"),
        (looks(&[(20, f64::NAN)]), 1, "above 0"),
        (Rules { margin: f64::NAN, ..Rules::default() }, 1, "margin is NaN"),
        (Rules { margin: -0.01, ..Rules::default() }, 1, "margin is -0.01"),
        (Rules { limit: 0.03, ..Rules::default() }, 1, "above the margin"),
        (Rules { limit: f64::INFINITY, ..Rules::default() }, 1, "limit is inf"),
        (Rules { miss: 0.0, ..Rules::default() }, 1, "miss is 0"),
        (Rules { pairs: 0, ..Rules::default() }, 1, "pairs is 0"),
    ] {
        let refused = rules.check(n_cells).unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
        assert_eq!(Decider::new(rules, n_cells).unwrap_err(), refused);
    }
    let shipped = crate::matrix::Matrix::load("gate").unwrap().gate.unwrap().rules();
    for (rules, n_cells) in [(Rules::default(), 2000), (shipped, 1000)] {
        let spent: f64 = rules.looks.iter().map(|it| it.alpha).sum();
        assert!((spent - 0.01).abs() < 1e-12, "one false alarm in a hundred");
        assert_eq!(rules.check(n_cells), Ok(()), "2⁻²⁰ is small enough for these");
        assert!(rules.check(n_cells + n_cells / 2).is_err(), "but not for half as many more");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn block_values_change_sign_with_the_arms(pairs in prop::collection::vec((1_u64..1 << 40, 1_u64..1 << 40), 1..20)) {
        let swapped: Vec<(u64, u64)> = pairs.iter().map(|(base, head)| (*head, *base)).collect();
        prop_assert_eq!(block_value(&pairs), block_value(&swapped).map(|it| -it));
        let slower: Vec<(u64, u64)> = pairs.iter().map(|(base, head)| (*base, head * 2)).collect();
        let by = block_value(&slower).unwrap() - block_value(&pairs).unwrap();
        prop_assert!((by - std::f64::consts::LN_2).abs() < 1e-9);
    }

    #[test]
    fn states_say_what_the_bounds_say(
        values in prop::collection::vec(prop::collection::vec(-0.3_f64..0.4, 160), 1..4), shift in -0.1_f64..0.1,
    ) {
        let decider = decided(Rules::default(), values.len(), |cell, block| values[cell][block as usize] * 0.5 + shift);
        let (margin, limit) = (0.03_f64.ln_1p(), 0.10_f64.ln_1p());
        for it in decider.judgements() {
            prop_assert!(it.lower_bound <= it.estimate && it.estimate <= it.upper_bound);
            match it.state {
                CellState::Slower => prop_assert!(margin < it.estimate),
                CellState::Cleared => prop_assert!(it.upper_bound < limit),
                CellState::Improved => prop_assert!(it.upper_bound < limit && it.estimate < -margin),
                CellState::Open => prop_assert!(limit <= it.upper_bound),
            }
        }
        let slower = decider.judgements().iter().any(|it| it.state == CellState::Slower);
        prop_assert_eq!(decider.verdict() == Some(Verdict::Fail), slower);
    }

    #[test]
    fn a_slower_head_never_does_better(
        values in prop::collection::vec(-0.3_f64..0.3, 160), by in 0.0_f64..0.3,
    ) {
        let gate = |by: f64| decided(Rules::default(), 1, |_, block| values[block as usize] * 0.3 + by);
        let (before, after) = (gate(0.0), gate(by));
        if before.verdict() == Some(Verdict::Fail) && before.n_blocks() <= after.n_blocks() {
            prop_assert_eq!(after.verdict(), Some(Verdict::Fail));
        }
        let (first, second) = (before.judgements()[0], after.judgements()[0]);
        if first.n_blocks == second.n_blocks {
            prop_assert!(second.p_slower <= first.p_slower && first.upper_bound <= second.upper_bound);
        }
    }
}

#[test]
fn no_pairs_or_no_time_is_no_value() {
    for (pairs, expected) in
        [(&[][..], None), (&[(0, 5)], None), (&[(5, 0), (5, 5)], None), (&[(5, 5)], Some(0.0))]
    {
        assert_eq!(block_value(pairs), expected, "{pairs:?}");
    }
}
