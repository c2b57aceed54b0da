//! How well the model describes the points, and by which power of the size they grow.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::cost::{Axes, Cost, Point, fit};
use super::solve::{Equation, Sign, loss, solve};

/// The size decides where it costs this many times of what does not depend on it.
const DOMINANCE: f64 = 4.0;

/// Lack of fit from which a second slope is tried.
const LACK_MAX: f64 = 0.10;

/// The points that an exponent is taken of.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Which points, one flag each.
    pub within: Vec<bool>,
    /// Whether the size decides there; else it is the largest two sizes, where the fixed cost still shows.
    pub dominated: bool,
}

/// How far the points lie from the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct LackOfFit {
    /// Largest relative residual, as a share of the model; nothing where there are no more cells than coefficients.
    pub residual_max: Option<f64>,
    /// Largest relative error at a size when the model is fitted without that size; three sizes at least.
    pub left_out_max: Option<f64>,
}

/// The model with another cost of a byte beyond some size: a cache or a limit of dirty pages that is full.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct TwoSlopes {
    /// a, in ns.
    pub fixed_ns: f64,
    /// b up to the knee, in ns for each byte.
    pub ns_per_byte_below: f64,
    /// b beyond it.
    pub ns_per_byte_above: f64,
    /// c, in ns for each layer.
    pub ns_per_layer: f64,
    /// Where the slope changes, one of the sizes of the run.
    pub knee_bytes: f64,
    /// Largest relative residual.
    pub residual_max: f64,
}

/// The distinct sizes of `points`, in rising order.
pub fn sizes(points: &[Point]) -> Vec<u64> {
    points.iter().map(|it| it.size_bytes as u64).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The distinct layers of `points`, in rising order.
pub fn layers(points: &[Point]) -> Vec<u64> {
    points.iter().map(|it| it.found_at as u64).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Where to take the exponent: where b·size > 4·(a + c·found-at), if two sizes of a layer are there.
pub fn exponent_range(points: &[Point], cost: &Cost) -> Option<Range> {
    let decides = |it: &Point| DOMINANCE * cost.without_size(it) < cost.ns_per_byte * it.size_bytes;
    let within: Vec<bool> = points.iter().map(decides).collect();
    if slope(points, &within).is_some() {
        return Some(Range { within, dominated: true });
    }
    let sizes = sizes(points);
    let from = *sizes.get(sizes.len().checked_sub(2)?)? as f64;
    let within: Vec<bool> = points.iter().map(|it| from <= it.size_bytes).collect();
    slope(points, &within).map(|_| Range { within, dominated: false })
}

/// The slope of ln t over ln size within the points of `within`, each layer with a level of its own.
pub fn slope(points: &[Point], within: &[bool]) -> Option<f64> {
    let chosen: Vec<&Point> = points.iter().zip(within).filter(|it| *it.1).map(|it| it.0).collect();
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for layer in chosen.iter().map(|it| it.found_at as u64).collect::<BTreeSet<_>>() {
        let own: Vec<(f64, f64)> = chosen
            .iter()
            .filter(|it| it.found_at as u64 == layer)
            .map(|it| (it.size_bytes.ln(), it.time_ns.ln()))
            .collect();
        let n = own.len() as f64;
        let (mean_x, mean_y) =
            (own.iter().map(|it| it.0).sum::<f64>() / n, own.iter().map(|it| it.1).sum::<f64>() / n);
        numerator += own.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
        denominator += own.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    }
    (1e-9 < denominator).then(|| numerator / denominator)
}

/// Largest residual, and largest error at a size that the fit has not seen.
pub fn lack_of_fit(points: &[Point], cost: &Cost) -> LackOfFit {
    let has_spare = Axes::of(points).n_coefficients() < points.len();
    let residual_max = has_spare.then(|| largest(points.iter().map(|it| cost.residual(it))));
    let sizes = sizes(points);
    let left_out = sizes.iter().filter_map(|size| {
        let (own, others): (Vec<Point>, Vec<Point>) =
            points.iter().partition(|it| it.size_bytes as u64 == *size);
        let cost = fit(&others)?;
        Some(largest(own.iter().map(|it| cost.residual(it))))
    });
    let left_out_max = (3 <= sizes.len()).then(|| largest(left_out));
    LackOfFit { residual_max, left_out_max: left_out_max.filter(|it| it.is_finite()) }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::abs).fold(0.0, f64::max)
}

/// By what share of b each layer changes the cost of a byte: d/b of t = a + b·size + c·found-at + d·size·found-at.
///
/// Size and depth add up where it is zero. It needs two sizes, two layers and five cells.
pub fn interaction(points: &[Point]) -> Option<f64> {
    let axes = Axes::of(points);
    if !axes.sizes || !axes.layers || points.len() < 5 {
        return None;
    }
    let equation = |it: &Point| {
        let row = [1.0, it.size_bytes, it.found_at, it.size_bytes * it.found_at];
        (row.map(|factor| factor / it.time_ns), 1.0, 1.0)
    };
    let equations: Vec<Equation<4>> = points.iter().map(equation).collect();
    let cost = Sign::NonNegative;
    let [_, b, _, d] = solve(&equations, [cost, cost, cost, Sign::Free])?;
    (0.0 < b).then(|| d / b)
}

/// The model with two slopes, where one slope is more than 10 % off and there are sizes enough to say more.
pub fn two_slopes(points: &[Point], lack: &LackOfFit) -> Option<TwoSlopes> {
    let sizes = sizes(points);
    let axes = Axes::of(points);
    if lack.residual_max? <= LACK_MAX || sizes.len() < 4 || points.len() <= 1 + axes.n_coefficients() {
        return None;
    }
    let inner = &sizes[1..sizes.len() - 1];
    let tried = inner.iter().filter_map(|knee| with_knee(points, *knee as f64, axes));
    tried.min_by(|a, b| a.0.total_cmp(&b.0)).map(|it| it.1)
}

fn with_knee(points: &[Point], knee_bytes: f64, axes: Axes) -> Option<(f64, TwoSlopes)> {
    let row =
        |it: &Point| [1.0, it.size_bytes.min(knee_bytes), (it.size_bytes - knee_bytes).max(0.0), it.found_at];
    let equation = |it: &Point| (row(it).map(|factor| factor / it.time_ns), 1.0, 1.0);
    let equations: Vec<Equation<4>> = points.iter().map(equation).collect();
    let cost = Sign::NonNegative;
    let layer = if axes.layers { cost } else { Sign::Unused };
    let x = solve(&equations, [cost, cost, cost, layer])?;
    let at = |it: &Point| row(it).iter().zip(&x).map(|(factor, x)| factor * x).sum::<f64>();
    let residual_max = largest(points.iter().map(|it| it.time_ns / at(it) - 1.0));
    let [fixed_ns, ns_per_byte_below, ns_per_byte_above, ns_per_layer] = x;
    let slopes =
        TwoSlopes { fixed_ns, ns_per_byte_below, ns_per_byte_above, ns_per_layer, knee_bytes, residual_max };
    Some((loss(&equations, &x), slopes))
}
