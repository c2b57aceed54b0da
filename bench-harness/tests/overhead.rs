//! `overhead`: the harness beside a program that does the same.

#![allow(clippy::unwrap_used)] // Reason: the functions that tests share are no tests to clippy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn overhead(dir: &Path, peer: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aufs-bench"));
    command.arg("overhead").arg("--peer").arg(peer).args(["--backing", "scratch", "--blocks", "6"]);
    command.args(["--samples", "200"]).args(arguments).current_dir(dir).output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned()).concat()
}

#[test]
fn both_sides_are_told_and_nothing_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/reference.c");
    let program = dir.path().join("reference");
    let built = Command::new("cc").arg("-o").arg(&program).arg(source).status();
    if built.is_err() {
        println!("skipped: needs a C compiler");
        return;
    }
    assert!(built.unwrap().success(), "tools/reference.c does not compile");
    let output = overhead(dir.path(), &program, &["--seed", "4"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for expected in ["reference by the harness", "reference by the program", "ratio, paired by block", "p99"]
    {
        assert!(text.contains(expected), "{text}");
    }
    let ratio = text.lines().find(|it| it.starts_with("ratio")).unwrap();
    // Three numbers: the ratio and the ends of its interval. No claim about speed.
    let numbers: Vec<f64> =
        ratio.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|it| it.parse().ok()).collect();
    assert!(numbers.len() == 3 && numbers[1] <= numbers[0] && numbers[0] <= numbers[2], "{ratio}");
    assert!(fs::read_dir(dir.path().join("scratch")).unwrap().next().is_none(), "scratch files stay behind");
}

#[test]
fn programs_that_do_something_else_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, body, expected) in [
        ("few", "echo 5", "printed 1 times instead of 200"),
        ("words", "echo fast", "printed \"fast\", no time in ns"),
        ("fails", "echo broken >&2; exit 3", "broken (exit status: 3)"),
    ] {
        let program = dir.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let output = overhead(dir.path(), &program, &[]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        assert!(said(&output).contains(expected), "{name}: {}", said(&output));
    }
    let output = overhead(dir.path(), Path::new("/nowhere/program"), &[]);
    assert!(said(&output).contains("/nowhere/program"), "{}", said(&output));
}
