//! A small run with known numbers, for the tests of what is derived from runs.

use std::collections::BTreeMap;

use crate::cell::{Cache, Cell, Params, Subject};
use crate::host::HostFacts;
use crate::matrix::expand::PlannedCell;
use crate::run::journal::{Ending, Header, Metric, RunRecord, Skip};
use crate::run::reader::Block;

/// Samples of each cell and block.
pub const FILES: u32 = 10;

/// A subject.
pub fn subject(driver: &str, options: &str) -> Subject {
    Subject { driver: driver.to_owned(), options: options.to_owned() }
}

/// A cell on the backing `dir`.
pub fn cell(driver: &str, options: &str, model: &str, file_bytes: u64, layer: u32) -> Cell {
    let params = Params {
        model: model.to_owned(),
        backing: "dir".to_owned(),
        file_bytes,
        found_at: layer,
        n_layers: layer,
        dir_depth: 1,
        cache: Cache::Fresh,
        entries: 0,
        threads: 0,
    };
    Cell { driver: driver.to_owned(), options: options.to_owned(), params }
}

/// A run of `cells` with the median of each in ns; a time of 0 is an error.
///
/// Samples lie within 5 % of the median, and blocks differ.
pub fn run(cells: &[(Cell, u64)], n_blocks: u32) -> RunRecord {
    let planned = cells.iter().map(|it| PlannedCell { cell: it.0.clone(), files: FILES, blocks: u32::MAX });
    let header = Header::new(HostFacts::read(7, "example").unwrap(), n_blocks, planned.collect());
    let mut blocks = BTreeMap::new();
    for number in 0..n_blocks {
        let mut block = Block { ended: Some((50, 0)), ..Block::default() };
        for (index, (_, ns)) in cells.iter().enumerate() {
            if *ns == 0 {
                block.errors.push((index, "went \"wrong\"\nbadly".to_owned()));
                continue;
            }
            for file in 0..FILES {
                // Symmetric about the median within a block; all of a block are a little off.
                let within = (f64::from(file) - f64::from(FILES - 1) / 2.0) / 200.0;
                let of_block = (f64::from(number) - f64::from(n_blocks - 1) / 2.0) / 1000.0;
                block.samples.push((index, file, (*ns as f64 * (1.0 + within + of_block)) as u64, None));
            }
        }
        block.metrics.push((0, Metric::Upper, 4096));
        blocks.insert(number, block);
    }
    RunRecord { header, blocks, ending: Some(Ending::Complete), layers_unchanged: Some(true) }
}

/// Overlayfs, volatile too, plain, and our own, which fails at `chmod`; `aufs-kernel` is skipped.
pub fn usual(n_blocks: u32) -> RunRecord {
    let drivers = [
        ("plain", "default", 4),
        ("overlayfs", "default", 150),
        ("overlayfs", "volatile", 40),
        ("aufs-fuse", "default", 50),
    ];
    let mut cells = Vec::new();
    for (driver, options, us) in drivers {
        for (layer, factor) in [(1, 1000), (8, 1100)] {
            cells.push((cell(driver, options, "copy-up", 4096, layer), us * factor));
            cells.push((cell(driver, options, "copy-up", 64 << 20, layer), us * factor * 100));
        }
        cells.push((cell(driver, options, "lookup", 4096, 8), 900));
    }
    cells.push((cell("aufs-fuse", "default", "chmod", 4096, 8), 0));
    let mut run = run(&cells, n_blocks);
    let skipped = subject("aufs-kernel", "default");
    let reason = "not in this kernel".to_owned();
    run.header.skips.push(Skip { subject: skipped, backing: "dir".to_owned(), model: None, reason });
    run
}
