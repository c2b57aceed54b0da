//! Weighted least squares with few coefficients, of which some must not be negative.

/// One equation: factors of the coefficients, the value they should give, and its weight.
pub type Equation<const N: usize> = ([f64; N], f64, f64);

/// What a coefficient may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Zero or more: a cost.
    NonNegative,
    /// Any number.
    Free,
    /// Left at zero: its axis does not vary.
    Unused,
}

/// Pivots below this share of a unit column mean that columns are copies of each other.
const PIVOT_MIN: f64 = 1e-11;

/// The coefficients with the least sum of weighted squares within `signs`.
///
/// With at most a handful of coefficients the active set is found by trying
/// every one: the optimum is the best of those that are feasible, which is the
/// solution of non-negative least squares without its iteration.
/// `None` where no set can be solved: no equations, or columns that depend on each other.
pub fn solve<const N: usize>(equations: &[Equation<N>], signs: [Sign; N]) -> Option<[f64; N]> {
    let sets = (0_u32..1 << N).filter(|set| {
        let with = |column: usize| set & (1 << column) != 0;
        (0..N).all(|it| match signs[it] {
            Sign::NonNegative => true,
            Sign::Free => with(it),
            Sign::Unused => !with(it),
        })
    });
    let tried = sets.filter_map(|set| {
        let x = solve_set(equations, set)?;
        let feasible = (0..N).all(|it| signs[it] != Sign::NonNegative || 0.0 <= x[it]);
        feasible.then(|| (loss(equations, &x), x))
    });
    let best = tried.filter(|it| it.0.is_finite()).min_by(|a, b| a.0.total_cmp(&b.0))?;
    best.1.iter().any(|it| *it != 0.0).then_some(best.1)
}

/// Weighted sum of squares that `x` leaves.
pub fn loss<const N: usize>(equations: &[Equation<N>], x: &[f64; N]) -> f64 {
    let left = |(row, y, w): &Equation<N>| w * (dot(row, x) - y).powi(2);
    equations.iter().map(left).sum()
}

fn dot<const N: usize>(row: &[f64; N], x: &[f64; N]) -> f64 {
    row.iter().zip(x).map(|(a, b)| a * b).sum()
}

/// Solves the normal equations of the columns in `set`; the others stay zero.
fn solve_set<const N: usize>(equations: &[Equation<N>], set: u32) -> Option<[f64; N]> {
    // Bytes and layers differ by nine powers of ten; unit columns keep the squares in range.
    let norm = |it: usize| equations.iter().map(|(row, _, w)| w * row[it] * row[it]).sum::<f64>().sqrt();
    let columns: Vec<usize> = (0..N).filter(|it| set & (1 << it) != 0).collect();
    let norms: Vec<f64> = columns.iter().map(|it| norm(*it)).collect();
    if norms.iter().any(|it| !(it.is_finite() && 0.0 < *it)) {
        return None;
    }
    let n = columns.len();
    let mut system = vec![vec![0.0; n + 1]; n];
    for (row, y, w) in equations {
        for i in 0..n {
            let a = w * row[columns[i]] / norms[i];
            for j in 0..n {
                system[i][j] += a * row[columns[j]] / norms[j];
            }
            system[i][n] += a * y;
        }
    }
    let scaled = eliminate(system)?;
    let mut x = [0.0; N];
    for (at, value) in scaled.into_iter().enumerate() {
        x[columns[at]] = value / norms[at];
    }
    Some(x)
}

/// Gauss–Jordan elimination with pivots of the largest magnitude.
fn eliminate(mut system: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = system.len();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|a, b| system[*a][column].abs().total_cmp(&system[*b][column].abs()))?;
        system.swap(column, pivot);
        let head = system[column].clone();
        if head[column].abs() < PIVOT_MIN {
            return None;
        }
        for (index, row) in system.iter_mut().enumerate().filter(|it| it.0 != column) {
            let factor = row[column] / head[column];
            debug_assert!(index != column);
            row.iter_mut().zip(&head).skip(column).for_each(|(it, top)| *it -= factor * top);
        }
    }
    Some((0..n).map(|it| system[it][n] / system[it][it]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COSTS: [Sign; 3] = [Sign::NonNegative; 3];

    proptest! {
        #[test]
        fn no_feasible_neighbour_is_better(
            rows in prop::collection::vec(([0.1..9.0_f64, -9.0..9.0_f64, -9.0..9.0_f64], -9.0..9.0_f64, 0.1..4.0_f64), 4..20),
            steps in prop::collection::vec((0_usize..3, -0.5..0.5_f64), 20),
        ) {
            if let Some(best) = solve(&rows, COSTS) {
                prop_assert!(best.iter().all(|it| 0.0 <= *it), "{best:?}");
                let least = loss(&rows, &best);
                for (at, step) in steps {
                    let mut other = best;
                    other[at] = (other[at] + step).max(0.0);
                    prop_assert!(least <= loss(&rows, &other) * (1.0 + 1e-9) + 1e-9, "{best:?} {other:?}");
                }
            }
        }

        #[test]
        fn a_free_coefficient_may_be_negative(b in -5.0..5.0_f64) {
            let rows: Vec<Equation<2>> = (1..6).map(f64::from).map(|x| ([1.0, x], 20.0 + b * x, 1.0)).collect();
            let x = solve(&rows, [Sign::NonNegative, Sign::Free]).unwrap();
            prop_assert!((x[0] - 20.0).abs() < 1e-8 && (x[1] - b).abs() < 1e-8, "{x:?}");
        }
    }

    #[test]
    fn what_cannot_be_solved_is_nothing() {
        assert_eq!(solve(&[], COSTS), None);
        let zero: Vec<Equation<1>> = vec![([0.0], 1.0, 1.0)];
        assert_eq!(solve(&zero, [Sign::NonNegative]), None);
        let falling: Vec<Equation<1>> = vec![([1.0], -1.0, 1.0)];
        assert_eq!(solve(&falling, [Sign::NonNegative]), None, "a cost of nothing is no fit");
        let twins: Vec<Equation<2>> = (1..5).map(f64::from).map(|x| ([x, x], x, 1.0)).collect();
        let x = solve(&twins, [Sign::NonNegative; 2]).unwrap();
        assert!((x[0] + x[1] - 1.0).abs() < 1e-9, "one of two equal columns takes it all: {x:?}");
    }
}
