//! The fits of a run: one for each subject, model and state of the caches.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::cost::{Axes, Cost, Point, fit, fit_robust};
use super::intervals::{BLOCKS_MIN, SESSIONS_MIN, percentile_interval, resampled, session_interval};
use super::shape::{self, LackOfFit, Range, TwoSlopes};
use crate::cell::{Cache, Params, Subject};
use crate::run::journal::RunRecord;
use crate::stats::order::{Interval, median, sorted};
use crate::stats::summary::{Blocks, CellSummary, Summary};

/// What a fit is about, driver aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Place {
    /// What is done.
    pub model: String,
    /// Where layers and branches lie.
    pub backing: String,
    /// Height of the stack; none where the file lies in the lowest layer, so that height and found-at are one.
    pub n_layers: Option<u32>,
    /// Directories above the file.
    pub dir_depth: u32,
    /// State of the caches.
    pub cache: Cache,
    /// Files that one sample works on.
    pub entries: u32,
    /// Threads that work at once.
    pub threads: u32,
}

/// A value that only the run has, with its interval within the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its 95 % interval by resampling blocks; none below six blocks.
    pub interval: Option<Interval>,
}

/// The power of the size by which the time grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Exponent {
    /// 1 for a whole copy, 0 where the size does not matter.
    #[serde(flatten)]
    pub slope: Estimate,
    /// Smallest and largest size that it is taken of, in bytes.
    pub sizes_bytes: (u64, u64),
    /// Whether the size decides there; else the fixed cost still flattens the slope.
    pub dominated: bool,
}

/// The intervals of a, b and c for another day, from sessions.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, JsonSchema)]
pub struct Absolute {
    /// Of a, in ns.
    pub fixed_ns: Option<Interval>,
    /// Of b.
    pub ns_per_byte: Option<Interval>,
    /// Of c.
    pub ns_per_layer: Option<Interval>,
}

/// The fit of one subject at one place.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Fit {
    /// Who.
    #[serde(flatten)]
    pub subject: Subject,
    /// What.
    #[serde(flatten)]
    pub place: Place,
    /// Cells that it is fitted to.
    #[serde(skip)]
    pub points: Vec<Point>,
    /// Sizes of the files, in bytes.
    pub sizes_bytes: Vec<u64>,
    /// Layers that hold them.
    pub found_at: Vec<u64>,
    /// Blocks of the run.
    pub blocks: usize,
    /// Sessions of the run.
    pub sessions: usize,
    /// The fit; the coefficient of an axis that does not vary is zero and says nothing.
    pub cost: Cost,
    /// Its robust twin.
    pub robust: Option<Cost>,
    /// Intervals for another day; none below three sessions.
    pub absolute: Absolute,
    /// The exponent, where there are two sizes.
    pub exponent: Option<Exponent>,
    /// How far the cells lie from the model.
    pub lack_of_fit: LackOfFit,
    /// Change of b with each layer, as a share of b; zero where size and depth add up.
    pub interaction: Option<Estimate>,
    /// The model with two slopes, where one is more than 10 % off.
    pub two_slopes: Option<TwoSlopes>,
    /// b divided by that of overlayfs with default options, paired by block.
    pub ns_per_byte_to_overlayfs: Option<Estimate>,
    /// b of each resample.
    #[serde(skip)]
    slopes: Vec<Option<f64>>,
}

/// All fits of a run.
#[derive(Debug, Clone)]
pub struct Fits {
    /// Copy-up first, then by model.
    pub fits: Vec<Fit>,
    /// What varies in too few values to be fitted, in words.
    pub missing: Vec<String>,
}

/// The cells of a fit: their parameters and block medians.
type Cells<'a> = Vec<(&'a Params, &'a Blocks)>;

impl Fit {
    /// Which axes vary.
    pub fn axes(&self) -> Axes {
        Axes::of(&self.points)
    }
}

impl Fits {
    /// Fits every subject and model of `run` that varies in size or in layer.
    pub fn of(summary: &Summary, run: &RunRecord) -> Self {
        let sessions: Vec<u32> = run.counted().iter().map(|it| it.session).collect();
        let seed = run.header.host.seed;
        let mut fits: Vec<Fit> = groups(summary)
            .into_iter()
            .filter_map(|((place, subject), cells)| fit_cells(subject, place, &cells, &sessions, seed))
            .collect();
        let is_base = |it: &Fit| it.subject.driver == "overlayfs" && it.subject.options == "default";
        let bases: Vec<(Place, f64, Vec<Option<f64>>)> = fits
            .iter()
            .filter(|it| is_base(it))
            .map(|it| (it.place.clone(), it.cost.ns_per_byte, it.slopes.clone()))
            .collect();
        for it in fits.iter_mut().filter(|it| it.axes().sizes && !is_base(it)) {
            let base = bases.iter().find(|base| base.0 == it.place);
            it.ns_per_byte_to_overlayfs = base.and_then(|(_, value, slopes)| ratio(it, *value, slopes));
        }
        fits.sort_by_key(|it| (rank(&it.place), driver_rank(&it.subject)));
        Self { fits, missing: missing(summary) }
    }
}

