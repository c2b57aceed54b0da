//! A tiny run of every change of names and attributes, over plain, overlayfs and, where there is one, our union.
//!
//! It mounts overlayfs, hence needs root.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::fs;
use std::path::Path;

use common::is_root;
use common::place::Place;

const MATRIX: &str = r#"
name = "operations"
budget = "60s"
blocks_max = 2
backing = ["tmpfs"]

[[driver]]
name = "plain"

[[driver]]
name = "overlayfs"
options = ["volatile", "redirect_dir", "metacopy"]

[[driver]]
name = "aufs-fuse"

[[group]]
models = ["append", "truncate", "whiteout", "rename", "chmod"]
sizes = ["300K"]
found_at = [2]
cache = ["fresh", "hot"]
files = 2

[[group]]
models = ["chown-tree", "rename-dir", "opaque", "remove-tree"]
sizes = ["20K"]
entries = [12]
found_at = [2]
cache = ["fresh", "hot"]
files = 1

[[group]]
models = ["lookup", "copy-up", "chmod", "rename", "whiteout"]
dir_depth = [256]
found_at = [2]
files = 1
"#;

/// The median of `metric` of a model by overlayfs with `options`, not in deep directories.
fn metric(summary: &serde_json::Value, options: &str, model: &str, metric: &str) -> f64 {
    let wanted = [("driver", "overlayfs"), ("options", options), ("model", model), ("metric", metric)];
    let is_wanted = |it: &&serde_json::Value| {
        it["dir_depth"] == 1 && wanted.iter().all(|(key, value)| it[*key] == *value)
    };
    let mut found = summary["metrics"].as_array().unwrap().iter().filter(is_wanted);
    found.next().unwrap_or_else(|| panic!("no {metric} of {model}"))["p50"].as_f64().unwrap()
}

#[test]
fn root_every_operation_is_right_and_its_space_is_told() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let output = place.run(&["--seed", "11"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    place.assert_left_clean();
    let summary = place.summary();
    let cells = summary["cells"].as_array().unwrap();
    let of = |driver: &str| cells.iter().filter(|it| it["driver"] == driver).count();
    // Five models of files and four of trees, hot and fresh, and five in deep directories.
    assert_eq!((of("plain"), of("overlayfs")), (23 + 2, 3 * 23), "{said}");
    let ours = std::env::var_os("AUFS_BIN").is_some() && Path::new("/dev/fuse").exists();
    assert!(!ours || of("aufs-fuse") == 23, "{said}");
    assert!(cells.iter().all(|it| 2 <= it["n"].as_u64().unwrap()), "a cell has no numbers");
    assert_eq!(summary["layers_unchanged"], true);

    // Four bytes more copy the whole file; none of a file that is emptied or removed is copied.
    assert!(300_000.0 <= metric(&summary, "volatile", "append", "upper_bytes"));
    for model in ["truncate", "whiteout"] {
        assert!(metric(&summary, "volatile", model, "upper_bytes") <= 8192.0, "{model}");
    }
    assert!(300_000.0 <= metric(&summary, "volatile", "rename", "upper_bytes"));
    assert!(metric(&summary, "metacopy", "rename", "upper_bytes") <= 8192.0, "attributes only");
    let exdev = |options| metric(&summary, options, "rename-dir", "exdev");
    assert!((exdev("redirect_dir"), exdev("volatile")) == (0.0, 1.0), "renamed, and copied");
    let report = fs::read_to_string(place.path("out/report.md")).unwrap();
    for expected in ["## null and reference", "rename of a directory refused", "## opaque on"] {
        assert!(report.contains(expected), "the report lacks {expected}");
    }
    assert!(!report.contains("## null on"), "yardsticks are no table of a model");
}

#[test]
fn root_yardsticks_are_measured_for_whoever_is_wanted_but_wanted_by_nobody() {
    if !is_root() {
        return;
    }
    let matrix = "name = \"m\"\nbudget = \"30s\"\nblocks_max = 1\n[[driver]]\nname = \"overlayfs\"\n\
                  [[driver]]\nname = \"aufs-fuse\"\n[[group]]\nmodels = [\"lookup\", \"null\"]\nfound_at = [1]\nfiles = 1\n";
    let place = Place::new(matrix);
    let output = place.run(&["--driver", "overlayfs"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = place.summary();
    let cells = summary["cells"].as_array().unwrap().iter();
    let measured: Vec<(&str, &str)> =
        cells.map(|it| (it["driver"].as_str().unwrap(), it["model"].as_str().unwrap())).collect();
    assert_eq!(measured, [("overlayfs", "lookup"), ("plain", "null"), ("plain", "reference")]);
    assert!(summary["skips"].as_array().unwrap().is_empty(), "{}", summary["skips"]);

    // With nobody that can run there is nothing to measure, yardsticks or not.
    fs::remove_dir_all(place.path("out")).unwrap();
    let output = place.run_with(&["--driver", "aufs-fuse"], &[("AUFS_BIN", "/nowhere/aufs")]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!place.path("out/samples.jsonl").exists());
    place.assert_left_clean();
}
