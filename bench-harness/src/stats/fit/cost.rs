//! The cost model t = a + b·size + c·found-at, and how it is fitted to medians.

use schemars::JsonSchema;
use serde::Serialize;

use super::solve::{Equation, Sign, solve};
use crate::stats::order::{median, sorted};

/// The time of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Length of the file, in bytes.
    pub size_bytes: f64,
    /// Layer that holds it; 1 is the topmost.
    pub found_at: f64,
    /// What it took, in ns; above zero.
    pub time_ns: f64,
}

/// What a change costs: once, for each byte, and for each layer searched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// a, in ns.
    pub fixed_ns: f64,
    /// b, in ns for each byte.
    pub ns_per_byte: f64,
    /// c, in ns for each layer.
    pub ns_per_layer: f64,
}

/// Which axes vary among the points; the coefficient of one that does not is left at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// There are two sizes or more.
    pub sizes: bool,
    /// There are two layers or more.
    pub layers: bool,
}

/// Huber's constant: 95 % efficient where residuals are normal.
const HUBER: f64 = 1.345;

/// Rounds of reweighting; a handful are enough.
const ROUNDS: u32 = 60;

impl Axes {
    /// The axes that vary among `points`.
    pub fn of(points: &[Point]) -> Self {
        let varies = |axis: fn(&Point) -> f64| points.iter().any(|it| axis(it) != axis(&points[0]));
        Self { sizes: varies(|it| it.size_bytes), layers: varies(|it| it.found_at) }
    }

    /// Coefficients that are fitted, the fixed one included.
    pub fn n_coefficients(self) -> usize {
        1 + usize::from(self.sizes) + usize::from(self.layers)
    }

    fn signs(self) -> [Sign; 3] {
        let sign = |varies: bool| if varies { Sign::NonNegative } else { Sign::Unused };
        [Sign::NonNegative, sign(self.sizes), sign(self.layers)]
    }
}

impl Cost {
    /// The time that the model gives, in ns.
    pub fn at(&self, size_bytes: f64, found_at: f64) -> f64 {
        self.fixed_ns + self.ns_per_byte * size_bytes + self.ns_per_layer * found_at
    }

    /// The part of the time at `point` that does not depend on the size, in ns.
    pub fn without_size(&self, point: &Point) -> f64 {
        self.at(0.0, point.found_at)
    }

    /// How far `point` lies above the model, as a share of the model.
    pub fn residual(&self, point: &Point) -> f64 {
        point.time_ns / self.at(point.size_bytes, point.found_at) - 1.0
    }

    fn of([fixed_ns, ns_per_byte, ns_per_layer]: [f64; 3]) -> Self {
        Self { fixed_ns, ns_per_byte, ns_per_layer }
    }
}

/// The fit with the least squares of relative errors: weights are 1/time².
///
/// Unweighted, the largest file would decide all; its noise alone is longer than what a layer costs.
pub fn fit(points: &[Point]) -> Option<Cost> {
    if points.len() < Axes::of(points).n_coefficients() {
        return None;
    }
    let equations: Vec<Equation<3>> = points
        .iter()
        .map(|it| ([1.0 / it.time_ns, it.size_bytes / it.time_ns, it.found_at / it.time_ns], 1.0, 1.0))
        .collect();
    solve(&equations, Axes::of(points).signs()).map(Cost::of)
}

/// The robust twin: Huber's loss of the residuals of ln t, by reweighted Gauss–Newton from [`fit`].
///
/// Where it differs much from the fit, a few cells pull the fit away from the others.
pub fn fit_robust(points: &[Point]) -> Option<Cost> {
    let signs = Axes::of(points).signs();
    let mut cost = fit(points)?;
    for _ in 0..ROUNDS {
        let logs: Vec<f64> = points.iter().map(|it| cost.residual(it).ln_1p()).collect();
        let scale = 1.4826 * median(&sorted(logs.iter().map(|it| it.abs()).collect()))?;
        let limit = HUBER * scale.max(1e-9);
        let equation = |(it, log): (&Point, &f64)| {
            let at = cost.at(it.size_bytes, it.found_at);
            let weight = if log.abs() <= limit { 1.0 } else { limit / log.abs() };
            ([1.0 / at, it.size_bytes / at, it.found_at / at], 1.0 + log, weight)
        };
        let equations: Vec<Equation<3>> = points.iter().zip(&logs).map(equation).collect();
        let next = Cost::of(solve(&equations, signs)?);
        let moved = points.iter().map(|it| {
            (next.at(it.size_bytes, it.found_at) / cost.at(it.size_bytes, it.found_at) - 1.0).abs()
        });
        let settled = moved.fold(0.0, f64::max) < 1e-9;
        cost = next;
        if settled {
            break;
        }
    }
    points.iter().all(|it| 0.0 < cost.at(it.size_bytes, it.found_at)).then_some(cost)
}
