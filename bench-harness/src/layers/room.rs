//! How much room layers, their imports and one block's branches take.

use std::collections::{BTreeMap, BTreeSet};

use super::{IMAGE_FILE_BYTES, IMAGE_FILES};
use crate::cell::{Params, Stack, TreeContent, TreeKey};
use crate::driver;
use crate::matrix::expand::PlannedCell;
use crate::model::{self, Lower};
use crate::program;
use crate::tree::Shape;

/// Bytes that layers, imports and one block's mounts of each of `cells` need on `backing`, about.
pub fn planned_bytes(cells: &[PlannedCell], backing: &str) -> u64 {
    let mut trees: BTreeMap<TreeKey, BTreeMap<&Params, u32>> = BTreeMap::new();
    let mut importers: BTreeSet<(&str, TreeKey)> = BTreeSet::new();
    let mut copied: BTreeSet<Stack> = BTreeSet::new();
    let own = || cells.iter().filter(move |it| it.cell.params.backing == backing && !is_refused(it));
    for PlannedCell { cell, files, .. } in own() {
        let key = cell.params.tree();
        let most = trees.entry(key).or_default().entry(&cell.params).or_default();
        *most = (*files).max(*most);
        let Some(driver) = driver::by_name(&cell.driver) else { continue };
        if driver.copies_layers() {
            importers.insert((&cell.driver, key));
        }
        if driver.copies_on_mount() {
            copied.insert(cell.stack());
        }
    }
    let tree_bytes: BTreeMap<TreeKey, u64> = trees
        .iter()
        .map(|(key, all)| {
            let own = all.iter().map(|(params, files)| layer_bytes(params, *files));
            (*key, sum(own.chain([fixed_bytes(key.content)])))
        })
        .collect();
    let tree_bytes = |key: TreeKey| tree_bytes.get(&key).copied().unwrap_or(0);
    // Every directory and every layer's own file, in each layer.
    let small_bytes = |(key, all): (&TreeKey, &BTreeMap<&Params, u32>)| {
        let dirs = sum(all.iter().map(|(params, files)| dirs_of(params, *files)));
        dirs.saturating_mul(u64::from(key.n_layers) * 8192)
    };
    let layers = trees.keys().map(|it| tree_bytes(*it)).chain(trees.iter().map(small_bytes));
    let imports = importers.iter().map(|it| tree_bytes(it.1));
    let copies = copied.iter().map(|it| tree_bytes(it.tree));
    let branches = own().map(|it| branch_bytes(it, tree_bytes(it.cell.params.tree())));
    sum(layers.chain(imports).chain(copies).chain(branches))
}

/// A sum that a matrix of absurd size does not overflow.
fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// Whether the model says nothing about the driver, so that nothing is built for the cell.
fn is_refused(PlannedCell { cell, .. }: &PlannedCell) -> bool {
    let both = model::by_name(&cell.params.model).zip(driver::by_name(&cell.driver));
    both.is_some_and(|(model, driver)| model.refuses(driver).is_some())
}

/// Bytes that the samples of a cell add to the mounts of a block, whose tree has `tree_bytes`.
fn branch_bytes(PlannedCell { cell, files, .. }: &PlannedCell, tree_bytes: u64) -> u64 {
    let params = &cell.params;
    let copies = driver::by_name(&cell.driver).is_some_and(|it| it.copies_on_mount());
    let Some(model) = model::by_name(&params.model) else { return layer_bytes(params, *files) };
    if model.mounts_anew() {
        // As often as there are containers, each of which copies a file up.
        let is_container = params.tree().content == TreeContent::Program;
        let n = u64::from(*files) * if is_container { u64::from(params.entries.max(1)) } else { 1 };
        let file_bytes = if is_container { params.file_bytes.next_multiple_of(4096) } else { 0 };
        let tree_bytes = if copies { tree_bytes } else { 0 };
        return n.saturating_mul(tree_bytes.saturating_add(file_bytes + 8 * 4096));
    }
    // What changes a file of a copied tree takes no more than the copy.
    let is_in_copy = copies && model.lower() != Lower::Nothing;
    if model.fills_branches() && !is_in_copy { layer_bytes(params, *files) } else { 0 }
}

/// Bytes that the layers hold for `files` samples of `params`.
fn layer_bytes(params: &Params, files: u32) -> u64 {
    let samples = u64::from(files) * (params.file_bytes.next_multiple_of(4096) + 4096);
    let all = samples.saturating_mul(u64::from(params.entries.max(1)));
    match params.tree().content {
        TreeContent::Files | TreeContent::Large => all,
        // The objects of git, and two indexes.
        TreeContent::Repository => all.saturating_mul(2),
        TreeContent::Bare | TreeContent::Image => 0,
        TreeContent::Program => samples,
    }
}

/// Bytes that layers of this content hold whatever is measured on them.
fn fixed_bytes(content: TreeContent) -> u64 {
    match content {
        TreeContent::Image => IMAGE_FILES * (IMAGE_FILE_BYTES + 4096),
        TreeContent::Program => program::len_bytes().unwrap_or(0),
        TreeContent::Files | TreeContent::Large | TreeContent::Repository | TreeContent::Bare => 0,
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
        assert_eq!(
            mib(&[cell("vfs", "read-sequential")]),
            6,
            "the layer, its import, and the copy of the mount"
        );
        assert_eq!(mib(&[cell("vfs", "copy-up")]), 6, "what is written is in the copy");
        assert_eq!(mib(&[cell("vfs", "page-cache")]), 10, "and another mount for each of two samples");
        assert_eq!(mib(&[cell("overlayfs", "page-cache")]), 2);
        assert_eq!(planned_bytes(&[cell("plain", "copy-up")], "tmpfs"), 0);
    }

    #[test]
    fn each_mount_of_a_copying_driver_needs_a_tree() {
        let mib = |driver: &str, model: &str, files: u32| {
            let mut planned = planned(1, files);
            planned.cell.driver = driver.to_owned();
            planned.cell.params.model = model.to_owned();
            planned_bytes(&[planned], "dir") >> 20
        };
        assert_eq!(mib("vfs", "mount", 3) - mib("vfs", "mount", 1), 2 * 17, "an image is 17 MiB");
        assert_eq!(mib("overlayfs", "mount", 3) - mib("overlayfs", "mount", 1), 0);
        assert_eq!(mib("plain", "mount", 3), 0, "a plain directory is not mounted, so nothing is built");
    }

    #[test]
    fn the_largest_matrix_overflows_nothing() {
        let cell = |model: &str, content: TreeContent| {
            let mut planned = planned(256, 4096);
            planned.cell.driver = "vfs".to_owned();
            planned.cell.params.model = model.to_owned();
            (planned.cell.params.file_bytes, planned.cell.params.entries) = (4 << 30, 1_000_000);
            (planned.cell.params.n_layers, planned.cell.params.found_at) = (400, 400);
            assert_eq!(planned.cell.params.tree().content, content);
            planned
        };
        let cells = [cell("git-status", TreeContent::Repository), cell("density", TreeContent::Program)];
        assert_eq!(planned_bytes(&cells, "dir"), u64::MAX);
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
