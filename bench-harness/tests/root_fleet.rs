//! A matrix split over processes as a cluster would, and joined again.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::is_root;

const MATRIX: &str = r#"
name = "fleet"
budget = "60s"
blocks_max = 2
backing = ["tmpfs"]

[[driver]]
name = "plain"

[[driver]]
name = "overlayfs"

[[group]]
models = ["copy-up", "chmod"]
found_at = [1]
dir_depth = [2, 3, 4, 5]
files = 2
"#;

/// Parameter sets of the matrix, each with two drivers.
const SETS: usize = 2 * 4;

fn bench(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aufs-bench"));
    command.args(arguments).current_dir(dir).envs(environment.iter().copied()).output().unwrap()
}

fn shard(dir: &Path, out: &str, more: &[&str], environment: &[(&str, &str)]) {
    let arguments = ["run", "--matrix", "m.toml", "--backing", "scratch", "--out", out];
    let output = bench(dir, &[&arguments, more].concat(), environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn merged(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = bench(dir, &[&["merge"], arguments].concat(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = arguments.last().unwrap();
    serde_json::from_slice(&fs::read(dir.join(out).join("summary.json")).unwrap()).unwrap()
}

fn refusal(dir: &Path, arguments: &[&str]) -> String {
    let output = bench(dir, arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

/// Cells that measure a driver.
fn measured(summary: &serde_json::Value) -> Vec<&serde_json::Value> {
    let yardstick = |it: &serde_json::Value| it["model"] == "null" || it["model"] == "reference";
    summary["cells"].as_array().unwrap().iter().filter(|it| !yardstick(it)).collect()
}

#[test]
fn root_shards_are_joined_to_the_whole_and_mistakes_are_named() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    fs::write(dir.join("m.toml"), MATRIX).unwrap();
    // As an Indexed Job, as a Slurm array, and by hand: all three agree on seed and parts.
    shard(dir, "s0", &["--shard", "auto", "--shards", "3"], &[("JOB_COMPLETION_INDEX", "0")]);
    let slurm =
        [("SLURM_ARRAY_TASK_ID", "11"), ("SLURM_ARRAY_TASK_MIN", "10"), ("SLURM_ARRAY_TASK_COUNT", "3")];
    shard(dir, "s1", &["--shard", "auto"], &slurm);
    let said = refusal(dir, &["merge", "s0", "s1", "--out", "no"]);
    assert!(said.contains("shards are missing: 2/3"), "{said}");
    let part = merged(dir, &["s0", "s1", "--partial", "--out", "part"]);
    assert!(measured(&part).len() < 2 * SETS);
    let page = fs::read_to_string(dir.join("part/report.md")).unwrap();
    assert!(page.contains("missing: shards 2/3"), "the report says so");

    shard(dir, "s2", &["--shard", "2/3"], &[]);
    let whole = merged(dir, &["s0", "s1", "s2", "--out", "whole"]);
    let cells = measured(&whole);
    let keys: BTreeSet<String> =
        cells.iter().map(|it| format!("{} {} {}", it["driver"], it["model"], it["dir_depth"])).collect();
    assert_eq!((cells.len(), keys.len()), (2 * SETS, 2 * SETS), "every cell once");
    for cell in &cells {
        assert_eq!(cell["n"], 4, "two blocks of two files: {cell}");
        assert_eq!(cell["backing"], "tmpfs", "one machine");
        assert!(cell["ratio_to_plain"]["p50"].as_f64().is_some(), "both drivers were in one shard: {cell}");
    }
    assert_eq!((whole["blocks"].as_u64(), whole["layers_unchanged"].as_bool()), (Some(6), Some(true)));
    assert_eq!(whole["ending"], "complete");

    let said = refusal(dir, &["merge", "s0", "s1", "s2", "s1", "--out", "no"]);
    assert!(said.contains("s1 has this cell of the same machine too"), "{said}");
    let said = refusal(dir, &["merge", "whole", "--out", "no"]);
    assert!(said.contains("merged already"), "{said}");
    let said = refusal(dir, &["run", "--matrix", "m.toml", "--shard", "3/3"]);
    assert!(said.contains("the last is 2"), "{said}");
    let said = refusal(dir, &["run", "--matrix", "m.toml", "--shard", "70/99"]);
    assert!(said.contains("take fewer shards"), "{said}");
    let said = refusal(dir, &["run", "--matrix", "m.toml", "--resume", "--out", "whole"]);
    assert!(said.contains("merged from several"), "{said}");
    assert!(!dir.join("no").exists(), "nothing is written on a mistake");
}

#[test]
fn root_machines_are_kept_apart() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    fs::write(dir.join("m.toml"), MATRIX.replace(", \"chmod\"", "")).unwrap();
    for (out, label) in [("a", "node-a"), ("b", "node-b")] {
        shard(dir, out, &["--label", label], &[]);
    }
    let both = merged(dir, &["a", "b", "--out", "both"]);
    let cells = measured(&both);
    assert_eq!(cells.len(), 2 * 2 * 4, "each machine has its own cells");
    for backing in ["tmpfs@1", "tmpfs@2"] {
        let own: Vec<_> = cells.iter().filter(|it| it["backing"] == backing).collect();
        assert_eq!(own.len(), 8, "{backing}");
        assert!(
            own.iter().all(|it| it["n"] == 4 && it["ratio_to_plain"]["blocks"] == 2),
            "only its own blocks"
        );
    }
    let page = fs::read_to_string(dir.join("both/report.md")).unwrap();
    assert!(page.contains("@1: node-a") && page.contains("@2: node-b"), "the report names them");

    let output = bench(dir, &["keep", "both", "kept", "--label", "host-x"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = fs::read_to_string(dir.join("reports/kept/report.md")).unwrap();
    assert!(kept.contains("@1: host-x,") && kept.contains("@2: host-x-2,"), "their names are replaced");
    assert!(!kept.contains("node-a") && !kept.contains("node-b"));
}
