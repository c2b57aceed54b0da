//! `fit`, `claims` and `history` on a run that is kept in the repository, from the command line.

#![allow(clippy::unwrap_used)] // Reason: the functions that tests share are no tests to clippy.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn reports() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../reports")
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aufs-bench")).args(arguments).current_dir(reports()).output().unwrap()
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let output = bench(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_kept_run_has_the_shapes_that_are_known() {
    let fits = json(&["fit", "ratios-ext4-2026-11", "--json"]);
    let of = |driver: &str, options: &str| {
        fits.iter()
            .find(|it| it["driver"] == driver && it["options"] == options && it["model"] == "copy-up")
            .unwrap()
    };
    // Of 4 KiB, 1 MiB and 128 MiB the size decides at two only where nothing is synced.
    for (driver, options, least, dominated) in [
        ("overlayfs", "default", 0.80, false),
        ("overlayfs", "volatile", 0.94, true),
        ("fuse-overlayfs", "default", 0.85, false),
    ] {
        let exponent = &of(driver, options)["exponent"];
        let value = exponent["value"].as_f64().unwrap();
        assert!((least..1.05).contains(&value), "a whole copy: {driver} {options} {exponent}");
        assert_eq!(exponent["dominated"], dominated, "{driver} {options}");
        assert!(exponent["interval"]["low"].as_f64().unwrap() <= value);
    }
    let plain = of("plain", "default");
    assert!(plain["exponent"]["value"].as_f64().unwrap() < 0.4, "nothing is copied: {plain}");
    let fixed = |options: &str| of("overlayfs", options)["cost"]["fixed_ns"].as_f64().unwrap();
    assert!(3.0 * fixed("volatile") < fixed("default"), "the sync of each copy");
    assert_eq!(of("overlayfs", "default")["absolute"]["fixed_ns"], Value::Null, "one session");
}

#[test]
fn what_does_not_vary_is_not_fitted_and_named() {
    let refused = bench(&["fit", "transports-2026-11"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("copy-up has one size (4 KiB) and one layer (8)"), "{said}");
    assert!(said.contains("needs two sizes or two layers"), "{said}");
}

#[test]
fn claims_on_a_kept_run_say_yes_no_and_why_not() {
    let rows = json(&["claims", "ratios-ext4-2026-11", "--json"]);
    let verdict = |claim: &str, driver: &str| {
        let row = rows.iter().find(|it| it["claim"] == claim && it["driver"] == driver).unwrap();
        row["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("C1", "overlayfs"), "supported");
    assert_eq!(verdict("C6", "overlayfs"), "supported");
    assert_eq!(verdict("C7", "overlayfs"), "undecided");
    let text = String::from_utf8(bench(&["claims", "ratios-ext4-2026-11"]).stdout).unwrap();
    assert!(text.contains("whole file is copied") && text.contains("no cells of page-cache"), "{text}");
}

#[test]
fn histories_show_lines_and_refuse_unlike_machines() {
    let allowed = bench(&["history", "ext4-2026-11", "ratios-ext4-2026-11"]);
    let text = String::from_utf8(allowed.stdout).unwrap();
    assert_eq!(allowed.status.code(), Some(0));
    assert!(text.contains("2 runs") && text.contains("× copy-up of plain"), "{text}");
    assert!(text.contains("needs 10 runs"), "{text}");
    let refused = bench(&["history", "ratios-ext4-2026-11", "transports-2026-11"]);
    assert_eq!(refused.status.code(), Some(4));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("host-a") && said.contains("vm-2-cpus") && said.contains("--allow"), "{said}");
}
