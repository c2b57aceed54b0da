//! Small runs of what the matrix `workloads` measures: containers, git, writers, a database, cold samples.
//!
//! They mount overlayfs, hence need root; those of our own union need FUSE and an `aufs` command too.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::place::Place;
use common::{has_fuse, is_root};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// All models of this file, without drivers.
const GROUPS: &str = r#"
name = "tiny"
budget = "120s"
blocks_max = 2
backing = ["tmpfs"]

[[group]]
models = ["start"]
found_at = [3]
cache = ["fresh", "cold"]
files = 1

[[group]]
models = ["density"]
sizes = ["20K"]
entries = [1, 3]
found_at = [3]
files = 1

[[group]]
models = ["git-status"]
sizes = ["1K"]
entries = [30]
cache = ["fresh", "hot"]
found_at = [3]
files = 1

[[group]]
models = ["writers"]
sizes = ["20K"]
entries = [16]
threads = [1, 3]
found_at = [3]
files = 1

[[group]]
models = ["database", "page-cache"]
sizes = ["200K"]
found_at = [3]
files = 1
"#;

fn with_drivers(groups: &str, drivers: &[&str]) -> String {
    let rows: Vec<String> = drivers.iter().map(|it| format!("[[driver]]\nname = {it:?}\n")).collect();
    let at = groups.find("[[group]]").unwrap();
    format!("{}{}{}", &groups[..at], rows.concat(), &groups[at..])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Medians of a metric of `driver` by model, entries, threads and cache.
fn metric(
    summary: &serde_json::Value,
    driver: &str,
    name: &str,
) -> BTreeMap<(String, u64, u64, String), f64> {
    let own = summary["metrics"].as_array().unwrap().iter();
    let own = own.filter(|it| it["driver"] == driver && it["metric"] == name);
    let number = |it: &serde_json::Value| it.as_u64().unwrap_or(0);
    let text = |it: &serde_json::Value| it.as_str().unwrap().to_owned();
    own.map(|it| {
        let key = (text(&it["model"]), number(&it["entries"]), number(&it["threads"]), text(&it["cache"]));
        (key, it["p50"].as_f64().unwrap())
    })
    .collect()
}

/// The values alone, in the order of their keys.
fn values(summary: &serde_json::Value, driver: &str, name: &str) -> Vec<f64> {
    metric(summary, driver, name).into_values().collect()
}

fn check_workloads(summary: &serde_json::Value, drivers: &[&str]) {
    let yardstick = |it: &&serde_json::Value| it["model"] == "null" || it["model"] == "reference";
    for cell in summary["cells"].as_array().unwrap().iter().filter(|it| !yardstick(it)) {
        assert_eq!(cell["n"], 2, "{cell}");
    }
    for driver in drivers {
        for name in ["writes_per_s", "first_commit_ns", "later_commit_ns"] {
            let found = values(summary, driver, name);
            let expected = if name == "writes_per_s" { 2 } else { 1 };
            assert!(
                found.len() == expected && found.iter().all(|it| 0.0 < *it),
                "{driver} {name}: {found:?}"
            );
        }
        let resident = values(summary, driver, "resident_bytes");
        assert!(resident[0] >= 204_800.0 && resident[0] < 4.0 * 204_800.0, "{driver}: {resident:?}");
        assert_eq!(values(summary, driver, "memory_taken_bytes").len(), 1, "{driver}");
        let inodes = values(summary, driver, "branches_inodes");
        if *driver == "plain" {
            assert!(inodes.is_empty(), "a plain directory is no container");
            continue;
        }
        assert_eq!(inodes[1], 3.0 * inodes[0], "{driver}: three containers have three times the inodes");
        let disk = values(summary, driver, "branches_disk_bytes");
        assert!(20_480.0 <= disk[0] && (disk[1] - 3.0 * disk[0]).abs() < 1.0, "{driver}: {disk:?}");
        assert_eq!(values(summary, driver, "container_memory_bytes").len(), 2, "{driver}");
    }
}

#[test]
fn root_workloads_are_right_and_what_is_shared_shows() {
    if !is_root() {
        return;
    }
    let drivers = ["plain", "vfs", "overlayfs"];
    let place = Place::new(&with_drivers(GROUPS, &drivers));
    let output = place.run(&["--seed", "5"]);
    assert!(output.status.success(), "{}", said(&output));
    place.assert_left_clean();
    let summary = place.summary();
    check_workloads(&summary, &drivers);
    // The branch itself, the directory of the file, the file; a copy has the whole tree.
    assert_eq!(values(&summary, "overlayfs", "branches_inodes"), [3.0, 9.0]);
    assert_eq!(values(&summary, "overlayfs", "resident_bytes"), [204_800.0], "one page cache for both");
    assert_eq!(values(&summary, "vfs", "resident_bytes"), [3.0 * 204_800.0], "the layer's and two copies");
    let program = fs::metadata(env!("CARGO_BIN_EXE_aufs-bench")).unwrap().len() as f64;
    assert!(program < values(&summary, "vfs", "branches_disk_bytes")[0], "the program was copied too");
    assert!(values(&summary, "vfs", "servers_pss_bytes").is_empty(), "no server, no memory of it");
    // Nothing on tmpfs is ever cold, and that is said.
    let skips = summary["skips"].as_array().unwrap();
    let reasons: BTreeSet<&str> = skips.iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert!(skips.iter().any(|it| it["model"] == "start (cold)"), "{skips:?}");
    assert!(reasons.iter().any(|it| it.contains("lies in memory")), "{reasons:?}");
}

#[test]
fn fuse_workloads_of_our_union_are_right() {
    if !is_root() || !has_fuse() {
        return;
    }
    let place = Place::new(&with_drivers(GROUPS, &["aufs-fuse"]));
    let output = place.run(&["--seed", "5"]);
    assert!(output.status.success(), "{}", said(&output));
    place.assert_left_clean();
    let summary = place.summary();
    check_workloads(&summary, &["aufs-fuse"]);
    let pss = values(&summary, "aufs-fuse", "servers_pss_bytes");
    assert!(pss.len() == 2 && 0.0 < pss[0] && pss[0] < pss[1], "three servers take more than one: {pss:?}");
}

const COLD: &str = r#"
name = "cold"
budget = "120s"
blocks_max = 1
backing = ["loop:ext4"]

[[group]]
models = ["start", "copy-up", "read-sequential", "read-random", "read-mapped", "read-files"]
sizes = ["20K"]
entries = [12]
found_at = [2]
cache = ["fresh", "cold"]
files = 1

[[group]]
models = ["lookup", "lookup-missing", "walk", "readdir", "create"]
sizes = ["1K"]
entries = [12]
found_at = [2]
cache = ["fresh", "cold"]
files = 1
"#;

fn n_cold(summary: &serde_json::Value, driver: &str) -> usize {
    let cells = summary["cells"].as_array().unwrap().iter();
    cells.filter(|it| it["driver"] == driver && it["cache"] == "cold" && it["n"] == 1).count()
}

#[test]
fn root_cold_samples_are_verified_and_names_need_leave() {
    if !is_root() {
        return;
    }
    let mut drivers = vec!["plain", "vfs", "overlayfs"];
    drivers.extend(has_fuse().then_some("aufs-fuse"));
    let place = Place::new(&with_drivers(COLD, &drivers));
    let output = place.run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    place.assert_left_clean();
    let summary = place.summary();
    for driver in &drivers {
        assert_eq!(n_cold(&summary, driver), 6, "{driver}: the models that read data");
        let shares = values(&summary, driver, "resident_permille");
        assert!(shares.len() == 6 && shares.iter().all(|it| *it <= 100.0), "{driver}: {shares:?}");
    }
    let skips = summary["skips"].as_array().unwrap();
    let reason = |model: &str| {
        let skip = skips.iter().find(|it| it["driver"] == "overlayfs" && it["model"] == model);
        skip.unwrap_or_else(|| panic!("{model} was not skipped"))["reason"].as_str().unwrap()
    };
    for model in ["lookup (cold)", "lookup-missing (cold)", "walk (cold)", "readdir (cold)"] {
        assert!(reason(model).contains("--allow-drop-caches"), "{model}");
    }
    assert!(reason("create (cold)").contains("no cold form"));
    let report = fs::read_to_string(place.0.path().join("out/report.md")).unwrap();
    assert!(report.contains("names stayed cached"), "the report says what was cold");
}

#[test]
fn root_names_are_cold_where_all_caches_may_go() {
    if !is_root() {
        return;
    }
    let place = Place::new(&with_drivers(&COLD.replace("\"start\", ", ""), &["plain", "overlayfs"]));
    let output = place.run(&["--allow-drop-caches"]);
    let text = said(&output);
    if output.status.code() == Some(4) && text.contains("only root of the host may drop its caches") {
        return println!("skipped: this root may not drop caches");
    }
    assert!(output.status.success(), "{text}");
    place.assert_left_clean();
    let summary = place.summary();
    for driver in ["plain", "overlayfs"] {
        assert_eq!(n_cold(&summary, driver), 9, "{driver}: all but create");
        // A missing name has no file that could be resident.
        assert_eq!(values(&summary, driver, "resident_permille").len(), 8, "{driver}");
    }
    let report = fs::read_to_string(place.0.path().join("out/report.md")).unwrap();
    assert!(report.contains("all caches of the host were dropped"), "the report says what was cold");
    let resumed = place.run(&["--resume"]);
    assert_eq!(resumed.status.code(), Some(2), "a resumed run must be allowed the same");
    assert!(said(&resumed).contains("give --allow-drop-caches again"), "{}", said(&resumed));
}

/// Starts a run in a process group of its own, as a shell would, and waits until container `name` comes up.
fn start_until_container(place: &Place, name: &str) -> Child {
    let mut command = place.command(&[]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let is_there = || {
        let dirs = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
        // scratch / run / backing / block / stack / container
        let blocks = dirs(place.0.path().join("scratch")).flat_map(dirs).map(|it| it.join("b0"));
        blocks.flat_map(dirs).any(|it| it.join(name).is_dir())
    };
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(60), "no container {name}");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn interrupt_density(driver: &str) {
    let matrix = "name = \"many\"\nbudget = \"120s\"\nblocks_max = 2\nbacking = [\"dir\"]\n\
                  [[group]]\nmodels = [\"density\"]\nsizes = [\"4K\"]\nentries = [400]\nfound_at = [2]\nfiles = 1\n";
    let place = Place::new(&with_drivers(matrix, &[driver]));
    let child = start_until_container(&place, "d1-3");
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    // Twice, and to the whole group, as an impatient user at a terminal.
    killpg(group, Signal::SIGINT).unwrap();
    killpg(group, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{driver}");
    let summary = place.summary();
    let cell = summary["cells"].as_array().unwrap().iter().find(|it| it["model"] == "density").unwrap();
    assert_eq!(cell["n"], 0, "{driver}: it was stopped in the middle");
    place.assert_left_clean();
}

#[test]
fn root_an_interrupt_among_containers_leaves_none() {
    if is_root() {
        interrupt_density("overlayfs");
    }
}

#[test]
fn fuse_an_interrupt_among_containers_leaves_no_server() {
    if is_root() && has_fuse() {
        interrupt_density("aufs-fuse");
    }
}

/// An `aufs` command that shows the lowest layer itself, so that all changes land in the layer.
const LIAR: &str = r#"#!/bin/sh
case $1 in
mount) lowest=${3##*:}; for target; do :; done; exec mount --bind "${lowest%=*}" "$target" ;;
umount) exec umount "$2" ;;
esac
"#;

#[test]
fn root_checks_catch_a_driver_that_writes_into_the_layer() {
    use std::os::unix::fs::PermissionsExt as _;
    if !is_root() {
        return;
    }
    let place = Place::new(&with_drivers(GROUPS, &["aufs-fuse"]));
    let liar = place.0.path().join("liar");
    fs::write(&liar, LIAR).unwrap();
    fs::set_permissions(&liar, fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.command(&[]).env("AUFS_BIN", &liar).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    place.assert_left_clean();
    let summary = place.summary();
    for cell in summary["cells"].as_array().unwrap() {
        let expected = match cell["model"].as_str().unwrap() {
            "density" | "writers" | "database" => "no copy on the writable branch",
            "git-status" => "the index is still that of the layer",
            _ => continue,
        };
        let error = cell["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected) && cell["n"] == 0, "{cell}");
    }
}

#[test]
fn a_program_of_a_layer_says_its_word_and_ends_with_its_input() {
    let bench = Path::new(env!("CARGO_BIN_EXE_aufs-bench"));
    let once = Command::new(bench).args(["noop", "word-7"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!((once.status.code(), once.stdout.as_slice()), (Some(0), &b"word-7\n"[..]));
    let mut stays = Command::new(bench);
    stays.args(["noop", "word-8", "stay"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = stays.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "word-8\n");
    assert!(child.try_wait().unwrap().is_none(), "it stays");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "and ends when its input does");
}
