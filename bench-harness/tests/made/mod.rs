//! A run made up for tests of what is derived from samples: no driver is needed, and every number is known.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What a made-up run is of.
#[derive(Debug, Clone)]
pub struct Made {
    /// Name of the machine.
    pub label: &'static str,
    /// Release of its kernel.
    pub kernel: &'static str,
    /// How many times the usual time everything takes.
    pub factor: f64,
    /// Blocks.
    pub blocks: u32,
    /// What the failed cell says.
    pub error: &'static str,
}

impl Default for Made {
    fn default() -> Self {
        Self { label: "host-x", kernel: "6.1.0", factor: 1.0, blocks: 12, error: "it failed" }
    }
}

/// Samples of each cell and block.
pub const FILES: u32 = 10;

const SIZES: [u64; 2] = [4096, 1 << 20];
const LAYERS: [u32; 2] = [1, 8];
/// Driver, option set, ns of a copy-up of 4 KiB at layer 1.
const DRIVERS: [(&str, &str, u64); 4] = [
    ("plain", "default", 4000),
    ("overlayfs", "default", 150_000),
    ("overlayfs", "volatile", 40_000),
    ("aufs-fuse", "default", 50_000),
];

fn cell(driver: &str, options: &str, model: &str, file_bytes: u64, layer: u32) -> Value {
    json!({"driver": driver, "options": options, "model": model, "backing": "dir", "file_bytes": file_bytes,
        "found_at": layer, "n_layers": layer, "dir_depth": 1, "cache": "fresh", "files": FILES})
}

/// Cells with their usual time in ns; the last one fails.
fn cells() -> Vec<(Value, u64)> {
    let mut cells = Vec::new();
    for (driver, options, ns) in DRIVERS {
        for (size, layer) in SIZES.iter().flat_map(|size| LAYERS.map(|layer| (*size, layer))) {
            cells.push((
                cell(driver, options, "copy-up", size, layer),
                ns + size / 4 + 200 * u64::from(layer),
            ));
        }
        cells.push((cell(driver, options, "lookup", 4096, 8), 900 + ns / 100));
    }
    cells.push((cell("aufs-fuse", "default", "chmod", 4096, 8), 1000));
    cells
}

/// Writes the run into `dir`.
pub fn write(dir: &Path, made: &Made) {
    let host = json!({"label": made.label, "kernel": made.kernel, "cpu": "Example", "cpus": 2, "memory_bytes": 1 << 30,
        "governor": null, "backings": [{"name": "dir", "fs_type": "ext4", "options": "relatime", "path": "/scratch"}],
        "overlay_parameters": {"metacopy": "N"}, "peers": {"aufs": "aufs 0.1.0"}, "git_rev": "0123456789",
        "started_at": "2026-01-02T03:04:05Z", "clock_ns": 20, "steal_ms": 0, "root": true, "seed": 7, "matrix": "made"});
    let cells = cells();
    let planned: Vec<&Value> = cells.iter().map(|it| &it.0).collect();
    let skips = json!([{"driver": "aufs-kernel", "options": "default", "backing": "dir", "model": null,
        "reason": format!("not in this kernel ({})", made.error)}]);
    let mut text = String::new();
    let mut line = |value: Value| writeln!(text, "{value}").unwrap();
    line(
        json!({"type": "header", "schema": 1, "host": host, "blocks_max": made.blocks, "cells": planned, "skips": skips}),
    );
    for block in 0..made.blocks {
        line(json!({"type": "block-start", "block": block}));
        for (index, (_, ns)) in cells.iter().enumerate() {
            if index == cells.len() - 1 {
                line(json!({"type": "error", "cell": index, "block": block, "message": made.error}));
                continue;
            }
            for file in 0..FILES {
                // Within ±4 %, other in each block, the same in each run.
                let noise = (u64::from(block) * 37 + u64::from(file) * 11 + index as u64 * 5) % 81;
                let ns = (*ns as f64 * made.factor * (0.96 + noise as f64 / 1000.0)) as u64;
                line(json!({"type": "sample", "cell": index, "block": block, "file": file, "ns": ns}));
            }
        }
        line(json!({"type": "metric", "cell": 0, "block": block, "metric": "upper_bytes", "value": 4096}));
        line(json!({"type": "block-end", "block": block, "elapsed_ms": 50, "steal_ms": 0}));
    }
    line(json!({"type": "end", "ending": "complete", "layers_unchanged": true}));
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("samples.jsonl"), text).unwrap();
}
