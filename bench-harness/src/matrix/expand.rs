//! Turns a matrix into cells, and a seed into the order of each block.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::{Cache, Cell, Params, Subject};
use crate::matrix::{Group, Matrix};
use crate::model;
use crate::size::short_bytes;

/// A cell, and how many files it takes in each block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedCell {
    /// What is measured.
    #[serde(flatten)]
    pub cell: Cell,
    /// Samples in each block.
    pub files: u32,
    /// Measured in this many blocks at most.
    #[serde(default = "every_block", skip_serializing_if = "is_every_block")]
    pub blocks: u32,
}

/// The number of blocks of what is measured in all of them.
pub fn every_block() -> u32 {
    u32::MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub fn is_every_block(blocks: &u32) -> bool {
    *blocks == u32::MAX
}

/// All cells of `matrix` within `budget` seconds, sorted; `only` keeps the drivers it names, if any.
///
/// A cell that several groups name appears once, with the largest counts of files and blocks.
pub fn cells(matrix: &Matrix, only: &[String], budget: f64) -> Vec<PlannedCell> {
    let mut planned: BTreeMap<Cell, (u32, u32)> = BTreeMap::new();
    let wanted = |name: &String| only.is_empty() || only.contains(name);
    for group in matrix.group.iter().filter(|it| it.fits(budget)) {
        let own = |name: &String| group.drivers.is_empty() || group.drivers.contains(name);
        let subjects = subjects(matrix).into_iter().filter(|it| wanted(&it.driver) && own(&it.driver));
        for Subject { driver, options } in subjects {
            for params in params_of(group, &matrix.backing) {
                let cell = Cell { driver: driver.clone(), options: options.clone(), params };
                let (files, blocks) = planned.entry(cell).or_default();
                *files = group.files.max(*files);
                *blocks = group.blocks.max(*blocks);
            }
        }
    }
    planned.extend(yardsticks(planned.keys()));
    planned.into_iter().map(|(cell, (files, blocks))| PlannedCell { cell, files, blocks }).collect()
}

/// Samples of each yardstick in a block: p99 of `null`, which costs nearly nothing, exists after the first.
fn yardstick_files(model: &str) -> u32 {
    if model == "null" { 1000 } else { 200 }
}

/// The cells that measure no driver, on each backing of `wanted`: every block has them.
fn yardsticks<'a>(wanted: impl Iterator<Item = &'a Cell>) -> Vec<(Cell, (u32, u32))> {
    let backings: BTreeSet<&String> = wanted.map(|it| &it.params.backing).collect();
    let pairs = backings.into_iter().flat_map(|backing| model::YARDSTICKS.map(|model| (backing, model)));
    pairs.map(|(backing, name)| (yardstick(name, backing), (yardstick_files(name), every_block()))).collect()
}

/// The cell of the yardstick `model` on `backing`.
pub fn yardstick(model: &str, backing: &str) -> Cell {
    let params = Params {
        model: model.to_owned(),
        backing: backing.to_owned(),
        file_bytes: 0,
        found_at: 1,
        n_layers: 1,
        dir_depth: 1,
        cache: Cache::Fresh,
        entries: 0,
        threads: 0,
    };
    Cell { driver: model::PLAIN.to_owned(), options: "default".to_owned(), params }
}

