//! The fits of a run: one for each subject, model and state of the caches.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::cost::{Axes, Cost, Point, fit, fit_robust};
use super::intervals::{BLOCKS_MIN, SESSIONS_MIN, percentile_interval, resampled, session_interval};
use super::shape::{self, LackOfFit, Range, TwoSlopes};
use crate::cell::{Cache, Params, Subject};
use crate::model::is_yardstick;
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
    /// Its 95 % interval by resampling blocks; none where a cell has fewer than six.
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
    /// Blocks of the cell that has most of them.
    pub blocks: usize,
    /// Blocks of the cell that has fewest.
    pub blocks_least: usize,
    /// Sessions that have all of its cells.
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
    /// b divided by that of overlayfs with default options, paired by block, both over the cells that both have.
    pub ns_per_byte_to_overlayfs: Option<Estimate>,
    /// How many cells both have, where one has more: the ratio is then not that of the two b.
    pub cells_shared: Option<usize>,
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

impl Absolute {
    /// Whether any coefficient has an interval.
    pub fn is_known(&self) -> bool {
        [self.fixed_ns, self.ns_per_byte, self.ns_per_layer].iter().any(Option::is_some)
    }
}

impl Fits {
    /// Fits every subject and model of `run` that varies in size or in layer.
    pub fn of(summary: &Summary, run: &RunRecord) -> Self {
        let sessions: Vec<u32> = run.counted().iter().map(|it| it.session).collect();
        let seed = run.header.host.seed;
        let mut groups = groups(summary);
        let left_out: BTreeSet<String> = groups.values_mut().flat_map(leave_out_few).collect();
        let fit = |((place, subject), cells): (&(Place, Subject), &Cells<'_>)| {
            fit_cells(subject.clone(), place.clone(), cells, &sessions, seed)
        };
        let mut fits: Vec<Fit> = groups.iter().filter_map(fit).collect();
        let base = Subject { driver: "overlayfs".to_owned(), options: "default".to_owned() };
        for it in fits.iter_mut().filter(|it| it.axes().sizes && it.subject != base) {
            let cells = |subject: &Subject| groups.get(&(it.place.clone(), subject.clone()));
            let Some((own, base)) = cells(&it.subject).zip(cells(&base)) else { continue };
            let shared = (shared(own, base), shared(base, own));
            let n_shared = shared.0.len();
            it.ns_per_byte_to_overlayfs = ratio(&shared.0, &shared.1, sessions.len(), seed);
            let is_part = n_shared < own.len().max(base.len());
            it.cells_shared = Some(n_shared).filter(|_| is_part && it.ns_per_byte_to_overlayfs.is_some());
        }
        fits.sort_by_key(|it| (rank(&it.place), driver_rank(&it.subject)));
        let missing = missing(summary).into_iter().chain(left_out).collect();
        Self { fits, missing }
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

/// The cells of `own` whose size and layer `other` has too.
fn shared<'a>(own: &Cells<'a>, other: &Cells<'_>) -> Cells<'a> {
    let key = |it: &(&Params, &Blocks)| (it.0.file_bytes, it.0.found_at);
    let known: BTreeSet<(u64, u32)> = other.iter().map(key).collect();
    own.iter().filter(|it| known.contains(&key(it))).copied().collect()
}

/// b of `own` in that of `base`, each fitted to the same sizes and layers and to the same resamples.
///
/// A size that only one of them has would bend its line alone: b is seldom the same at all sizes.
fn ratio(own: &Cells<'_>, base: &Cells<'_>, n_blocks: usize, seed: u64) -> Option<Estimate> {
    let ns_per_byte = |cells: &Cells<'_>, counts: &[u32]| {
        let points = points(cells, counts);
        fit(&points).filter(|_| Axes::of(&points).sizes).map(|it| it.ns_per_byte)
    };
    let share = |counts: &[u32]| {
        let (own, base) = (ns_per_byte(own, counts)?, ns_per_byte(base, counts)?);
        (0.0 < base).then(|| own / base)
    };
    let value = share(&vec![1; n_blocks])?;
    let least = fewest(own).min(fewest(base));
    Some(Estimate {
        value,
        interval: percentile_interval(resampled(seed, n_blocks, least, share).into_iter()),
    })
}

/// Blocks of the cell that has fewest.
fn fewest(cells: &Cells<'_>) -> usize {
    cells.iter().map(|it| it.1.len()).min().unwrap_or(0)
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

/// Takes out cells of so few blocks that no interval could be given, where the others vary in as much; says which.
fn leave_out_few(cells: &mut Cells<'_>) -> Vec<String> {
    let axes = |cells: &Cells<'_>| Axes::of(&points(cells, &vec![1; 1 + last_block(cells)]));
    let (enough, few): (Cells<'_>, Cells<'_>) =
        cells.iter().copied().partition(|it| BLOCKS_MIN <= it.1.len());
    if few.is_empty() || axes(&enough) != axes(cells) {
        return Vec::new();
    }
    *cells = enough;
    let text = |(params, blocks): (&Params, &Blocks)| {
        let size = crate::size::human_bytes(params.file_bytes as f64);
        format!("{} of {size} has {} blocks", params.model, blocks.len())
    };
    few.into_iter().map(text).collect()
}

/// The last block that any of the cells has.
fn last_block(cells: &Cells<'_>) -> usize {
    cells.iter().filter_map(|it| it.1.keys().last()).max().map_or(0, |it| *it as usize)
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
    let measured = |it: &&CellSummary| it.latency.is_some() && !is_yardstick(&it.cell.params.model);
    for it in summary.cells.iter().filter(measured) {
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
            slope: range.and_then(|it| shape::slope(&drawn, &it.within)),
            interaction: shape::interaction(&drawn),
        }
    };
    let blocks_least = fewest(cells);
    let resamples = resampled(seed, sessions.len(), blocks_least, one);
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
    let (n_sessions, absolute) = absolute(cells, sessions);
    Some(Fit {
        exponent: range.as_ref().and_then(exponent),
        sizes_bytes: shape::sizes(&whole),
        found_at: shape::layers(&whole),
        blocks: cells.iter().map(|it| it.1.len()).max()?,
        blocks_least,
        sessions: n_sessions,
        cost,
        robust: fit_robust(&whole),
        absolute,
        interaction,
        two_slopes: shape::two_slopes(&whole, &lack_of_fit),
        lack_of_fit,
        ns_per_byte_to_overlayfs: None,
        cells_shared: None,
        points: whole,
        subject,
        place,
    })
}

/// Each session fitted by itself: what differs between sessions is what an interval for another day is made of.
///
/// A session without some of the cells would differ from the others by that
/// alone, so it is left out. Returns how many are left, too.
fn absolute(cells: &Cells<'_>, sessions: &[u32]) -> (usize, Absolute) {
    let numbers: BTreeSet<u32> = sessions.iter().copied().collect();
    let cost = |number: &u32| {
        let own: Vec<u32> = sessions.iter().map(|it| u32::from(it == number)).collect();
        let points = points(cells, &own);
        if points.len() == cells.len() { fit(&points) } else { None }
    };
    let costs: Vec<Cost> = numbers.iter().filter_map(cost).collect();
    let interval = |value: fn(&Cost) -> f64| session_interval(&costs.iter().map(value).collect::<Vec<_>>());
    let absolute = Absolute {
        fixed_ns: interval(|it| it.fixed_ns),
        ns_per_byte: interval(|it| it.ns_per_byte),
        ns_per_layer: interval(|it| it.ns_per_layer),
    };
    (costs.len(), absolute)
}

/// Why `fit` has no interval of any of its absolute values.
pub fn why_no_interval(fit: &Fit) -> Option<String> {
    if fit.absolute.is_known() {
        return None;
    }
    Some(match (fit.sessions, fit.blocks_least) {
        (0, _) => "no session has all cells: no interval for another day".to_owned(),
        (1, blocks) if blocks < BLOCKS_MIN => {
            format!("one session and {blocks} blocks of a cell: no interval at all")
        }
        (1, _) => "one session: no interval for another day".to_owned(),
        (n, _) if n < SESSIONS_MIN => format!("{n} sessions: no interval for another day"),
        _ => "each cost is 0 in some session: no interval for another day".to_owned(),
    })
}
