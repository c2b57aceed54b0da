//! What surrounds samples, untimed: files made ready before them, results and layers checked after them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tracing::warn;

use super::bench::Bench;
use crate::cell::Params;
use crate::driver::{Branch, Driver, Imported, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{FileSpec, Fingerprint, WARM_FILE};
use crate::model::{self, Bed, Lower, Model};
use crate::pattern::Extent;

/// Files up to this length are always compared whole.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// A cell that has dirtied this much is followed by a sync, so that its writeback does not weigh on the next.
const SETTLE_BYTES: u64 = 8 << 20;

/// The layer's copy of each file, as it was before the samples; none where no layer has the file.
#[derive(Debug)]
pub struct Before(Vec<Option<Vec<Fingerprint>>>);

/// Mounts `imported` on fresh branches in `home`, and writes to a file of its lowest layer: the first write of a
/// mount copies parents up and wakes the server, which is no cell's business.
///
/// # Errors
///
/// The mount is refused, or cannot be written to.
pub fn mount(driver: &dyn Driver, options: &str, imported: &Imported, home: &Path) -> Result<View> {
    let view = driver.mount(options, imported, Branch::create(home)?)?;
    let path = view.root.join(WARM_FILE);
    let file = File::options().read(true).write(true).open(&path).at("open", &path)?;
    file.write_at(&[1], 0).at("write", &path)?;
    Ok(view)
}

/// Makes `specs` ready, and notes what the layers hold.
///
/// # Errors
///
/// Any I/O error.
pub fn prepare(bed: &Bed<'_>, model: &dyn Model, specs: &[FileSpec]) -> Result<Before> {
    let mut before = Vec::with_capacity(specs.len());
    for file in specs {
        let exists = model.lower() != Lower::Nothing;
        before.push(exists.then(|| bed.layers.fingerprint(file, model.lower())).transpose()?);
        model.prepare(bed, file)?;
    }
    Ok(Before(before))
}

/// Checks what the samples did to `specs` and that no layer has changed, and undoes it for drivers that keep
/// their files; `whole` compares files of any length whole.
///
/// # Errors
///
/// `Incorrect`, with what is wrong; else what reading reports.
pub fn check(
    bed: &Bed<'_>,
    model: &dyn Model,
    specs: &[FileSpec],
    before: Before,
    whole: bool,
) -> Result<()> {
    for (file, before) in specs.iter().zip(before.0) {
        let extent = if whole || file.len_bytes <= WHOLE_BYTES_MAX { Extent::Whole } else { Extent::Spread };
        model.check(bed, file, extent)?;
        if before.is_some() && before != Some(bed.layers.fingerprint(file, model.lower())?) {
            let what = BenchErrorKind::Incorrect("the driver changed the layer".to_owned());
            return Err(BenchError::new("check", bed.layers.lower_path(file), what));
        }
        if !bed.mounting.driver.renews() {
            model.restore(bed, file)?;
        }
    }
    Ok(())
}

/// Removes what a driver that failed may have left in a layer; what failed first is what a report should name.
pub fn remove_strays(bed: &Bed<'_>, model: &dyn Model, specs: &[FileSpec]) {
    for file in specs {
        if let Err(error) = bed.layers.remove_strays(file, model.lower()) {
            warn!(%error, "a layer may hold what a driver left");
        }
    }
}

/// Writes what samples of `params` have dirtied, where it is much.
///
/// # Errors
///
/// What `syncfs(2)` reports.
pub fn settle_after(bench: &Bench, params: &Params, specs: &[FileSpec]) -> Result<()> {
    if dirties_much(params, specs) { bench.settle() } else { Ok(()) }
}

/// Whether samples of `params` on `specs` may leave so much to be written that the next cell would pay for it.
fn dirties_much(params: &Params, specs: &[FileSpec]) -> bool {
    let copies_tree = model::by_name(&params.model).is_some_and(|it| it.mounts_anew());
    let each = |it: &FileSpec| it.len_bytes.max(4096).saturating_mul(u64::from(it.entries.max(1)));
    copies_tree || SETTLE_BYTES <= specs.iter().map(each).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn what_may_copy_a_tree_is_written_before_the_next_cell() {
        for (name, len_bytes, expected) in [
            ("copy-up", 4096, false),
            ("copy-up", 8 << 20, true),
            ("lookup", 4096, false),
            ("mount", 0, true),
            ("start", 0, true),
            ("density", 4096, true),
            ("page-cache", 4096, true),
        ] {
            let params = example::cell("vfs", "default", name, len_bytes, 1).params;
            let file = FileSpec { path: "data/f".into(), number: 1, len_bytes, found_at: 1, entries: 0 };
            assert_eq!(dirties_much(&params, &[file]), expected, "{name} of {len_bytes}");
        }
    }
}
