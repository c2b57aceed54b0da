//! Turns a matrix into cells, and a seed into the order of each block.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, Params, Subject};
use crate::matrix::{Group, Matrix};
use crate::model;

/// A cell, and how many files it takes in each block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCell {
    /// What is measured.
    #[serde(flatten)]
    pub cell: Cell,
    /// Samples in each block.
    pub files: u32,
}

/// All cells of `matrix`, sorted; `only` keeps the drivers it names, if any.
///
/// A cell that several groups name appears once, with the largest file count.
pub fn cells(matrix: &Matrix, only: &[String]) -> Vec<PlannedCell> {
    let mut planned = BTreeMap::new();
    let wanted = |name: &String| only.is_empty() || only.contains(name);
    for subject in subjects(matrix).into_iter().filter(|subject| wanted(&subject.driver)) {
        for (params, files) in all_params(matrix) {
            let Subject { driver, options } = subject.clone();
            let most = planned.entry(Cell { driver, options, params }).or_insert(files);
            *most = files.max(*most);
        }
    }
    planned.into_iter().map(|(cell, files)| PlannedCell { cell, files }).collect()
}

/// Each driver with each of its option sets, in the order of the file.
pub fn subjects(matrix: &Matrix) -> Vec<Subject> {
    let pairs =
        matrix.driver.iter().flat_map(|row| row.options.iter().map(|it| (row.name.clone(), it.clone())));
    pairs.map(|(driver, options)| Subject { driver, options }).collect()
}

fn all_params(matrix: &Matrix) -> Vec<(Params, u32)> {
    let mut all = Vec::new();
    for backing in &matrix.backing {
        for group in &matrix.group {
            for model in &group.models {
                all.extend(group_params(group, model, backing).into_iter().map(|it| (it, group.files)));
            }
        }
    }
    all
}

/// The cross of one group for one model; axes that the model does not have are left at one value.
fn group_params(group: &Group, model: &str, backing: &str) -> Vec<Params> {
    let has_files = model::by_name(model).is_some_and(|it| it.has_files());
    let sizes: &[u64] = if has_files { &group.sizes } else { &[0] };
    let mut all = Vec::new();
    for &file_bytes in sizes {
        for (found_at, n_layers) in layers(group) {
            for &dir_depth in &group.dir_depth {
                for &cache in &group.cache {
                    let (model, backing) = (model.to_owned(), backing.to_owned());
                    all.push(Params { model, backing, file_bytes, found_at, n_layers, dir_depth, cache });
                }
            }
        }
    }
    all
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

    #[test]
    fn groups_cross_and_merge() {
        let cells = cells(&example(), &[]);
        // Three subjects; copy-up 2 sizes × 2 layers, lookup-missing 1 × 2.
        assert_eq!(cells.len(), 3 * (4 + 2));
        let merged: Vec<u32> = cells
            .iter()
            .filter(|it| it.cell.params.model == "copy-up")
            .filter(|it| it.cell.params.file_bytes == 4096 && it.cell.params.found_at == 8)
            .map(|it| it.files)
            .collect();
        assert_eq!(merged, [16, 16, 16], "the larger file count wins");
        assert!(cells.iter().all(|it| it.cell.params.found_at == it.cell.params.n_layers));
    }

    #[test]
    fn drivers_can_be_chosen() {
        let cells = cells(&example(), &["plain".to_owned()]);
        assert_eq!(cells.len(), 6);
        assert!(cells.iter().all(|it| it.cell.driver == "plain"));
    }

    #[test]
    fn expansion_is_the_same_each_time() {
        assert_eq!(cells(&example(), &[]), cells(&example(), &[]));
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
