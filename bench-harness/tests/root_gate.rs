//! Whole gates by the binary: verdicts, exit codes, what lies on disk, and that nothing stays behind.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::is_root;
use common::place::Place;

/// An image of ext4, where overlayfs syncs each copy unless it is volatile: a ratio far above any noise. The look is so
/// strict that no run of these tests will see a false alarm.
const MATRIX: &str = r#"
name = "tiny"
budget = "60s"
blocks_max = 1
backing = ["loop:ext4"]

[gate]
pairs = 2
looks = ["14:0.0002"]

[[driver]]
name = "overlayfs"

[[group]]
models = ["copy-up", "lookup"]
found_at = [2]
files = 2
"#;

impl Place {
    fn any_gate(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench(&["gate"]);
        command.args(arguments);
        for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "AUFS_BIN"] {
            command.env_remove(name);
        }
        command
    }

    fn gate(&self, base: &str, head: &str, arguments: &[&str]) -> Command {
        let mut command = self.any_gate(&["--base", base, "--head", head, "--matrix", "m.toml"]);
        command.args(["--backing", "scratch", "--out", "out", "--seed", "7"]).args(arguments);
        command
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}\n{err}")
}

#[test]
fn mistakes_have_their_line_and_never_the_code_of_a_regression() {
    let place = Place::new(MATRIX);
    let (base, fuse) = ("driver=overlayfs", "driver=aufs-fuse,bin=/nowhere/aufs");
    for (head, arguments, code, expected) in [
        ("driver=overlay", &[][..], 2, "did you mean \"overlayfs\"?"),
        ("driver=overlayfs,options=volatil", &[], 2, "did you mean \"volatile\"?"),
        ("driver=overlayfs,bim=x", &[], 2, "did you mean \"bin\"?"),
        ("driver=overlayfs,bin=/b/aufs", &[], 2, "bin= is for drivers"),
        (base, &["--cell", "copyup-4K-2-fresh"], 2, "did you mean \"copy-up-4K-2-fresh-loop:ext4\"?"),
        (base, &["--looks", "3:0.01"], 2, "can never"),
        (base, &["--looks", "3"], 2, "not a look"),
        (base, &["--limit", "10"], 2, "not a percentage"),
        (base, &["--inject", "10%@["], 2, "no glob"),
        (base, &["--inject", "10%@creat*"], 2, "hits no cell"),
        (base, &["--inject", "copy-fsync@lookup-*"], 2, "hits no cell that copies a file up"),
        (base, &["--matrix", "none.toml"], 2, "none.toml"),
        (fuse, &[], 4, "/nowhere/aufs: No such file"),
    ] {
        // clap takes the last of an option that is given twice only where it is told to: so the matrix is left out.
        let mut command = if arguments.first() == Some(&"--matrix") {
            place.any_gate(&["--base", base, "--head", head])
        } else {
            place.gate(base, head, &[])
        };
        let output = command.args(arguments).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{head} {arguments:?}: {text}");
        // Hosts that give no namespaces refuse even before an arm is looked at.
        assert!(text.contains(expected) || (code == 4 && text.contains("unshare")), "{head}: {text}");
    }
    // A driver that is described is known before cells are chosen.
    let mine = "[[command]]\nname = \"mine\"\nmount = [\"true\", \"{lowers}\", \"{target}\"]\n";
    fs::write(place.path("d.toml"), mine).unwrap();
    for (file, expected) in [("d.toml", "cell \"none\""), ("none.toml", "none.toml")] {
        let mut command = place.gate("driver=mine", "driver=mine", &["--cell", "none", "--drivers", file]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    assert_eq!(place.any_gate(&["report", "nowhere"]).output().unwrap().status.code(), Some(5));
    assert_eq!(place.any_gate(&[]).output().unwrap().status.code(), Some(2));
}

#[test]
fn root_a_slow_down_fails_and_its_reverse_passes() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let (slow, fast) = ("driver=overlayfs", "driver=overlayfs,options=volatile");
    let mut command = place.gate(fast, slow, &["--junit", "j.xml"]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", place.path("summary.md"));
    let output = command.output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let annotation = "::error title=gate%3A copy-up-4K-2-fresh-loop%3Aext4::slower: ";
    for expected in ["SLOWER", "FAIL: slower by more than 3%, after 14 blocks: copy-up-4K-2", annotation] {
        assert!(text.contains(expected), "lacks {expected}: {text}");
    }
    place.assert_left_clean();

    assert_eq!(place.read("summary.md"), place.read("out/gate.md"));
    assert_eq!(place.read("j.xml"), place.read("out/junit.xml"));
    let report = quick_junit::Report::deserialize_from_str(&place.read("j.xml")).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (2, 1, 0));
    let metrics = place.read("out/metrics.txt");
    assert!(metrics.contains("aufs_bench_gate_exit_code 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    let json: serde_json::Value = serde_json::from_str(&place.read("out/gate.json")).unwrap();
    assert_eq!((json["verdict"].as_str(), json["exit_code"].as_u64()), (Some("FAIL"), Some(1)));
    assert!(1.1 < json["cells"][0]["low"].as_f64().unwrap_or(2.0), "{json}");
    let page = place.read("out/gate.html");
    assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("href=\"http"), "one file");

    // Fourteen blocks of two cells and two pairs; both orders occur.
    let pairs = place.read("out/pairs.jsonl");
    assert_eq!(pairs.matches("\"type\":\"pair\"").count(), 14 * 2 * 2);
    assert!(pairs.contains("\"first\":\"base\"") && pairs.contains("\"first\":\"head\""));

    // The verdict follows from the pairs, and from no others.
    let again = place.any_gate(&["report", "out"]).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    fs::write(place.path("out/pairs.jsonl"), pairs.replace("\"head_ns\":", "\"head_ns\":1")).unwrap();
    let tampered = place.any_gate(&["report", "out"]).output().unwrap();
    assert_eq!(tampered.status.code(), Some(5), "{}", said(&tampered));
    assert!(said(&tampered).contains("does not follow from the pairs"), "{}", said(&tampered));
    let passed = pairs.replace("\"ending\":\"fail\"", "\"ending\":\"pass\"");
    fs::write(place.path("out/pairs.jsonl"), passed).unwrap();
    let tampered = place.any_gate(&["report", "out"]).output().unwrap();
    assert_eq!(tampered.status.code(), Some(5), "{}", said(&tampered));
    assert!(said(&tampered).contains("its end does not follow"), "{}", said(&tampered));

    fs::remove_dir_all(place.path("out")).unwrap();
    let output = place.gate(slow, fast, &["--cell", "copy-up-*", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (json["verdict"].as_str(), json["cells"][0]["said"].as_str()),
        (Some("PASS"), Some("improved"))
    );
    let twice = place.gate(slow, fast, &[]).output().unwrap();
    assert_eq!(twice.status.code(), Some(2), "a gate is not overwritten: {}", said(&twice));
    place.assert_left_clean();
}

/// What a gate of `arm` against itself says that finds the slow-down `inject`.
fn slowed_down(place: &Place, arm: &str, inject: &str, arguments: &[&str]) -> String {
    let output = place.gate(arm, arm, &["--inject", inject]).args(arguments).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

#[test]
fn root_a_slow_down_made_on_purpose_is_found_confirmed_and_told() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs"));
    let text = slowed_down(&place, "driver=overlayfs", "900%@lookup-*", &["--confirm"]);
    assert!(text.contains("slowed down on purpose: 900%@lookup-*"), "{text}");
    assert!(text.contains("confirmation after 40 blocks"), "{text}");
    assert!(text.contains("3%, after 14 blocks: lookup-4K-2-fresh-tmpfs\n"), "only that cell: {text}");
    place.assert_left_clean();
}

#[test]
fn root_a_driver_that_begins_to_sync_its_copies_is_found() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    // A sync through this mount would do nothing; that of the copy itself waits for the disk.
    let text = slowed_down(&place, "driver=overlayfs,options=volatile", "copy-fsync", &[]);
    assert!(text.contains("slowed down on purpose: copy-fsync@*"), "{text}");
    assert!(text.contains("3%, after 14 blocks: copy-up-4K-2-fresh-loop:ext4\n"), "only that cell: {text}");
    place.assert_left_clean();
}

#[test]
fn root_undecided_is_three_or_a_warning() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs"));
    let same = "driver=overlayfs";
    // No noise is so small that fourteen blocks clear a limit just above the margin.
    let narrow = ["--margin", "0.001%", "--limit", "0.002%"];
    let strict = place.gate(same, same, &narrow).env("GITHUB_ACTIONS", "true").output().unwrap();
    assert_eq!(strict.status.code(), Some(3), "{}", said(&strict));
    assert!(said(&strict).contains("::error title=gate"), "{}", said(&strict));
    let report = quick_junit::Report::deserialize_from_str(&place.read("out/junit.xml")).unwrap();
    assert_eq!((report.tests, report.failures), (2, 0));
    fs::remove_dir_all(place.path("out")).unwrap();
    let mut lenient = place.gate(same, same, &narrow);
    let lenient = lenient.args(["--on-inconclusive", "warn"]).env("GITHUB_ACTIONS", "true").output().unwrap();
    assert_eq!(lenient.status.code(), Some(0), "{}", said(&lenient));
    assert!(said(&lenient).contains("::warning title=gate"), "{}", said(&lenient));
    fs::remove_dir_all(place.path("out")).unwrap();
    let late = place.gate(same, same, &["--looks", "400:0.01", "--budget", "0.1s"]).output().unwrap();
    assert_eq!(late.status.code(), Some(3), "{}", said(&late));
    assert!(said(&late).contains("the budget ended after"), "{}", said(&late));
    place.assert_left_clean();
}

/// An `aufs` command that shows the lowest layer itself, so that writes land in the layer.
const LIAR: &str = r#"#!/bin/sh
case $1 in
--version) echo 'aufs of a liar' ;;
mount) lowest=${3##*:}; for target; do :; done; exec mount --bind "${lowest%=*}" "$target" ;;
umount) exec umount "$2" ;;
esac
"#;

