//! `compare` and `export` of runs that were made up, so that every number is known.

#![allow(clippy::unwrap_used)] // Reason: the functions that tests share are no tests to clippy.

mod made;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use made::Made;

fn bench(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aufs-bench")).args(arguments).current_dir(dir).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory with runs: `a`, `b` twice as slow, `other` with another kernel.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, made) in [
        ("a", Made::default()),
        ("target/bench/saved/b", Made { factor: 2.0, ..Made::default() }),
        ("failed", Made { blocks: 0, ..Made::default() }),
        ("other", Made { kernel: "6.2.0", ..Made::default() }),
    ] {
        made::write(&dir.path().join(name), &made);
    }
    dir
}

#[test]
fn ratios_of_two_runs_are_told_with_their_limits() {
    let place = place();
    let text = stdout(&bench(place.path(), &["compare", "a", "b"]));
    assert!(text.starts_with("Not interleaved: "), "{text}");
    assert!(
        text.contains("Of 20 cells with numbers in both, b is faster than a in 0, slower in 20"),
        "{text}"
    );
    assert!(text.contains("b: it failed"), "the failed cell has no ratio");

    let json = stdout(&bench(place.path(), &["compare", "a", "b", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["interleaved"], &json["base"]), (&false.into(), &"a".into()));
    let cells = json["heads"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 20);
    for cell in cells {
        let ratio = |what: &str, bound: &str| cell[what][bound].as_f64().unwrap();
        assert!((ratio("ratio", "estimate") - 2.0).abs() < 0.01, "{cell}");
        assert!(ratio("ratio", "low") <= 2.0 && 2.0 <= ratio("ratio", "high"), "{cell}");
        if cell["driver"] != "plain" {
            assert_eq!(cell["anchor"], "plain");
            assert!(
                (ratio("ratio_to_anchor", "estimate") - 1.0).abs() < 0.01,
                "a slower machine cancels: {cell}"
            );
        }
    }
    let markdown = stdout(&bench(place.path(), &["compare", "a", "b", "a", "--format", "md"]));
    assert!(
        markdown.contains("| b ÷ a |") && markdown.contains("aufs-bench compare --format md a b a"),
        "{markdown}"
    );
    stdout(&bench(place.path(), &["compare", "a", "b", "--format", "html", "--out", "c.html"]));
    let page = fs::read_to_string(place.path().join("c.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("b against a") && page.contains("Not interleaved"));
}

#[test]
fn unlike_machines_are_refused_unless_allowed() {
    let place = place();
    let output = bench(place.path(), &["compare", "a", "other"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("differs: kernel: 6.1.0 | 6.2.0") && said.contains("--allow"), "{said}");
    assert!(output.stdout.is_empty(), "no number of a refused comparison");
    let allowed = stdout(&bench(place.path(), &["compare", "a", "other", "--allow"]));
    assert!(
        allowed.contains("Unlike machines: kernel is \"6.1.0\" in a and \"6.2.0\" in other."),
        "{allowed}"
    );
}

#[test]
fn what_is_no_run_is_named() {
    let place = place();
    made::write(&place.path().join("new"), &Made::default());
    let path = place.path().join("new/samples.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"schema\":1", "\"schema\":99", 1)).unwrap();
    for (arguments, code, expected) in [
        (vec!["compare", "a"], 2, "2 values required"),
        (vec!["compare", "a", "bb"], 2, "did you mean \"b\"?"),
        (vec!["compare", "a", "new"], 1, "version"),
        (vec!["compare", "a", "failed"], 2, "no cell has numbers both here and in a"),
        (vec!["export", "a"], 2, "--csv"),
        (vec!["export", "a", "--csv", "--json"], 2, "cannot be used with"),
        (vec!["export", "a", "--openmetrics", "-", "--versus", "overlay"], 2, "did you mean \"overlayfs\"?"),
        (vec!["export", "nowhere", "--csv"], 1, "nowhere"),
        (vec!["report", "a", "--versus", "volatile"], 2, "unknown driver"),
    ] {
        let output = bench(place.path(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn every_format_is_written() {
    let place = place();
    let export = |arguments: &[&str]| stdout(&bench(place.path(), &[&["export", "a"], arguments].concat()));
    assert_eq!(export(&["--csv"]).lines().count(), 1 + 21);
    assert!(serde_json::from_str::<serde_json::Value>(&export(&["--json"])).unwrap()["cells"].is_array());
    assert!(
        export(&["--markdown"]).contains("takes ") && export(&["--openmetrics", "-"]).ends_with("# EOF\n")
    );
    assert_eq!(export(&["--benchstat", "b.txt"]), "");
    let text = fs::read_to_string(place.path().join("b.txt")).unwrap();
    assert_eq!(text.lines().filter(|it| it.starts_with("Benchmark")).count(), 20 * 12);
    let paths = export(&["--hdr", "logs"]);
    assert_eq!(paths.lines().count(), 20);
    for path in paths.lines() {
        assert!(fs::read_to_string(place.path().join(path)).unwrap().contains("#[StartTime: "), "{path}");
    }
    // The summary of `report` is on stderr; stdout ends with the path.
    let output = bench(place.path(), &["report", "a"]);
    assert_eq!(stdout(&output), "a/report.html\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("time as a ratio to overlayfs") && said.contains("copy-up"), "{said}");
    assert!(said.is_ascii(), "plain where nobody looks: {said}");
}
