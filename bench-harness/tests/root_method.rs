//! How runs measure and how they end: sessions, precision, an open loop, signals, full disks, odd clocks, no root.
//!
//! They mount, hence need root.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use common::is_root;
use common::place::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const MATRIX: &str = r#"
name = "small"
budget = "60s"
blocks_max = 5
backing = ["tmpfs"]

[[driver]]
name = "plain"

[[driver]]
name = "overlayfs"

[[group]]
models = ["copy-up", "lookup", "walk"]
entries = [20]
found_at = [2]
files = 2
"#;

impl Place {
    fn succeed(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Runs `script` in a mount namespace of its own, with the bench as `$BENCH`.
    fn shell(&self, script: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script]).env("BENCH", env!("CARGO_BIN_EXE_aufs-bench"));
        command.current_dir(self.0.path()).output().unwrap()
    }

    /// Records of `samples.jsonl` of one type.
    fn records(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("out/samples.jsonl")).unwrap();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|it| it["type"] == kind).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Duration::from_secs(60) < start.elapsed() {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the bench did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for(path: &Path, wanted: &str) {
    let start = Instant::now();
    while !fs::read_to_string(path).unwrap_or_default().contains(wanted) {
        assert!(start.elapsed() < Duration::from_secs(60), "{} never had {wanted}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn root_sessions_share_the_blocks_and_resuming_is_a_session_more() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("[\"tmpfs\"]", "[\"tmpfs\", \"dir\", \"loop:ext4\"]"));
    let limited =
        format!("{MATRIX}\n[[group]]\nmodels = [\"create\"]\nfound_at = [2]\nfiles = 1\nblocks = 2\n");
    fs::write(place.path("m.toml"), limited).unwrap();
    place.succeed(&["--sessions", "2", "--set", "backing=tmpfs,dir,loop:ext4"]);
    place.assert_left_clean();
    let sessions: Vec<u64> =
        place.records("block-start").iter().map(|it| it["session"].as_u64().unwrap_or(0)).collect();
    assert_eq!(sessions, [0, 0, 0, 1, 1]);
    // A cell of two blocks has one in each session.
    let header = place.records("header").remove(0);
    let created = |it: &Value| {
        let cell = usize::try_from(it["cell"].as_u64().unwrap()).unwrap();
        header["cells"][cell]["model"] == "create"
    };
    let blocks: BTreeSet<u64> = place
        .records("sample")
        .iter()
        .filter(|it| created(it))
        .map(|it| it["block"].as_u64().unwrap())
        .collect();
    assert_eq!(blocks, BTreeSet::from([0, 3]));
    let summary = place.summary();
    assert_eq!((&summary["method"]["sessions"], &summary["layers_unchanged"]), (&2.into(), &true.into()));
    assert_eq!(header["method"]["config"]["sha256"].as_str().unwrap().len(), 64);
    assert!(header["host"]["environment"]["rustc"].as_str().unwrap().starts_with("rustc"));

    // Cut off in the second session, it goes on in a third.
    let text = fs::read_to_string(place.path("out/samples.jsonl")).unwrap();
    let end = text.find("{\"type\":\"block-end\",\"block\":4").unwrap();
    fs::write(place.path("out/samples.jsonl"), &text[..end]).unwrap();
    place.succeed(&["--resume"]);
    let last = place.records("block-start").pop().unwrap();
    assert_eq!((&last["block"], &last["session"]), (&4.into(), &2.into()));
    place.assert_left_clean();
}

#[test]
fn root_a_run_ends_when_its_cells_are_precise() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    place.succeed(&["--precision", "99%", "--driver", "plain", "--set", "group.0.models=lookup"]);
    assert_eq!(place.records("block-end").len(), 10, "the first look is after ten blocks");
    assert_eq!(place.records("end")[0]["ending"], "complete");
    assert_eq!(place.summary()["cells"][0]["precision_reached"], true);
    // What cannot be reached is said.
    let never = Place::new(MATRIX);
    never.succeed(&[
        "--precision",
        "0.0001%",
        "--budget",
        "2s",
        "--driver",
        "plain",
        "--set",
        "group.0.models=lookup",
    ]);
    assert_eq!(never.summary()["cells"][0]["precision_reached"], false);
    let report = fs::read_to_string(never.path("out/report.md")).unwrap();
    assert!(report.contains("did not reach the precision of ±0.0001 %"), "the report says so");
}

#[test]
fn root_an_open_loop_charges_what_is_late() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    // Far more than can be done: nearly every sample is late.
    place.succeed(&["--rate", "1000000", "--set", "blocks_max=2"]);
    let header = place.records("header").remove(0);
    let mut late = 0;
    for sample in place.records("sample") {
        let cell = usize::try_from(sample["cell"].as_u64().unwrap()).unwrap();
        let ns = sample["ns"].as_u64().unwrap();
        match sample["response_ns"].as_u64() {
            Some(response_ns) => {
                assert!(ns <= response_ns, "{sample}");
                late += usize::from(ns < response_ns);
            }
            None => {
                let model = header["cells"][cell]["model"].as_str().unwrap();
                assert!(
                    ["walk", "null", "reference"].contains(&model),
                    "{model} is a single operation: {sample}"
                );
            }
        }
    }
    assert!(0 < late);
    let report = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(report.contains("## Response times") && report.contains("service times"), "both are labelled");
}

#[test]
fn root_the_first_signal_ends_a_run_in_order() {
    if !is_root() {
        return;
    }
    for sent in [Signal::SIGINT, Signal::SIGTERM] {
        let place = Place::new(&MATRIX.replace("blocks_max = 5", "blocks_max = 5000"));
        let mut child = place.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(&place.path("out/samples.jsonl"), "block-end");
        signal(&child, sent);
        assert_eq!(wait(&mut child).code(), Some(130), "{sent}");
        assert_eq!(place.records("end")[0]["ending"], "interrupted");
        assert!(place.path("out/report.html").is_file());
        place.assert_left_clean();
    }
}

