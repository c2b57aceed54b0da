//! How much room layers, their imports and one block's branches take.

use std::collections::{BTreeMap, BTreeSet};

use super::{IMAGE_FILE_BYTES, IMAGE_FILES};
use crate::cell::{Params, TreeContent, TreeKey};
use crate::driver;
use crate::matrix::expand::PlannedCell;
use crate::model::{self, Lower};
use crate::program;
use crate::tree::Shape;

/// Bytes that layers, imports and one writable branch of each of `cells` need on `backing`, about.
pub fn planned_bytes(cells: &[PlannedCell], backing: &str) -> u64 {
    let mut trees: BTreeMap<(TreeKey, &Params), (u64, u64)> = BTreeMap::new();
    let mut importers: BTreeSet<(&str, TreeKey)> = BTreeSet::new();
    let mut branch_bytes = 0;
    for PlannedCell { cell, files, .. } in cells.iter().filter(|it| it.cell.params.backing == backing) {
        let (params, key) = (&cell.params, cell.params.tree());
        let copies = driver::by_name(&cell.driver).is_some_and(|it| it.copies_layers());
        let bytes = layer_bytes(params, *files);
        let fills = model::by_name(&params.model).is_none_or(|it| it.fills_branches());
        branch_bytes += match key.content {
            // Each sample mounts anew, as often as it has containers.
            TreeContent::Program => {
                let own = params.file_bytes.next_multiple_of(4096) + 8 * 4096;
                let each = if copies { bytes + own } else { own };
                u64::from(*files) * u64::from(params.entries.max(1)) * each
            }
            _ if fills => bytes,
            _ => 0,
        };
        trees.insert((key, params), (bytes, dirs_of(params, *files)));
        if copies {
            importers.insert((&cell.driver, key));
        }
    }
    let copies = |key: TreeKey| 1 + importers.iter().filter(|it| it.1 == key).count() as u64;
    // Every directory and every layer's own file, in each layer.
    let small: u64 = trees.iter().map(|((key, _), (_, dirs))| u64::from(key.n_layers) * dirs * 8192).sum();
    small + branch_bytes + trees.iter().map(|((key, _), (bytes, _))| bytes * copies(*key)).sum::<u64>()
}

/// Bytes that the layers hold for `files` samples of `params`.
fn layer_bytes(params: &Params, files: u32) -> u64 {
    let samples = u64::from(files) * (params.file_bytes.next_multiple_of(4096) + 4096);
    let each = u64::from(params.entries.max(1));
    match params.tree().content {
        TreeContent::Files | TreeContent::Large => samples * each,
        // The objects of git, and two indexes.
        TreeContent::Repository => 2 * samples * each,
        TreeContent::Bare => 0,
        TreeContent::Image => IMAGE_FILES * (IMAGE_FILE_BYTES + 4096),
        TreeContent::Program => samples + program::len_bytes().unwrap_or(0),
    }
}

/// Directories that `files` samples of `params` need in each layer, at most.
fn dirs_of(params: &Params, files: u32) -> u64 {
    match model::by_name(&params.model).map(|it| it.lower()) {
        Some(Lower::Tree(Shape::Dirs(n))) => u64::from(files) * u64::from(n + 1),
        _ if params.dir_depth == 1 => 1,
        _ => u64::from(files) * u64::from(params.dir_depth) + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::planned;
    use super::*;

    #[test]
    fn room_is_planned_for_copies_and_branches() {
        let cell = |driver: &str, model: &str| {
            let mut planned = planned(1, 2);
            planned.cell.driver = driver.to_owned();
            planned.cell.params.model = model.to_owned();
            planned.cell.params.file_bytes = 1 << 20;
            planned
        };
        let mib = |cells: &[PlannedCell]| planned_bytes(cells, "dir") >> 20;
        assert_eq!(mib(&[cell("overlayfs", "read-sequential")]), 2, "the layer");
        assert_eq!(mib(&[cell("overlayfs", "copy-up")]), 4, "and the branch");
        assert_eq!(mib(&[cell("overlayfs", "copy-up"), cell("aufs-fuse", "copy-up")]), 6, "two branches");
        assert_eq!(mib(&[cell("plain", "read-sequential")]), 4, "the layer and its import");
        assert_eq!(planned_bytes(&[cell("plain", "copy-up")], "tmpfs"), 0);
    }

    #[test]
    fn each_container_of_a_copying_driver_needs_a_tree() {
        let cell = |driver: &str, entries: u32| {
            let mut planned = planned(1, 1);
            planned.cell.driver = driver.to_owned();
            planned.cell.params.model = "density".to_owned();
            planned.cell.params.entries = entries;
            planned
        };
        let bytes = |driver: &str, entries: u32| planned_bytes(&[cell(driver, entries)], "dir");
        let program = program::len_bytes().unwrap();
        let ten_more = |driver: &str| bytes(driver, 11) - bytes(driver, 1);
        assert!((10 * program..11 * program).contains(&ten_more("vfs")), "{}", ten_more("vfs"));
        assert!(ten_more("overlayfs") < program, "a branch and no program");
    }
}