/// Copy-up first, then in the order of the models.
fn rank(place: &Place) -> (bool, usize, Place) {
    let model = crate::model::names().iter().position(|it| *it == place.model).unwrap_or(usize::MAX);
    (place.model != "copy-up", model, place.clone())
}

/// The order of drivers in tables.
fn driver_rank(subject: &Subject) -> (Option<usize>, bool) {
    let names = crate::driver::names();
    (names.iter().position(|it| *it == subject.driver), subject.options != "default")
}

/// b of `own` in that of overlayfs; both were fitted to the same resamples.
fn ratio(own: &Fit, base: f64, slopes: &[Option<f64>]) -> Option<Estimate> {
    let share = |a: f64, b: f64| (0.0 < b).then(|| a / b);
    let each = own.slopes.iter().zip(slopes).map(|(a, b)| share((*a)?, (*b)?));
    Some(Estimate { value: share(own.cost.ns_per_byte, base)?, interval: percentile_interval(each) })
}

/// Cells with numbers, by place and subject; a place whose cells vary in nothing is left out.
fn groups(summary: &Summary) -> BTreeMap<(Place, Subject), Cells<'_>> {
    let mut groups: BTreeMap<(Place, Subject), Cells<'_>> = BTreeMap::new();
    for it in summary.cells.iter().filter(|it| it.latency.is_some()) {
        for place in places(it) {
            groups.entry((place, it.cell.subject())).or_default().push((&it.cell.params, &it.block_medians));
        }
    }
    groups.retain(|(place, _), cells| {
        let count =
            |axis: fn(&Params) -> u64| cells.iter().map(|it| axis(it.0)).collect::<BTreeSet<_>>().len();
        let layers = count(|it| u64::from(it.found_at));
        // In a stack of one height it is the layers that must vary, else the cells are those of the lowest layer again.
        1 < layers || (place.n_layers.is_none() && 1 < count(|it| it.file_bytes))
    });
    groups
}

/// Where a cell belongs: to the stack of its height, and to the lowest layers if it lies in one.
fn places(it: &CellSummary) -> Vec<Place> {
    let Params { model, backing, found_at, n_layers, dir_depth, cache, entries, threads, .. } =
        &it.cell.params;
    let place = |n_layers: Option<u32>| Place {
        model: model.clone(),
        backing: backing.clone(),
        n_layers,
        dir_depth: *dir_depth,
        cache: *cache,
        entries: *entries,
        threads: *threads,
    };
    let lowest = (found_at == n_layers).then(|| place(None));
    lowest.into_iter().chain([place(Some(*n_layers))]).collect()
}

/// Models that have files, but of one length and in one layer.
fn missing(summary: &Summary) -> Vec<String> {
    let mut values: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<u32>)> = BTreeMap::new();
    for it in summary.cells.iter().filter(|it| it.latency.is_some()) {
        let of_model = values.entry(&it.cell.params.model).or_default();
        of_model.0.insert(it.cell.params.file_bytes);
        of_model.1.insert(it.cell.params.found_at);
    }
    let few = values.into_iter().filter(|(_, (sizes, layers))| sizes.len() < 2 && layers.len() < 2);
    let text = |(model, (sizes, layers)): (&str, (BTreeSet<u64>, BTreeSet<u32>))| {
        let size = sizes.first().map(|it| crate::size::human_bytes(*it as f64)).unwrap_or_default();
        let layer = layers.first().copied().unwrap_or_default();
        format!("{model} has one size ({size}) and one layer ({layer})")
    };
    few.map(text).collect()
}

/// The median over the blocks that `counts` draws, each as often as it says.
fn cell_median(blocks: &Blocks, counts: &[u32]) -> Option<f64> {
    let drawn = blocks.iter().flat_map(|(block, value)| {
        let count = counts.get(*block as usize).copied().unwrap_or(0);
        std::iter::repeat_n(*value, count as usize)
    });
    median(&sorted(drawn.collect())).filter(|it| 0.0 < *it)
}

