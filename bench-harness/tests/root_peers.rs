//! A tiny run of what the matrix `peers` measures: every model, its checks, the goals, the short form.
//!
//! It mounts overlayfs, hence needs root; our own union takes part where an `aufs` command is found.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::is_root;
use common::place::Place;

const MATRIX: &str = r#"
name = "tiny"
budget = "60s"
blocks_max = 2
backing = ["tmpfs"]
goals = "peers"

[[driver]]
name = "plain"

[[driver]]
name = "overlayfs"
options = ["default", "volatile"]

[[driver]]
name = "aufs-fuse"
options = ["passthrough", "noopen"]

[[group]]
models = ["lookup", "lookup-missing", "readdir", "walk", "read-files", "read-sequential", "read-random", "read-mapped"]
sizes = ["20K"]
entries = [40]
found_at = [3]
cache = ["fresh", "hot"]
files = 1

[[group]]
models = ["write-sequential", "write-random", "copy-up", "create", "unlink", "untar", "remove-tree", "parallel", "page-cache"]
sizes = ["20K"]
entries = [64]
found_at = [3]
files = 1

[[group]]
models = ["bare-copy"]
drivers = ["plain"]
sizes = ["20K", "3M"]
found_at = [3]
files = 1
blocks = 1

[[group]]
models = ["copy-up"]
sizes = ["3M"]
found_at = [3]
files = 1
budget_min = "50s"
"#;

#[test]
fn root_every_model_is_right_and_every_goal_is_judged_or_says_why() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let output = place.run(&["--seed", "5"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    place.assert_left_clean();

    let summary = place.summary();
    let measured = |driver: &str| -> BTreeSet<String> {
        let cells = summary["cells"].as_array().unwrap().iter();
        let own = cells.filter(|it| it["driver"] == driver && 0 < it["n"].as_u64().unwrap());
        own.map(|it| it["model"].as_str().unwrap().to_owned()).collect()
    };
    // bare-copy has one block and stands for no driver, as null and reference; the rest every driver has.
    assert_eq!(measured("plain").len(), 18 + 2, "{:?}", measured("plain"));
    assert_eq!(measured("overlayfs").len(), 17, "{:?}", measured("overlayfs"));
    for cell in summary["cells"].as_array().unwrap() {
        let n = match cell["model"].as_str().unwrap() {
            "bare-copy" => 1,
            "null" => 2 * 1000,
            "reference" => 2 * 200,
            _ => 2,
        };
        assert_eq!(cell["n"], n, "{cell}");
    }
    let metrics = summary["metrics"].as_array().unwrap();
    for name in ["scaling_permille", "cached_bytes"] {
        assert!(metrics.iter().any(|it| it["metric"] == name && 0.0 < it["p50"].as_f64().unwrap()), "{name}");
    }
    check_goals(&summary);
    let report = fs::read_to_string(place.path("out/report.md")).unwrap();
    for expected in ["## Goals", "| untar, peer |", "overlayfs (volatile)", "not judged: ", "## Besides time"]
    {
        assert!(report.contains(expected), "the report lacks {expected}");
    }
}

fn check_goals(summary: &serde_json::Value) {
    let goals = summary["goals"].as_array().unwrap();
    let ours = summary["cells"].as_array().unwrap().iter().any(|it| it["driver"] == "aufs-fuse");
    let of = |row: &str| goals.iter().find(|it| it["row"] == row).unwrap();
    let walk = of("walk, warm");
    assert_eq!(walk["entries"], 40);
    let columns = walk["columns"].as_array().unwrap();
    let plain = columns.iter().find(|it| it[0] == "plain").unwrap();
    assert!(0.0 < plain[1]["p50"].as_f64().unwrap(), "overlayfs is the base of the columns");
    assert_eq!(walk["met"].is_boolean(), ours, "judged where ours ran: {walk}");
    assert!(ours || walk["verdict"].as_str().unwrap().contains("was skipped: "), "{walk}");
    // No fuse-overlayfs in this matrix, no layer count of 127.
    assert!(of("untar, peer")["verdict"].as_str().unwrap().starts_with("not judged: "));
    assert_eq!(of("cold lookup")["verdict"], "not judged: not part of this run");
}

#[test]
fn root_a_short_run_says_what_its_budget_left_out() {
    if !is_root() {
        return;
    }
    let matrix = MATRIX.replace("\"read-mapped\"]", "\"read-mapped\"]\nblocks = 1");
    let place = Place::new(&matrix);
    let missing = [("FUSE_OVERLAYFS_2_BIN", "/nowhere/fuse-overlayfs")];
    let output = place.run_with(&["--budget", "40s", "--driver", "plain,overlayfs"], &missing);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("left out of runs with a budget below 50 s: copy-up of 3M"), "{said}");
    let summary = place.summary();
    assert_eq!(summary["cuts"].as_array().unwrap().len(), 1);
    let cells = summary["cells"].as_array().unwrap();
    assert!(!cells.iter().any(|it| it["model"] == "copy-up" && it["file_bytes"] == 3 << 20));
    assert!(
        cells.iter().filter(|it| it["model"] == "walk").all(|it| it["n"] == 1),
        "one block of that group"
    );
    assert!(cells.iter().filter(|it| it["model"] == "untar").all(|it| it["n"] == 2), "two of the others");
    for name in ["report.md", "report.html"] {
        let text = fs::read_to_string(place.path("out").join(name)).unwrap();
        assert!(
            text.contains("A short run. Left out of runs with a budget below 50 s: copy-up of 3M"),
            "{name}"
        );
    }
}