/// An `aufs` command that shows the lowest layer itself, and never ends a mount.
const STUCK: &str = r#"#!/bin/sh
case $1 in
mount) lowest=${3##*:}; for target; do :; done; exec mount --bind "${lowest%=*}" "$target" ;;
umount) echo stuck > "$PLACE/stuck"; sleep 1000 ;;
esac
"#;

#[test]
fn root_the_second_signal_ends_a_run_and_a_list_at_once() {
    if !is_root() {
        return;
    }
    let matrix = "name = \"stuck\"\nbudget = \"60s\"\nblocks_max = 2\nbacking = [\"tmpfs\"]\n[[driver]]\nname = \"plain\"\n\
                  [[driver]]\nname = \"aufs-fuse\"\n[[group]]\nmodels = [\"lookup\"]\nfound_at = [1]\nfiles = 1\n";
    for verb in ["run", "list"] {
        let place = Place::new(matrix);
        let aufs = place.path("aufs");
        fs::write(&aufs, STUCK.replace("$PLACE", place.0.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&aufs, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = place.bench(&[verb, "--matrix", "m.toml", "--backing", "scratch"]);
        if verb == "run" {
            command.args(["--out", "out"]);
        }
        command.env("AUFS_BIN", &aufs).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // The trial mount of the driver is stuck already.
        wait_for(&place.path("stuck"), "stuck");
        signal(&child, Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "{verb}: the first signal waits for the driver");
        signal(&child, Signal::SIGINT);
        assert_eq!(wait(&mut child).code(), Some(130), "{verb}");
        place.assert_left_clean();
    }
}

#[test]
fn root_a_full_disk_keeps_the_samples_and_says_what_to_do() {
    if !is_root() {
        return;
    }
    // Where the results go: a few blocks fit.
    let place = Place::new(&MATRIX.replace("blocks_max = 5", "blocks_max = 5000"));
    let results = place.shell(
        "mkdir disk; mount -t tmpfs -o size=300k none disk; code=0
         $BENCH run --matrix m.toml --backing scratch --out disk/out || code=$?
         cp -r disk/out out; exit $code",
    );
    assert_full(&place, &results, "write disk/out/samples.jsonl");

    // Where the layers go: it fills up after the first block.
    let place = Place::new(&MATRIX.replace("blocks_max = 5", "blocks_max = 5000").replace("tmpfs", "dir"));
    let backing = place.shell(
        "mkdir disk; mount -t tmpfs -o size=80m none disk; code=0
         (until grep -qs block-end out/samples.jsonl; do sleep 0.01; done
         until [ -e scratch ]; do cat /dev/zero >> disk/filler || true; done) 2> filler.log &
         $BENCH run --matrix m.toml --backing disk/scratch --out out || code=$?
         mkdir scratch; wait; cp -r disk/scratch/. scratch; exit $code",
    );
    assert_full(&place, &backing, "No space left");
}

fn assert_full(place: &Place, output: &Output, place_of_error: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    for expected in [place_of_error, "No space left on device", "samples so far are kept", "--resume --out"] {
        assert!(said.contains(expected), "{said} lacks {expected}");
    }
    assert!(!place.records("block-end").is_empty(), "raw samples are kept");
    place.assert_left_clean();
    let mut report = Command::new(env!("CARGO_BIN_EXE_aufs-bench"));
    let reported = report.args(["report", "out"]).current_dir(place.0.path()).output().unwrap();
    assert!(reported.status.success(), "and can be reported: {}", self::said(&reported));
}

#[test]
fn root_an_unsteady_clock_is_told_by_doctor_and_by_the_report() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let output = place.shell(
        "echo hpet > hpet; mount --bind hpet /sys/devices/system/clocksource/clocksource0/current_clocksource
         $BENCH doctor --json --watch 0.1s --backing scratch > doctor.json || test $? = 4
         $BENCH run --matrix m.toml --backing scratch --out out --set blocks_max=1",
    );
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("warning: the clock source hpet"), "{}", said(&output));
    let report = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(report.contains("The clock source hpet is slow or unstable"), "the report warns");
    let doctor: Value = serde_json::from_slice(&fs::read(place.path("doctor.json")).unwrap()).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    let of = |check: &str| findings.iter().find(|it| it["check"] == check).unwrap();
    assert_eq!((&of("clock")["level"], &of("lock")["level"]), (&"warn".into(), &"ok".into()));
    assert!(of("clock")["remedy"].as_str().unwrap().contains("hpet"));
    assert!(0.0 <= doctor["prediction"]["pair_deviation"].as_f64().unwrap());
    place.assert_left_clean();
}

#[test]
fn root_without_namespaces_a_run_is_refused_with_a_remedy() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    // In a user namespace whose root may make no mount namespace, as most container runtimes have it.
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces; exec $0 \"$@\"";
    for (verb, expected) in [("run", "run as root"), ("doctor", "mounting")] {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-ec", script, env!("CARGO_BIN_EXE_aufs-bench")]);
        command.args([verb, "--backing", "scratch"]).current_dir(place.0.path());
        if verb == "run" {
            command.args(["--matrix", "m.toml", "--out", "out"]);
        } else {
            command.args(["--watch", "0.1s"]);
        }
        let output = command.output().unwrap();
        let text = format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(4), "{verb}: {text}");
        assert!(text.contains(expected), "{verb}: {text}");
        place.assert_left_clean();
    }
    assert!(!place.path("out").exists());
}
