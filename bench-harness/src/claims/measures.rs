//! The statistics of the claims: one value for each block.

use super::Measured;
use super::evidence::{Axis, Ends, Evidence, is_fresh, is_shallow};
use crate::cell::{Cache, Cell, Params, Subject};
use crate::run::journal::Metric;
use crate::size::human_bytes;
use crate::stats::summary::Blocks;

/// Models of a first write, the one most like the sentence first.
const FIRST_WRITES: &[&str] = &["append", "copy-up"];

/// C1: the first write to the largest and to the smallest file.
pub fn larger_files(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let ends = |model: &&str| all.ends((subject, backing, model), Axis::Size, is_shallow);
    let reason = "the run has no first writes of two sizes in one layer";
    vec![ratio_of_ends(FIRST_WRITES.iter().find_map(ends), sizes_text, reason)]
}

/// C2: the first lookup of files in the lowest and in the topmost layer of one stack.
///
/// The height must be the same: else what is found lower also lies below more layers.
pub fn lower_layers(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let ends = all.ends((subject, backing, "lookup"), Axis::FoundAt, is_shallow);
    let text = |low: &Params, high: &Params| {
        format!("lookup at layer {} by {} of {}", high.found_at, low.found_at, low.n_layers)
    };
    vec![ratio_of_ends(ends, text, "the run has no lookup in two layers of one stack (n_layers)")]
}

/// C3: the second write, and that of a volume, or of a plain directory where there is no volume.
pub fn second_write(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let own = all.cells(subject, backing, "second-write");
    let base = ["volume", "plain"].map(|it| Subject { driver: it.to_owned(), options: "default".to_owned() });
    let pairs = own.iter().flat_map(|it| base.iter().map(move |base| (*it, base)));
    let found = pairs.filter_map(|(own, base)| Some((own, all.same(&own.cell, base)?, base)));
    let largest = found.max_by_key(|(own, _, base)| {
        let params = &own.cell.params;
        (params.file_bytes, is_shallow(params), base.driver == "volume")
    });
    let Some((own, base, name)) = largest else {
        let reason = match own.first() {
            None => "the run has no cells of second-write",
            Some(_) => "the run has no second-write of volume or plain to compare with",
        };
        return vec![nothing(reason)];
    };
    let what = format!("{} by {}", cell_text(&own.cell), name.label());
    vec![Measured { what, values: Ok(ratios(&own.block_medians, &base.block_medians)) }]
}

/// C3: the second and the first write to the largest file that has both.
pub fn second_after_first(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let own = all.cells(subject, backing, "second-write").into_iter();
    let pairs = own.filter_map(|it| {
        let params = Params { model: "copy-up".to_owned(), ..it.cell.params.clone() };
        Some((it, all.same(&Cell { params, ..it.cell.clone() }, subject)?))
    });
    let key = |it: &Params| (it.file_bytes, is_shallow(it));
    let Some((second, first)) = pairs.max_by_key(|it| key(&it.0.cell.params)) else {
        return vec![nothing("the run has no second-write and copy-up of the same file")];
    };
    let what = format!("{} by copy-up", cell_text(&second.cell));
    vec![Measured { what, values: Ok(ratios(&second.block_medians, &first.block_medians)) }]
}

/// C4: the first write to a file below the deepest and below the shallowest path.
pub fn deep_paths(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let ends = |model: &&str| all.ends((subject, backing, model), Axis::Depth, is_fresh);
    let text = |low: &Params, high: &Params| {
        format!("{} below {} directories by {}", low.model, high.dir_depth, low.dir_depth)
    };
    let reason = "the run has no first writes at two directory depths (dir_depth)";
    vec![ratio_of_ends(FIRST_WRITES.iter().find_map(ends), text, reason)]
}

/// Models that volumes are compared in; each more is a row more to correct for.
const IN_VOLUMES: &[&str] = &["copy-up", "second-write", "lookup", "create", "write-sequential"];

/// C5: models that both a volume and a plain directory have, one row each, in the shallow cell with most samples.
pub fn volume(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let plain = Subject { driver: "plain".to_owned(), options: "default".to_owned() };
    let row = |model: &str| {
        let own = all.cells(subject, backing, model).into_iter().filter(|it| is_shallow(&it.cell.params));
        let pairs = own.filter_map(|it| Some((it, all.same(&it.cell, &plain)?)));
        let (own, base) = pairs.max_by_key(|it| it.0.latency.as_ref().map(|it| it.n))?;
        let values = Ok(ratios(&own.block_medians, &base.block_medians));
        Some(Measured { what: cell_text(&own.cell), values })
    };
    let rows: Vec<Measured> = IN_VOLUMES.iter().copied().filter_map(row).collect();
    if rows.is_empty() { vec![nothing("the run has no cells that volume and plain share")] } else { rows }
}

