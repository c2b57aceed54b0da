//! Which values a cell may have: for the axes of a matrix, and for the cells of a run that is continued.

use std::ops::RangeInclusive;

use super::expand::PlannedCell;
use crate::model::{self, Model, is_yardstick};
use crate::size::human_bytes;
use crate::{backing, suggest};

/// The key that is wrong, and why.
pub type Wrong = (&'static str, String);

/// Most layers of a stack, the highest that any matrix of ours uses.
const LAYERS_MAX: u32 = 400;

/// Most directories between the root of a mount and a file.
const DIR_DEPTH_MAX: u32 = 256;

/// Checks the number of a layer, or of all layers.
pub fn layer(layer: u32) -> Result<(), Wrong> {
    within(1..=LAYERS_MAX, layer, "found_at", || format!("layer {layer} is outside 1 to {LAYERS_MAX}"))
}

/// Checks how many directories lie above a file.
pub fn dir_depth(depth: u32) -> Result<(), Wrong> {
    within(1..=DIR_DEPTH_MAX, depth, "dir_depth", || {
        format!("directory depth {depth} is outside 1 to {DIR_DEPTH_MAX}")
    })
}

/// Refuses a `value` outside `range` by its key and what is wrong.
fn within<T: PartialOrd>(
    range: RangeInclusive<T>,
    value: T,
    key: &'static str,
    wrong: impl FnOnce() -> String,
) -> Result<(), Wrong> {
    if range.contains(&value) { Ok(()) } else { Err((key, wrong())) }
}

/// Checks the length of a file, whoever takes it.
pub fn size(size: u64) -> Result<(), Wrong> {
    within(2..=4 << 30, size, "sizes", || format!("file size {size} is outside 2 bytes to 4 GiB"))
}

/// Checks that `model` can take a file of `size` bytes.
pub fn size_for(model: &dyn Model, size: u64) -> Result<(), Wrong> {
    let Some(most) = model.len_max_bytes().filter(|most| *most < size && model.is_sized()) else {
        return Ok(());
    };
    let (name, size, most) = (model.name(), human_bytes(size as f64), human_bytes(most as f64));
    Err(("sizes", format!("{name} takes files of {most} at most, not of {size}; give it a group of its own")))
}

/// Checks how many files a cell takes in each block.
pub fn files(files: u32) -> Result<(), Wrong> {
    within(1..=4096, files, "files", || format!("{files} files in each block is outside 1 to 4096"))
}

/// Checks how many files a sample takes.
pub fn entries(entries: u32) -> Result<(), Wrong> {
    within(1..=1_000_000, entries, "entries", || {
        format!("{entries} files of a sample is outside 1 to 1000000")
    })
}

/// Checks how many threads work at once.
pub fn threads(threads: u32) -> Result<(), Wrong> {
    within(1..=1024, threads, "threads", || format!("{threads} threads is outside 1 to 1024"))
}

/// Checks how many blocks measure a cell.
pub fn blocks(blocks: u32) -> Result<(), Wrong> {
    if 0 < blocks { Ok(()) } else { Err(("blocks", "a group needs at least one block".to_owned())) }
}

/// Checks over how many sessions a run is spread.
pub fn sessions(sessions: u32) -> Result<(), Wrong> {
    within(1..=100, sessions, "sessions", || format!("{sessions} sessions is outside 1 to 100"))
}

/// Checks the mean rate of an open loop.
pub fn rate(rate: f64) -> Result<(), Wrong> {
    within(0.001..=1e6, rate, "rate", || format!("a rate of {rate} per second is outside 0.001 to 1000000"))
}

/// Checks a cell that no matrix of this process has made; an axis that its model does not have is 0.
pub fn cell(planned: &PlannedCell) -> Result<(), Wrong> {
    let params = &planned.cell.params;
    let unknown = || ("model", suggest::unknown("model", &params.model, &model::names()));
    let model = model::by_name(&params.model).ok_or_else(unknown)?;
    if !backing::NAMES.contains(&params.backing.as_str()) {
        return Err(("backing", suggest::unknown("backing", &params.backing, backing::NAMES)));
    }
    layer(params.found_at)?;
    layer(params.n_layers)?;
    if params.n_layers < params.found_at {
        let what = format!("layer {} lies below a stack of {}", params.found_at, params.n_layers);
        return Err(("found_at", what));
    }
    dir_depth(params.dir_depth)?;
    let is_sized = model.is_sized() && !is_yardstick(&params.model);
    if is_sized || params.file_bytes != 0 {
        size(params.file_bytes)?;
        size_for(model, params.file_bytes)?;
    }
    if model.takes_many() || params.entries != 0 {
        entries(params.entries)?;
    }
    if model.takes_threads() || params.threads != 0 {
        threads(params.threads)?;
    }
    files(planned.files)?;
    blocks(planned.blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Matrix, builtin, expand};
    use crate::report::example;

    fn planned(model: &str) -> PlannedCell {
        let mut cell = example::cell("plain", "default", model, 4096, 3);
        cell.params.entries = u32::from(model::by_name(model).unwrap().takes_many());
        PlannedCell { cell, files: 1, blocks: 1 }
    }

    #[test]
    fn cells_of_every_matrix_are_in_range() {
        for name in builtin::names() {
            let matrix = Matrix::load(name).unwrap();
            for planned in expand::cells(&matrix, &[], f64::MAX) {
                assert_eq!(cell(&planned), Ok(()), "{name}: {}", planned.cell);
            }
        }
    }

    #[test]
    fn what_no_stack_can_hold_is_named() {
        type Change = fn(&mut PlannedCell);
        let changes: [(&str, Change); 10] = [
            ("backing", |it| it.cell.params.backing = "loop:ext5".to_owned()),
            ("model", |it| it.cell.params.model = "copyup".to_owned()),
            ("found_at", |it| it.cell.params.found_at = 0),
            ("found_at", |it| it.cell.params.found_at = 4),
            ("found_at", |it| it.cell.params.n_layers = u32::MAX),
            ("dir_depth", |it| it.cell.params.dir_depth = 257),
            ("sizes", |it| it.cell.params.file_bytes = 0),
            ("threads", |it| it.cell.params.threads = 1025),
            ("files", |it| it.files = 0),
            ("blocks", |it| it.blocks = 0),
        ];
        for (key, change) in changes {
            let mut planned = planned("copy-up");
            assert_eq!(cell(&planned), Ok(()));
            change(&mut planned);
            assert_eq!(cell(&planned).unwrap_err().0, key);
        }
        assert!(rate(0.0).is_err() && rate(f64::NAN).is_err() && sessions(101).is_err());
    }

    #[test]
    fn models_whose_contents_end_at_64_kib_take_no_longer_files() {
        let short = [
            "create",
            "unlink",
            "read-files",
            "rename-dir",
            "chown-tree",
            "untar",
            "remove-tree",
            "opaque",
            "parallel",
        ];
        for name in model::names().into_iter().filter(|it| !is_yardstick(it)) {
            let model = model::by_name(name).unwrap();
            let takes = size_for(model, (64 << 10) + 1).is_ok();
            assert_eq!(takes, !short.contains(&name), "{name}");
            assert_eq!(size_for(model, 64 << 10), Ok(()), "{name}");
        }
        let mut planned = planned("create");
        planned.cell.params.file_bytes = 1 << 20;
        let (_, what) = cell(&planned).unwrap_err();
        assert!(what.contains("create takes files of 64 KiB at most, not of 1 MiB"), "{what}");
    }
}
