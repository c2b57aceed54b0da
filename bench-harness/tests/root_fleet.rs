//! A matrix split over processes as a cluster would, and joined again.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::is_root;
use common::place::Place;

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

fn shard(place: &Place, out: &str, more: &[&str], environment: &[(&str, &str)]) {
    let arguments = ["run", "--matrix", "m.toml", "--backing", "scratch", "--out", out];
    let mut command = place.bench(&[&arguments, more].concat());
    let output = command.envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn merged(place: &Place, arguments: &[&str]) -> serde_json::Value {
    let output = place.bench(&[&["merge"], arguments].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = arguments.last().unwrap();
    serde_json::from_slice(&fs::read(place.path(out).join("summary.json")).unwrap()).unwrap()
}

fn refusal(place: &Place, arguments: &[&str]) -> String {
    let output = place.bench(arguments).output().unwrap();
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
    let place = Place::new(MATRIX);
    // As an Indexed Job, as a Slurm array, and by hand: all three agree on seed and parts.
    shard(&place, "s0", &["--shard", "auto", "--shards", "3"], &[("JOB_COMPLETION_INDEX", "0")]);
    let slurm =
        [("SLURM_ARRAY_TASK_ID", "11"), ("SLURM_ARRAY_TASK_MIN", "10"), ("SLURM_ARRAY_TASK_COUNT", "3")];
    shard(&place, "s1", &["--shard", "auto"], &slurm);
    let said = refusal(&place, &["merge", "s0", "s1", "--out", "no"]);
    assert!(said.contains("shards are missing: 2/3"), "{said}");
    let part = merged(&place, &["s0", "s1", "--partial", "--out", "part"]);
    assert!(measured(&part).len() < 2 * SETS);
    let page = fs::read_to_string(place.path("part/report.md")).unwrap();
    assert!(page.contains("missing: shards 2/3"), "the report says so");

    shard(&place, "s2", &["--shard", "2/3"], &[]);
    let whole = merged(&place, &["s0", "s1", "s2", "--out", "whole"]);
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

    let said = refusal(&place, &["merge", "s0", "s1", "s2", "s1", "--out", "no"]);
    assert!(said.contains("s1 has this cell of the same machine too"), "{said}");
    let said = refusal(&place, &["merge", "whole", "--out", "no"]);
    assert!(said.contains("merged already"), "{said}");
    let said = refusal(&place, &["run", "--matrix", "m.toml", "--shard", "3/3"]);
    assert!(said.contains("the last is 2"), "{said}");
    let said = refusal(&place, &["run", "--matrix", "m.toml", "--shard", "70/99"]);
    assert!(said.contains("take fewer shards"), "{said}");
    let said = refusal(&place, &["run", "--matrix", "m.toml", "--resume", "--out", "whole"]);
    assert!(said.contains("merged from several"), "{said}");
    assert!(!place.path("no").exists(), "nothing is written on a mistake");
    place.assert_left_clean();
}

#[test]
fn root_machines_are_kept_apart() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace(", \"chmod\"", ""));
    for (out, label) in [("a", "node-a"), ("b", "node-b")] {
        shard(&place, out, &["--label", label], &[]);
    }
    let both = merged(&place, &["a", "b", "--out", "both"]);
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
    let page = fs::read_to_string(place.path("both/report.md")).unwrap();
    assert!(page.contains("@1: node-a") && page.contains("@2: node-b"), "the report names them");

    let output = place.bench(&["keep", "both", "kept", "--label", "host-x"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = fs::read_to_string(place.path("reports/kept/report.md")).unwrap();
    assert!(kept.contains("@1: host-x,") && kept.contains("@2: host-x-2,"), "their names are replaced");
    assert!(!kept.contains("node-a") && !kept.contains("node-b"));
}