/// C6: the space that the copy of the largest file takes after a few bytes of it were changed.
pub fn whole_copy(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let found = |model: &&str| all.metric((subject, backing, model), Metric::Upper);
    let Some((cell, blocks)) = FIRST_WRITES.iter().find_map(found) else {
        return vec![nothing("no upper_bytes of copy-up or append: not in the run, or nothing is copied up")];
    };
    if all.shares_blocks(backing) {
        let reason =
            "this file system counts shared blocks as space of each file; see the exponent of the fit";
        return vec![Measured { what: cell_text(cell), values: Err(reason.to_owned()) }];
    }
    if cell.params.file_bytes < WHOLE_MIN_BYTES {
        let reason = format!(
            "the largest file has {}; below {} a few blocks are the whole file",
            human_bytes(cell.params.file_bytes as f64),
            human_bytes(WHOLE_MIN_BYTES as f64)
        );
        return vec![Measured { what: cell_text(cell), values: Err(reason) }];
    }
    vec![per_size(cell, blocks)]
}

/// The least file whose copy shows whether it is whole.
const WHOLE_MIN_BYTES: u64 = 1 << 20;

/// The share of a file below which a whiteout is small.
pub const SMALL: f64 = 0.01;

/// The least space that a whiteout can take, if it takes any.
const BLOCK_BYTES: f64 = 4096.0;

/// C7: the space that the deletion of the largest file takes.
pub fn small_whiteout(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let found = all.metric((subject, backing, "whiteout"), Metric::Upper);
    let Some((cell, blocks)) = found else { return vec![nothing("the run has no upper_bytes of whiteout")] };
    if cell.params.file_bytes as f64 * SMALL < BLOCK_BYTES {
        let size = human_bytes(cell.params.file_bytes as f64);
        let reason =
            format!("the largest file has {size}, of which a whiteout of one block is more than 1 %");
        return vec![Measured { what: cell_text(cell), values: Err(reason) }];
    }
    vec![per_size(cell, blocks)]
}

/// C7: the deletion of the largest and of the smallest file.
pub fn deletion_by_size(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let ends = all.ends((subject, backing, "whiteout"), Axis::Size, is_fresh);
    vec![ratio_of_ends(ends, sizes_text, "the run has no cells of whiteout at two sizes")]
}

/// C8: the page cache that a file takes after two containers have read it.
pub fn shared_cache(all: &Evidence<'_>, subject: &Subject, backing: &str) -> Vec<Measured> {
    let found = all.metric((subject, backing, "page-cache"), Metric::Cached);
    let reason = || nothing("the run has no cells of page-cache");
    vec![found.map_or_else(reason, |(cell, blocks)| per_size(cell, blocks))]
}

fn nothing(reason: &str) -> Measured {
    Measured { what: String::new(), values: Err(reason.to_owned()) }
}

fn sizes_text(low: &Params, high: &Params) -> String {
    let (small, large) = (human_bytes(low.file_bytes as f64), human_bytes(high.file_bytes as f64));
    format!("{} of {large} by {small} at layer {}", low.model, low.found_at)
}

fn cell_text(cell: &Cell) -> String {
    let Params { model, file_bytes, found_at, dir_depth, cache, .. } = &cell.params;
    let mut text = model.clone();
    if *file_bytes != 0 {
        text += &format!(" of {}", human_bytes(*file_bytes as f64));
    }
    text += &format!(" at layer {found_at}");
    if *dir_depth != 1 {
        text += &format!(", {dir_depth} directories deep");
    }
    if *cache != Cache::Fresh {
        text += &format!(", {}", cache.as_str());
    }
    text
}

fn ratio_of_ends(ends: Option<Ends<'_>>, text: fn(&Params, &Params) -> String, reason: &str) -> Measured {
    let Some((low, high)) = ends else { return nothing(reason) };
    let what = text(&low.cell.params, &high.cell.params);
    Measured { what, values: Ok(ratios(&high.block_medians, &low.block_medians)) }
}

/// `own` in `base`, for each block that has both.
fn ratios(own: &Blocks, base: &Blocks) -> Vec<f64> {
    own.iter().filter_map(|(block, value)| Some(value / base.get(block)?)).collect()
}

/// A number of bytes in the size of the cell's file.
fn per_size(cell: &Cell, blocks: &Blocks) -> Measured {
    let size = cell.params.file_bytes.max(1) as f64;
    Measured { what: cell_text(cell), values: Ok(blocks.values().map(|it| it / size).collect()) }
}