#[test]
fn root_a_missing_peer_is_a_skip_that_names_its_recipe() {
    if !is_root() {
        return;
    }
    let matrix = "name = \"m\"\nbudget = \"30s\"\nblocks_max = 1\nbacking = [\"tmpfs\"]\n[[driver]]\nname = \"plain\"\n\
                  [[driver]]\nname = \"fuse-overlayfs-2\"\n[[group]]\nmodels = [\"create\"]\nfound_at = [1]\nfiles = 1\n";
    let place = Place::new(matrix);
    let output = place.run_with(&[], &[("FUSE_OVERLAYFS_2_BIN", "/nowhere/fuse-overlayfs")]);
    assert!(output.status.success());
    let summary = place.summary();
    let skips = summary["skips"].as_array().unwrap();
    assert_eq!(skips.len(), 1);
    assert!(skips[0]["reason"].as_str().unwrap().contains("just peers"), "{skips:?}");
    assert_eq!(summary["cells"].as_array().unwrap().len(), 1 + 2, "with null and reference");
}

/// An `aufs` command that shows the lowest layer itself, so that all changes land in the layer.
const LIAR: &str = r#"#!/bin/sh
case $1 in
mount) lowest=${3##*:}; for target; do :; done; exec mount --bind "${lowest%=*}" "$target" ;;
umount) exec umount "$2" ;;
esac
"#;

#[test]
fn root_checks_catch_a_driver_that_changes_its_layers() {
    if !is_root() {
        return;
    }
    let models = ["create", "remove-tree", "write-sequential", "write-random", "parallel", "untar", "walk"];
    let matrix = format!(
        "name = \"liar\"\nbudget = \"60s\"\nblocks_max = 1\nbacking = [\"tmpfs\"]\n[[driver]]\nname = \"aufs-fuse\"\n\
         [[group]]\nmodels = {models:?}\nsizes = [\"20K\"]\nentries = [64]\nfound_at = [1]\nfiles = 1\n"
    );
    let place = Place::new(&matrix);
    let liar = place.script("liar", LIAR);
    let output = place.run_with(&[], &[("AUFS_BIN", &liar)]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    place.assert_left_clean();
    let summary = place.summary();
    let cells = summary["cells"].as_array().unwrap();
    let of = |model: &str| cells.iter().find(|it| it["model"] == model).unwrap();
    for (model, expected) in [
        ("create", "no copy on the writable branch"),
        ("untar", "no copy on the writable branch"),
        ("write-sequential", "no copy on the writable branch"),
        ("write-random", "no copy on the writable branch"),
        ("remove-tree", "stat layer file"),
        ("parallel", "the driver changed the layer"),
    ] {
        let error = of(model)["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected) && of(model)["n"] == 0, "{model}: {error}");
    }
    assert_eq!(of("walk")["n"], 1, "reading was right");
    assert_eq!(summary["layers_unchanged"], false);
}