/// What `budget` seconds are too short for, in words: one text for each smallest budget.
///
/// What another group measures all the same is only named when that is in fewer blocks.
pub fn cuts(matrix: &Matrix, budget: f64) -> Vec<String> {
    let mut kept: BTreeMap<Params, u32> = BTreeMap::new();
    for group in matrix.group.iter().filter(|it| it.fits(budget)) {
        for params in params_of(group, &matrix.backing) {
            let blocks = kept.entry(params).or_default();
            *blocks = group.blocks.max(*blocks);
        }
    }
    let mut cuts: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for group in &matrix.group {
        let Some(min) = group.budget_min.filter(|min| budget < *min) else { continue };
        let texts = cuts.entry(min.round() as u64).or_default();
        for params in params_of(group, &matrix.backing) {
            let text = match kept.get(&params) {
                None => what_of(&params),
                Some(blocks) if *blocks < group.blocks => {
                    format!("{} in more than {blocks} blocks", what_of(&params))
                }
                Some(_) => continue,
            };
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    cuts.retain(|_, texts| !texts.is_empty());
    cuts.into_iter().map(|(min, texts)| format!("below {min} s: {}", texts.join(", "))).collect()
}

/// `walk of 1K × 10000`.
fn what_of(params: &Params) -> String {
    let mut text = params.model.clone();
    if params.file_bytes != 0 {
        text += &format!(" of {}", short_bytes(params.file_bytes));
    }
    if params.entries != 0 {
        text += &format!(" × {}", params.entries);
    }
    text
}

impl Group {
    /// Whether the group is part of a run of `budget` seconds.
    fn fits(&self, budget: f64) -> bool {
        self.budget_min.is_none_or(|min| min <= budget) && self.budget_below.is_none_or(|end| budget < end)
    }
}

/// Each driver with each of its option sets, in the order of the file.
pub fn subjects(matrix: &Matrix) -> Vec<Subject> {
    let pairs =
        matrix.driver.iter().flat_map(|row| row.options.iter().map(|it| (row.name.clone(), it.clone())));
    pairs.map(|(driver, options)| Subject { driver, options }).collect()
}

/// The parameters of `group` on its own backings, else on those of the matrix.
fn params_of(group: &Group, backings: &[String]) -> Vec<Params> {
    let backings = if group.backing.is_empty() { backings } else { &group.backing };
    // Named or not, every block has the yardsticks once.
    let models = || group.models.iter().filter(|it| !model::is_yardstick(it));
    let pairs = backings.iter().flat_map(|backing| models().map(move |model| (backing, model)));
    pairs.flat_map(|(backing, model)| group_params(group, model, backing)).collect()
}

/// The cross of one group for one model; axes that the model does not have are left at one value.
fn group_params(group: &Group, model: &str, backing: &str) -> Vec<Params> {
    let known = model::by_name(model);
    let sizes: &[u64] = if known.is_some_and(|it| it.is_sized()) { &group.sizes } else { &[0] };
    let many: &[u32] = if known.is_some_and(|it| it.takes_many()) { &group.entries } else { &[0] };
    let threads: &[u32] = if known.is_some_and(|it| it.takes_threads()) { &group.threads } else { &[0] };
    let mut all = Vec::new();
    for &file_bytes in sizes {
        for (found_at, n_layers) in layers(group) {
            for &dir_depth in &group.dir_depth {
                for (cache, entries, threads) in crossed(&group.cache, many, threads) {
                    let (model, backing) = (model.to_owned(), backing.to_owned());
                    all.push(Params {
                        model,
                        backing,
                        file_bytes,
                        found_at,
                        n_layers,
                        dir_depth,
                        cache,
                        entries,
                        threads,
                    });
                }
            }
        }
    }
    all
}

/// All triples of `caches`, `many` and `threads`.
fn crossed<'a>(
    caches: &'a [Cache],
    many: &'a [u32],
    threads: &'a [u32],
) -> impl Iterator<Item = (Cache, u32, u32)> + 'a {
    let pairs = caches.iter().flat_map(move |cache| many.iter().map(move |entries| (*cache, *entries)));
    pairs.flat_map(move |(cache, entries)| threads.iter().map(move |threads| (cache, entries, *threads)))
}

/// Pairs of found-at and height; without heights the file lies in the lowest layer.
fn layers(group: &Group) -> Vec<(u32, u32)> {
    if group.n_layers.is_empty() {
        return group.found_at.iter().map(|&layer| (layer, layer)).collect();
    }
    let pairs = group.found_at.iter().flat_map(|&found| group.n_layers.iter().map(move |&n| (found, n)));
    pairs.filter(|(found_at, n_layers)| found_at <= n_layers).collect()
}