#[test]
fn root_a_wrong_result_is_no_verdict() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs").replace("found_at = [2]", "found_at = [1]"));
    let liar = format!("driver=aufs-fuse,bin={}", place.script("liar", LIAR));
    let output = place.gate(&liar, &liar, &[]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("no copy on the writable branch"), "{text}");
    assert!(text.contains("aufs of a liar"), "arms are named by the version of their program: {text}");
    let report = quick_junit::Report::deserialize_from_str(&place.read("out/junit.xml")).unwrap();
    assert_eq!((report.errors, report.failures), (1, 0));
    place.assert_left_clean();
}

#[test]
fn root_a_program_that_hangs_is_ended_and_no_verdict() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs").replace("\"copy-up\", ", ""));
    // The trials go well; a mount of some block does not come back.
    let hanging =
        LIAR.replace("mount) ", "mount) echo >>mounts; [ $(wc -l <mounts) -lt 10 ] || exec sleep 1000; ");
    let hanging = format!("driver=aufs-fuse,bin={}", place.script("hanging", &hanging));
    let output = place.gate(&hanging, &hanging, &["--mount-timeout", "0.5s"]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("no answer in"), "{text}");
    place.assert_left_clean();
}

#[test]
fn root_an_interrupted_gate_keeps_its_pairs() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs"));
    let same = "driver=overlayfs";
    let mut command = place.gate(same, same, &["--looks", "400:0.01"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let written = || fs::read_to_string(place.path("out/pairs.jsonl")).unwrap_or_default();
    while !written().contains("\"type\":\"block\"") {
        assert!(start.elapsed() < Duration::from_secs(60), "no block was written");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    place.assert_left_clean();
    let pairs = written();
    assert!(
        pairs.contains("\"type\":\"pair\"")
            && pairs.ends_with("{\"type\":\"end\",\"ending\":\"interrupted\"}\n")
    );
    let again = place.any_gate(&["report", "out"]).output().unwrap();
    assert_eq!(again.status.code(), Some(130), "{}", said(&again));
}

#[test]
fn root_live_trials_are_counted() {
    if !is_root() {
        return;
    }
    let place = Place::new(&MATRIX.replace("loop:ext4", "tmpfs"));
    let tally = "{\"schema\":1,\"started_at\":\"\",\"label\":\"\",\"kernel\":\"\",\"arm\":\"\",\"matrix\":\"\",\"seed\":1,\
                 \"inject\":null,\"ending\":\"pass\",\"blocks\":20,\"samples\":20,\"elapsed_ms\":1}\n";
    fs::write(place.path("tally"), tally).unwrap();
    let mut command =
        place.any_gate(&["selftest", "--live", "1", "--base", "driver=overlayfs", "--matrix", "m.toml"]);
    // Far above any noise.
    command.args([
        "--inject",
        "900%@lookup-*",
        "--tally",
        "tally",
        "--backing",
        "scratch",
        "--looks",
        "14:0.0002",
    ]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("same: 0/2 false alarms") && text.contains("slowed down: 1/1 found"), "{text}");
    assert_eq!(place.read("tally").lines().count(), 3);
    place.assert_left_clean();
}
