//! How large a run is: counted, and its time guessed, before anything is built.

use std::collections::BTreeMap;
use std::time::Duration;

use super::expand::{PlannedCell, subjects};
use super::{Group, Matrix};
use crate::layers::planned_bytes;
use crate::model::is_yardstick;
use crate::size::human_bytes;

/// Most cells of a run that nobody confirmed.
const CELLS_MAX: u64 = 20_000;

/// Most samples of a block that nobody confirmed.
const SAMPLES_MAX: u64 = 200_000;

/// Most cells that are counted out one by one.
const EXPANDED_MAX: u64 = 5_000_000;

/// What a sample costs besides its files: preparing, checking, writing it down.
const SAMPLE_COST: Duration = Duration::from_micros(700);

/// What a file of a tree costs: made, checked, removed.
const ENTRY_COST: Duration = Duration::from_micros(150);

/// What a mount and its end cost, a server's start among it.
const MOUNT_COST: Duration = Duration::from_millis(25);

/// Bytes that are written, copied or compared in a second.
const BYTES_PER_S: f64 = 600e6;

/// Counts of a run, and a guess of its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Cells.
    pub cells: u64,
    /// Samples of all cells in a block.
    pub samples: u64,
    /// Room that layers, imports and branches need on each backing, in bytes.
    pub room_bytes: BTreeMap<String, u64>,
    /// Time until the first block, about.
    pub prepare: Duration,
    /// Time of a block, about.
    pub block: Duration,
}

impl Estimate {
    /// Counts `cells`.
    pub fn of(cells: &[PlannedCell]) -> Self {
        let mut room_bytes = BTreeMap::new();
        let mut stacks = std::collections::BTreeSet::new();
        let (mut samples, mut handled, mut entries, mut bytes) = (0, 0, 0, 0_u64);
        for PlannedCell { cell, files, .. } in cells {
            let each = u64::from(cell.params.entries.max(1));
            samples += u64::from(*files);
            // Yardsticks prepare and check next to nothing.
            handled += u64::from(*files) * u64::from(!is_yardstick(&cell.params.model));
            entries += u64::from(*files) * u64::from(cell.params.entries);
            let of_cell = (u64::from(*files) * each).saturating_mul(cell.params.file_bytes);
            bytes = bytes.saturating_add(of_cell);
            stacks.insert(cell.stack());
            room_bytes.entry(cell.params.backing.clone()).or_insert(0);
        }
        room_bytes.iter_mut().for_each(|(name, room)| *room = planned_bytes(cells, name));
        let moved = |bytes: u64| Duration::from_secs_f64(bytes as f64 / BYTES_PER_S);
        let mounts = MOUNT_COST.mul_f64(stacks.len() as f64);
        let handled = SAMPLE_COST.mul_f64(handled as f64) + ENTRY_COST.mul_f64(entries as f64);
        Self {
            cells: cells.len() as u64,
            samples,
            // Every stack is tried and imported once, and all that is built is written and read back.
            prepare: mounts * 2
                + moved(room_bytes.values().fold(0, |sum: u64, it| sum.saturating_add(it.saturating_mul(2)))),
            room_bytes,
            block: mounts + handled + moved(bytes.saturating_mul(2)),
        }
    }

    /// Why the run should be confirmed before it starts, where `free_bytes` are free for it.
    pub fn excess(&self, free_bytes: u64) -> Option<String> {
        let on_disk = self.room_bytes.iter().filter(|it| it.0 != "tmpfs");
        let room = on_disk.fold(0, |sum: u64, it| sum.saturating_add(*it.1));
        let why = if CELLS_MAX < self.cells {
            format!("more than {CELLS_MAX} cells")
        } else if SAMPLES_MAX < self.samples {
            format!("more than {SAMPLES_MAX} samples in a block")
        } else if free_bytes < room {
            format!("{} are free for the layers", human_bytes(free_bytes as f64))
        } else {
            return None;
        };
        Some(format!("{}; {why}: give --yes to start it all the same", self.line()))
    }