/// The numbers below `len` in the order of block `block` under `seed`.
///
/// ChaCha8 with the block as stream, and Fisher–Yates by multiply-shift: the
/// same order on every machine and with every version of the rand crates.
pub fn order(seed: u64, block: u32, len: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(block));
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        let draw = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, draw as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn example() -> Matrix {
        let text = r#"
            name = "example"
            budget = "10s"
            blocks_max = 2
            [[driver]]
            name = "plain"
            [[driver]]
            name = "overlayfs"
            options = ["default", "volatile"]
            [[group]]
            models = ["copy-up", "lookup-missing"]
            sizes = ["4K", "64K"]
            found_at = [1, 8]
            files = 2
            [[group]]
            models = ["copy-up"]
            sizes = ["4K"]
            found_at = [8]
            files = 16
        "#;
        Matrix::parse(text, Path::new("example.toml")).unwrap()
    }

    /// The cells that are not yardsticks.
    fn wanted(matrix: &Matrix, budget: f64) -> Vec<PlannedCell> {
        let all = cells(matrix, &[], budget).into_iter();
        all.filter(|it| !model::is_yardstick(&it.cell.params.model)).collect()
    }

    #[test]
    fn groups_cross_and_merge() {
        let cells = cells(&example(), &[], 60.0);
        // Three subjects; copy-up 2 sizes × 2 layers, lookup-missing 1 × 2. And both yardsticks.
        assert_eq!(cells.len(), 3 * (4 + 2) + 2);
        let merged: Vec<u32> = cells
            .iter()
            .filter(|it| it.cell.params.model == "copy-up")
            .filter(|it| it.cell.params.file_bytes == 4096 && it.cell.params.found_at == 8)
            .map(|it| it.files)
            .collect();
        assert_eq!(merged, [16, 16, 16], "the larger file count wins");
        assert!(cells.iter().all(|it| it.cell.params.found_at == it.cell.params.n_layers), "{cells:?}");
    }

    #[test]
    fn groups_choose_backings_drivers_and_budgets() {
        let mut matrix = example();
        matrix.group[1].backing = vec!["tmpfs".to_owned()];
        matrix.group[1].drivers = vec!["plain".to_owned()];
        matrix.group[1].blocks = 2;
        matrix.group[1].budget_min = Some(60.0);
        matrix.group[0].budget_below = Some(100.0);
        for (budget, n_cells, n_cuts) in [(59.9, 18, 1), (60.0, 19, 0), (100.0, 1, 0)] {
            assert_eq!(wanted(&matrix, budget).len(), n_cells, "{budget}");
            assert_eq!(cuts(&matrix, budget).len(), n_cuts, "{budget}");
        }
        let own = wanted(&matrix, 100.0).remove(0);
        assert_eq!((own.cell.params.backing.as_str(), own.cell.driver.as_str()), ("tmpfs", "plain"));
        assert_eq!(own.blocks, 2);
        assert_eq!(cuts(&matrix, 1.0), ["below 60 s: copy-up of 4K"]);
        matrix.group[0].backing = vec!["tmpfs".to_owned()];
        matrix.group[0].blocks = 1;
        assert_eq!(cuts(&matrix, 1.0), ["below 60 s: copy-up of 4K in more than 1 blocks"]);
        matrix.group[1].blocks = 1;
        assert!(cuts(&matrix, 1.0).is_empty(), "another group has the same");
    }

    #[test]
    fn drivers_can_be_chosen() {
        let cells = cells(&example(), &["plain".to_owned()], 60.0);
        assert_eq!(cells.len(), 6 + 2);
        assert!(cells.iter().all(|it| it.cell.driver == "plain"));
    }

    #[test]
    fn yardsticks_are_on_each_backing_once_whoever_is_wanted() {
        let mut matrix = example();
        matrix.backing = vec!["dir".to_owned(), "tmpfs".to_owned()];
        let found = |matrix: &Matrix, only: &[String]| -> Vec<(String, String, u32)> {
            let all = cells(matrix, only, 60.0).into_iter();
            let own = all.filter(|it| model::is_yardstick(&it.cell.params.model));
            own.map(|it| (it.cell.params.backing, it.cell.params.model, it.files)).collect()
        };
        let expected = found(&matrix, &[]);
        assert_eq!(expected.len(), 4, "{expected:?}");
        assert_eq!(found(&matrix, &["overlayfs".to_owned()]), expected, "plain is left out");
        matrix.group[0].models.extend(model::YARDSTICKS.map(str::to_owned));
        assert_eq!(found(&matrix, &[]), expected, "a group names them too");
        matrix.group.iter_mut().for_each(|it| it.backing = vec!["tmpfs".to_owned()]);
        let on_tmpfs: Vec<_> = expected.into_iter().filter(|it| it.0 == "tmpfs").collect();
        assert_eq!(found(&matrix, &[]), on_tmpfs, "nothing is measured on dir");
        let trees: BTreeSet<_> = cells(&matrix, &[], 60.0).iter().map(|it| it.cell.params.tree()).collect();
        assert_eq!(trees.len(), 2 + 1, "they have layers of their own, so that no tree is copied for them");
    }

    #[test]
    fn expansion_is_the_same_each_time() {
        assert_eq!(cells(&example(), &[], 60.0), cells(&example(), &[], 60.0));
    }

    #[test]
    fn the_seed_decides_the_order() {
        let first = order(7, 0, 100);
        assert_eq!(first, order(7, 0, 100), "same seed and block");
        assert_ne!(first, order(7, 1, 100), "another block");
        assert_ne!(first, order(8, 0, 100), "another seed");
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>(), "every cell once");
        // Pinned: a recorded seed must mean the same order for ever.
        assert_eq!(order(42, 3, 8), PINNED);
    }

    const PINNED: [usize; 8] = [1, 3, 5, 0, 7, 6, 4, 2];
}
