//! Drivers as users bring them: described in TOML, on Btrfs, as volumes, and such as hang.
//!
//! They mount, hence need root; what needs fuse-overlayfs says so in its name.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::place::Place;
use common::{has_program, is_root};

fn listing(place: &Place, arguments: &[&str]) -> Command {
    let mut command =
        place.bench(&["list", "--matrix", "m.toml", "--backing", "scratch", "--drivers", "d.toml"]);
    command.args(arguments);
    command
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Model, number of samples and error of each cell of `driver`.
fn cells_of(summary: &serde_json::Value, driver: &str) -> Vec<(String, u64, String)> {
    let own = |it: &&serde_json::Value| {
        it["driver"] == driver && it["model"] != "null" && it["model"] != "reference"
    };
    let cells = summary["cells"].as_array().unwrap().iter().filter(own);
    let text = |it: &serde_json::Value| it.as_str().unwrap_or_default().to_owned();
    cells.map(|it| (text(&it["model"]), it["n"].as_u64().unwrap(), text(&it["error"]))).collect()
}

const GROUPS: &str = r#"
[[group]]
models = ["copy-up", "chmod", "second-write", "lookup", "mount"]
found_at = [3]
files = 2
"#;

fn matrix(backing: &str, drivers: &str) -> String {
    format!("name = \"m\"\nbudget = \"120s\"\nblocks_max = 2\nbacking = [{backing:?}]\n{drivers}\n{GROUPS}")
}

#[test]
fn root_snapshots_and_volumes_are_measured_on_btrfs() {
    if !is_root() || !has_program("mkfs.btrfs") {
        return;
    }
    let drivers = "[[driver]]\nname = \"plain\"\n[[driver]]\nname = \"volume\"\n[[driver]]\nname = \"btrfs\"";
    let place = Place::new(&matrix("loop:btrfs", drivers));
    stdout(&place.run(&[]));
    place.assert_left_clean();
    let summary = place.summary();
    for (driver, n_cells) in [("plain", 4), ("volume", 5), ("btrfs", 5)] {
        let cells = cells_of(&summary, driver);
        assert_eq!(cells.len(), n_cells, "{driver}: {cells:?}");
        assert!(cells.iter().all(|it| it.1 == 4), "two blocks of two files: {cells:?}");
    }
}

#[test]
fn root_btrfs_elsewhere_is_a_skip_with_its_reason() {
    if !is_root() {
        return;
    }
    let drivers = "[[driver]]\nname = \"volume\"\n[[driver]]\nname = \"btrfs\"";
    let place = Place::new(&matrix("tmpfs", drivers));
    stdout(&place.run(&[]));
    place.assert_left_clean();
    let summary = place.summary();
    let reason = summary["skips"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("loop:btrfs") || reason.contains("btrfs-progs"), "{reason}");
}

/// The example of docs/ADD_A_DRIVER.md.
fn documented() -> String {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ADD_A_DRIVER.md")).unwrap();
    let (_, after) = page.split_once("```toml\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

#[test]
fn root_fuse_the_documented_driver_is_listed_run_and_continued() {
    if !is_root() || !has_program("fuse-overlayfs") {
        return;
    }
    let place = Place::new(&matrix("tmpfs", "[[driver]]\nname = \"plain\""));
    fs::write(place.path("d.toml"), documented()).unwrap();
    let json = stdout(&listing(&place, &["--json"]).output().unwrap());
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    let own: Vec<_> =
        list["drivers"].as_array().unwrap().iter().filter(|it| it["name"] == "my-fuse").collect();
    assert_eq!(own.len(), 2, "default and its option set: {list}");
    for it in own {
        assert_eq!(it["available"], true, "{it}");
        assert!(it["version"].as_str().unwrap().contains("version"), "{it}");
    }
    let text = stdout(&listing(&place, &[]).output().unwrap());
    assert!(text.contains("my-fuse") && text.contains("copy-up"), "{text}");

    stdout(&place.run(&["--drivers", "d.toml", "--seed", "3", "--budget", "1s"]));
    let done = place.summary()["blocks"].as_u64().unwrap();
    // Its description lies in the run: the file is not asked for again.
    fs::remove_file(place.path("d.toml")).unwrap();
    stdout(&place.run(&["--resume"]));
    place.assert_left_clean();
    let summary = place.summary();
    assert_eq!((1 <= done, summary["blocks"].as_u64()), (true, Some(2)));
    let cells = cells_of(&summary, "my-fuse");
    assert_eq!(cells.len(), 2 * 5);
    assert!(cells.iter().all(|it| it.1 == 4 && it.2.is_empty()), "{cells:?}");
    assert!(summary["host"]["peers"]["my-fuse"].as_str().unwrap().contains("version"));
}

#[test]
fn root_fuse_a_driver_in_the_foreground_is_described_by_layers_of_its_own() {
    if !is_root() || !has_program("unionfs") {
        return;
    }
    let described = r#"[[command]]
name = "cow"
mount = ["unionfs", "-f", "-o", "cow,default_permissions", "{upper}=RW:{lowers}", "{target}"]
lower = "{layer}=RO"
foreground = true
"#;
    let place = Place::new(&matrix("tmpfs", described));
    stdout(&place.run(&[]));
    place.assert_left_clean();
    let cells = cells_of(&place.summary(), "cow");
    assert_eq!(cells.len(), 5);
    assert!(cells.iter().all(|it| it.1 == 4 && it.2.is_empty()), "{cells:?}");
}

#[test]
fn root_commands_that_hang_or_do_nothing_are_skips() {
    if !is_root() {
        return;
    }
    let described = |name: &str, mount: &str| {
        format!("[[command]]\nname = {name:?}\nmount = [{mount}, \"{{lowers}}\", \"{{target}}\"]\n")
    };
    let drivers = ["[[driver]]\nname = \"plain\"\n".to_owned()]
        .into_iter()
        .chain([
            described("hangs", "\"./hangs\""),
            described("hangs-in-front", "\"./hangs\"") + "foreground = true\n",
            described("nothing", "\"true\""),
            described("fails", "\"./fails\""),
            described("missing", "\"./missing\""),
        ])
        .collect::<String>();
    let place = Place::new(&matrix("tmpfs", &drivers));
    place.script("hangs", "#!/bin/sh\nsleep 1000\n");
    place.script("fails", "#!/bin/sh\necho no such luck >&2\nexit 3\n");
    stdout(&place.run(&["--mount-timeout", "0.3s"]));
    place.assert_left_clean();
    let summary = place.summary();
    let reason = |driver: &str| {
        let skips = summary["skips"].as_array().unwrap();
        skips.iter().find(|it| it["driver"] == driver).unwrap()["reason"].as_str().unwrap().to_owned()
    };
    for (driver, expected) in [
        ("hangs", "no answer in 0.3 s"),
        ("hangs-in-front", "no answer in 0.3 s"),
        ("nothing", "it returned and nothing is mounted"),
        ("fails", "no such luck (exit status: 3)"),
        ("missing", "./missing: no such program"),
    ] {
        assert!(reason(driver).contains(expected), "{driver}: {}", reason(driver));
    }
    assert_eq!(cells_of(&summary, "plain").len(), 4, "the others go on");
}

#[test]
fn root_fuse_a_server_that_stops_fails_its_cell_and_no_other() {
    if !is_root() || !has_program("fuse-overlayfs") {
        return;
    }
    let described = "[[driver]]\nname = \"plain\"\n[[command]]\nname = \"stops\"\n\
                     mount = [\"fuse-overlayfs\", \"-o\", \"lowerdir={lowers},upperdir={upper},workdir={work}\", \"{target}\"]\n";
    let text = matrix("tmpfs", described).replace("blocks_max = 2", "blocks_max = 4");
    // Without the model that has a mount of its own: there is one server to stop.
    let text = text.replace("files = 2", "files = 40").replace(", \"mount\"", "");
    let place = Place::new(&text);
    let mut command = place.command(&["--sample-timeout", "1s", "--mount-timeout", "5s"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let stopped = stop_a_server(&place);
    let output = child.wait_with_output().unwrap();
    assert!(stopped, "the run was too short to stop a server in it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    place.assert_left_clean();
    let summary = place.summary();
    let cells = cells_of(&summary, "stops");
    let failed: Vec<_> = cells.iter().filter(|it| !it.2.is_empty()).collect();
    assert_eq!(failed.len(), 1, "{cells:?}");
    assert!(failed[0].2.contains("no answer in 1 s"), "{failed:?}");
    assert!(
        cells.iter().filter(|it| it.2.is_empty()).all(|it| it.1 == 160),
        "a new server served them: {cells:?}"
    );
    assert!(cells_of(&summary, "plain").iter().all(|it| it.1 == 160), "the others go on");
}

/// Stops a server once a block is under way.
fn stop_a_server(place: &Place) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let begun = fs::read_to_string(place.path("out/samples.jsonl")).unwrap_or_default();
        let servers = if begun.contains("\"sample\"") { place.processes() } else { Vec::new() };
        if let Some(server) = servers.first() {
            let stop = nix::sys::signal::Signal::SIGSTOP;
            return nix::sys::signal::kill(nix::unistd::Pid::from_raw(*server), stop).is_ok();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}