/// The points of the cells that have a value in the drawn blocks; all of them have one in the whole run.
fn points(cells: &Cells<'_>, counts: &[u32]) -> Vec<Point> {
    let point = |(params, blocks): &(&Params, &Blocks)| {
        let (size_bytes, found_at) = (params.file_bytes as f64, f64::from(params.found_at));
        Some(Point { size_bytes, found_at, time_ns: cell_median(blocks, counts)? })
    };
    cells.iter().filter_map(point).collect()
}

/// What is computed of each resample.
struct Resample {
    ns_per_byte: Option<f64>,
    slope: Option<f64>,
    interaction: Option<f64>,
}

fn fit_cells(subject: Subject, place: Place, cells: &Cells<'_>, sessions: &[u32], seed: u64) -> Option<Fit> {
    let all = vec![1; sessions.len()];
    let whole = points(cells, &all);
    let cost = fit(&whole)?;
    let lack_of_fit = shape::lack_of_fit(&whole, &cost);
    let range = shape::exponent_range(&whole, &cost);
    let one = |counts: &[u32]| {
        let drawn = points(cells, counts);
        // A cell of a few blocks may be in no drawn block; the flags of the range would be out of step then.
        let range = range.as_ref().filter(|_| drawn.len() == whole.len());
        Resample {
            ns_per_byte: fit(&drawn).map(|it| it.ns_per_byte),
            slope: range.and_then(|it| shape::slope(&drawn, &it.within)),
            interaction: shape::interaction(&drawn),
        }
    };
    let resamples = resampled(seed, sessions.len(), one);
    let interval = |value: fn(&Resample) -> Option<f64>| percentile_interval(resamples.iter().map(value));
    let exponent = |range: &Range| {
        let within = whole.iter().zip(&range.within).filter(|it| *it.1).map(|it| it.0.size_bytes as u64);
        let sizes: BTreeSet<u64> = within.collect();
        let value = shape::slope(&whole, &range.within)?;
        Some(Exponent {
            slope: Estimate { value, interval: interval(|it| it.slope) },
            sizes_bytes: (*sizes.first()?, *sizes.last()?),
            dominated: range.dominated,
        })
    };
    let interaction =
        shape::interaction(&whole).map(|value| Estimate { value, interval: interval(|it| it.interaction) });
    Some(Fit {
        exponent: range.as_ref().and_then(exponent),
        sizes_bytes: shape::sizes(&whole),
        found_at: shape::layers(&whole),
        blocks: sessions.len(),
        sessions: sessions.iter().collect::<BTreeSet<_>>().len(),
        cost,
        robust: fit_robust(&whole),
        absolute: absolute(cells, sessions),
        interaction,
        two_slopes: shape::two_slopes(&whole, &lack_of_fit),
        lack_of_fit,
        ns_per_byte_to_overlayfs: None,
        slopes: resamples.iter().map(|it| it.ns_per_byte).collect(),
        points: whole,
        subject,
        place,
    })
}

/// Each session fitted by itself: what differs between sessions is what an interval for another day is made of.
fn absolute(cells: &Cells<'_>, sessions: &[u32]) -> Absolute {
    let numbers: BTreeSet<u32> = sessions.iter().copied().collect();
    let costs: Option<Vec<Cost>> = numbers
        .iter()
        .map(|number| {
            let own: Vec<u32> = sessions.iter().map(|it| u32::from(it == number)).collect();
            let points = points(cells, &own);
            // A session without some of the cells would differ from the others by that alone.
            if points.len() == cells.len() { fit(&points) } else { None }
        })
        .collect();
    let Some(costs) = costs.filter(|it| SESSIONS_MIN <= it.len()) else { return Absolute::default() };
    let interval = |value: fn(&Cost) -> f64| session_interval(&costs.iter().map(value).collect::<Vec<_>>());
    Absolute {
        fixed_ns: interval(|it| it.fixed_ns),
        ns_per_byte: interval(|it| it.ns_per_byte),
        ns_per_layer: interval(|it| it.ns_per_layer),
    }
}

/// Why a fit has no interval of its absolute values.
pub fn why_no_interval(n_sessions: usize, n_blocks: usize) -> Option<String> {
    match (n_sessions, n_blocks) {
        (0 | 1, blocks) if blocks < BLOCKS_MIN => {
            Some(format!("one session of {blocks} blocks: no interval at all"))
        }
        (0 | 1, _) => Some("one session: no interval for another day".to_owned()),
        (n, _) if n < SESSIONS_MIN => Some(format!("{n} sessions: no interval for another day")),
        _ => None,
    }
}