    /// `210 cells, 1300 samples and about 4 s in a block, 1.2 GiB of layers and branches, built in about 9 s`.
    pub fn line(&self) -> String {
        let room = self.room_bytes.values().fold(0, |sum: u64, it| sum.saturating_add(*it));
        let room = human_bytes(room as f64);
        format!(
            "{} cells, {} samples and about {} in a block, {room} of layers and branches, built in about {}",
            self.cells,
            self.samples,
            about(self.block),
            about(self.prepare)
        )
    }
}

/// A time in one unit, without more digits than a guess has.
fn about(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 120.0 => format!("{short:.0} s"),
        long if long < 7200.0 => format!("{:.0} min", long / 60.0),
        longer => format!("{:.0} h", longer / 3600.0),
    }
}

/// Refuses a matrix with more cells than can be counted one by one.
///
/// # Errors
///
/// How many it would be at most.
pub fn check_product(matrix: &Matrix) -> Result<(), String> {
    let product: u64 = matrix.group.iter().fold(0, |sum, it| sum.saturating_add(cells_at_most(it, matrix)));
    if product <= EXPANDED_MAX {
        return Ok(());
    }
    Err(format!("the groups cross to {product} cells; no run has more than {EXPANDED_MAX}"))
}

/// The product of all axes of `group`, whether its models have them or not.
fn cells_at_most(group: &Group, matrix: &Matrix) -> u64 {
    let backings = if group.backing.is_empty() { &matrix.backing } else { &group.backing };
    let axes = [
        subjects(matrix).len(),
        backings.len(),
        group.models.len(),
        group.sizes.len(),
        group.found_at.len(),
        group.n_layers.len().max(1),
        group.dir_depth.len(),
        group.cache.len(),
        group.entries.len(),
        group.threads.len(),
    ];
    axes.iter().fold(1, |product, len| product.saturating_mul(*len as u64))
}

#[cfg(test)]
mod tests {
    use super::super::expand::cells;
    use super::*;

    fn of(assignments: &[String]) -> Estimate {
        let matrix = Matrix::load("quick").and_then(|it| super::super::overrides::apply(it, assignments));
        let matrix = matrix.unwrap();
        check_product(&matrix).unwrap();
        Estimate::of(&cells(&matrix, &[], matrix.budget))
    }

    #[test]
    fn only_what_is_absurd_must_be_confirmed() {
        let many = |n: u32| (1..=n).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
        let enough = 1 << 40;
        let plain = of(&[]);
        assert_eq!(plain.excess(enough), None, "{}", plain.line());
        let room: u64 = plain.room_bytes.values().sum();
        assert_eq!(plain.excess(room), None);
        assert!(
            plain.excess(room - 1).unwrap().contains("are free for the layers: give --yes"),
            "{}",
            plain.line()
        );
        let layers = format!("group.0.found_at={}", many(400));
        let sizes = (1..=20).map(|it| format!("{it}K")).collect::<Vec<_>>().join(",");
        let cells = of(&[layers, format!("group.0.sizes={sizes}")]);
        assert!(cells.excess(enough).unwrap().contains("more than 20000 cells"), "{}", cells.line());
        let samples = of(&["group.*.files=4096".to_owned(), "group.2.found_at=1,2,3,4,5,6,7,8".to_owned()]);
        let said = samples.excess(enough).unwrap();
        assert!(said.contains("more than 200000 samples") && said.contains("about"), "{said}");
    }

    #[test]
    fn a_product_beyond_memory_is_refused_before_it_is_made() {
        let layers: Vec<String> = (1..=400).map(|it| it.to_string()).collect();
        let layers = layers.join(",");
        let mut assignments: Vec<String> =
            ["found_at", "n_layers", "threads"].iter().map(|key| format!("group.0.{key}={layers}")).collect();
        let matrix = Matrix::load("quick").unwrap();
        assignments.push("group.0.dir_depth=1,2,3,4".to_owned());
        let matrix = super::super::overrides::apply(matrix, &assignments).unwrap();
        assert!(check_product(&matrix).unwrap_err().contains("no run has more than 5000000"));
    }
}
