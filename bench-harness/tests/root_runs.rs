//! Whole runs of the binary: what lies on disk afterwards, and that nothing stays behind.
//!
//! They mount overlayfs, hence need root.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::is_root;
use common::place::Place;

const MATRIX: &str = r#"
name = "small"
budget = "60s"
blocks_max = 3

[[driver]]
name = "plain"

[[driver]]
name = "vfs"

[[driver]]
name = "overlayfs"

[[driver]]
name = "aufs-kernel"

[[group]]
models = ["copy-up", "chmod", "second-write"]
sizes = ["4K", "300K"]
found_at = [1, 3]
files = 4

[[group]]
models = ["lookup", "lookup-missing"]
found_at = [3]
cache = ["fresh", "hot"]
dir_depth = [1, 4]
files = 3

[[group]]
models = ["mount"]
found_at = [3]
files = 1
"#;

/// What verbs other than `run` are told of a place.
const MATRIX_AND_BACKING: [&str; 4] = ["--matrix", "m.toml", "--backing", "scratch"];

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Rows of a CSV file, each as pairs of column and value.
fn rows(path: &Path) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn root_a_run_writes_every_file_and_leaves_nothing_mounted() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let said = stdout(&place.run(&["--seed", "7"]));
    let last = said.lines().last().unwrap();
    assert_eq!(last, "out/report.html");
    place.assert_left_clean();

    let header = fs::read_to_string(place.path("out/summary.csv")).unwrap();
    assert!(header.starts_with(
        "driver,options,model,backing,file_bytes,found_at,n_layers,dir_depth,cache,\
         n,p50_ns,p50_low_ns,p50_high_ns,p90_ns,p99_ns,max_ns,entries,p99_9_ns,threads\n"
    ));
    let header = fs::read_to_string(place.path("out/metrics.csv")).unwrap();
    assert!(header.starts_with(
        "driver,options,model,backing,file_bytes,found_at,n_layers,dir_depth,cache,metric,unit,n,p50,p50_low,p50_high,entries,threads\n"
    ));
    check_summary(&place);
    check_pictures(&place);
    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("aufs-kernel") && page.contains("Skipped"));
    for outside in ["http://", "https://"].map(|it| format!("=\"{it}")) {
        let links: Vec<&str> = page.matches(outside.as_str()).collect();
        let name_spaces = page.matches("xmlns=\"http://").count();
        assert!(links.len() <= name_spaces, "the page refers to the network");
    }
    let markdown = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(markdown.contains("| overlayfs |") && markdown.contains("(plots/copy-up-by-size.png)"));
    for name in ["host.json", "summary.json"] {
        let value: serde_json::Value =
            serde_json::from_slice(&fs::read(place.path("out").join(name)).unwrap()).unwrap();
        assert!(value.is_object(), "{name}");
    }
}

fn check_summary(place: &Place) {
    let rows = rows(&place.path("out/summary.csv"));
    // Three subjects with 12 file cells and 8 lookups, and mount for two of them; null and reference.
    assert_eq!(rows.len(), 3 * (12 + 8) + 2 + 2);
    let (yardsticks, rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|it| ["null", "reference"].contains(&it["model"].as_str()));
    let n: Vec<&str> = yardsticks.iter().map(|it| it["n"].as_str()).collect();
    assert_eq!(n, ["3000", "600"]);
    assert!(!yardsticks[0]["p99_ns"].is_empty(), "enough samples for p99 of null");
    for row in &rows {
        let n: usize = row["n"].parse().unwrap();
        let number = |name: &str| row[name].parse::<f64>().ok();
        assert!(n == 3 || n == 9 || n == 12, "three blocks of 1, 3 or 4 files: {row:?}");
        assert!(0.0 < number("p50_ns").unwrap() && number("p50_ns") <= number("max_ns"), "{row:?}");
        assert_eq!(number("p50_low_ns").is_some(), 6 <= n, "{row:?}");
        assert!(number("p90_ns").is_none() && number("p99_ns").is_none(), "too few samples: {row:?}");
    }
    let copied = |driver: &str| -> Vec<String> {
        let metrics = self::rows(&place.path("out/metrics.csv"));
        let own = metrics.iter().filter(|it| it["driver"] == driver && it["metric"] == "upper_bytes");
        own.filter(|it| it["file_bytes"] == "307200").map(|it| it["p50"].clone()).collect()
    };
    assert_eq!(copied("overlayfs").len(), 4, "copy-up and chmod at two layers");
    assert!(copied("overlayfs").iter().all(|it| it.parse::<f64>().unwrap() >= 307_200.0));
    assert!(copied("plain").is_empty(), "a plain directory copies nothing up");
}

fn check_pictures(place: &Place) {
    let mut n_pictures = 0;
    for entry in fs::read_dir(place.path("out/plots")).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        match entry.path().extension().and_then(|it| it.to_str()) {
            Some("png") => {
                let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
                let white = picture.pixels().filter(|it| it.0 == [255; 3]).count();
                let share = white as f64 / f64::from(picture.width() * picture.height());
                assert!((0.3..0.99).contains(&share), "{:?}: {share} is white", entry.path());
                n_pictures += 1;
            }
            Some("svg") => {
                let text = String::from_utf8(bytes).unwrap();
                assert!(
                    text.starts_with("<svg") && text.trim_end().ends_with("</svg>"),
                    "{:?}",
                    entry.path()
                );
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    let names = ["copy-up-by-size", "copy-up-by-layer", "copy-up-heat"];
    assert!(names.iter().all(|it| place.path("out/plots").join(format!("{it}.png")).is_file()));
    assert!(names.len() <= n_pictures);
}

#[test]
fn root_reports_are_made_again_from_samples_alone() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    stdout(&place.run(&["--driver", "plain", "--driver", "overlayfs"]));
    let before = fs::read(place.path("out/summary.csv")).unwrap();
    let samples = fs::read(place.path("out/samples.jsonl")).unwrap();
    fs::remove_dir_all(place.path("out")).unwrap();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/samples.jsonl"), samples).unwrap();
    stdout(&place.bench(&["report", "out"]).output().unwrap());
    assert_eq!(fs::read(place.path("out/summary.csv")).unwrap(), before);

    // A kept run has neither the host's name nor any path, and can be reported again too.
    let keep = place.bench(&["keep", "out", "mine", "--label", "host-x"]).output().unwrap();
    assert_eq!(stdout(&keep).trim(), "reports/mine/report.html");
    assert_eq!(fs::read(place.path("reports/mine/summary.csv")).unwrap(), before);
    let here = place.0.path().to_str().unwrap();
    for name in ["host.json", "summary.json", "report.md", "report.html"] {
        let text = fs::read_to_string(place.path("reports/mine").join(name)).unwrap();
        assert!(!text.contains(here), "{name} has a path of this machine");
        assert!(text.contains("host-x"), "{name} has no label");
    }
    stdout(&place.bench(&["report", "reports/mine"]).output().unwrap());
    let again = place.bench(&["keep", "out", "mine"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a kept run is not overwritten");

    stdout(&place.bench(&["keep", "out", "small", "--small"]).output().unwrap());
    let plots: Vec<_> = fs::read_dir(place.path("reports/small/plots")).unwrap().flatten().collect();
    assert!(!plots.is_empty() && plots.iter().all(|it| it.path().extension().unwrap() == "svg"));
    assert!(!place.path("reports/small/summary.json").exists());
    let text = fs::read_to_string(place.path("reports/small/report.md")).unwrap();
    assert!(text.contains(".svg)") && !text.contains(".png)"), "its pictures are those that are there");
}

#[test]
fn root_saved_runs_of_one_machine_can_be_compared() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    for name in ["before", "after"] {
        let output = place
            .bench(
                &[&["run", "--out", name, "--driver", "plain", "--save", name], &MATRIX_AND_BACKING[..]]
                    .concat(),
            )
            .output()
            .unwrap();
        stdout(&output);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("saved as target/bench/saved/{name}")), "{said}");
        fs::remove_dir_all(place.path(name)).unwrap();
    }
    let again = place.run(&["--driver", "plain", "--save", "before"]);
    assert_eq!(again.status.code(), Some(2), "a saved run is not overwritten");
    assert!(!place.path("out").exists(), "and that is said before anything is measured");
    let text = stdout(&place.bench(&["compare", "before", "after"]).output().unwrap());
    assert!(
        text.contains("after against before") && text.contains("Of 22 cells with numbers in both"),
        "{text}"
    );
    place.assert_left_clean();
}

/// Cell indices and files of all samples that count, by block.
fn sampled(place: &Place) -> Vec<std::collections::BTreeSet<(u64, u64)>> {
    let text = fs::read_to_string(place.path("out/samples.jsonl")).unwrap();
    let mut blocks = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap();
        match record["type"].as_str().unwrap() {
            "block-start" => {
                blocks.truncate(usize::try_from(number("block")).unwrap());
                blocks.push(std::collections::BTreeSet::new());
            }
            "sample" => assert!(blocks.last_mut().unwrap().insert((number("cell"), number("file")))),
            _ => {}
        }
    }
    blocks
}

/// Starts a run and waits until it has written `wanted`.
fn start_until(place: &Place, wanted: &str) -> std::process::Child {
    let mut command = place.command(&["--seed", "3"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while !fs::read_to_string(place.path("out/samples.jsonl")).unwrap_or_default().contains(wanted) {
        assert!(start.elapsed() < Duration::from_secs(60), "never wrote {wanted}");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn many_blocks() -> String {
    MATRIX.replace("blocks_max = 3", "blocks_max = 12")
}

#[test]
fn root_an_interrupted_run_is_whole_and_can_be_resumed() {
    if !is_root() {
        return;
    }
    let place = Place::new(&many_blocks());
    let child = start_until(&place, "\"block\":1");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{:?}", output.status.signal());
    place.assert_left_clean();
    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains("interrupted"), "the report says so");
    assert!(!rows(&place.path("out/summary.csv")).is_empty());

    stdout(&place.run(&["--resume"]));
    let blocks = sampled(&place);
    assert_eq!(blocks.len(), 12);
    assert!(blocks.iter().all(|it| *it == blocks[0]), "each block has every cell and file once");
    place.assert_left_clean();
}

#[test]
fn root_a_killed_run_can_be_resumed() {
    if !is_root() {
        return;
    }
    let place = Place::new(&many_blocks());
    let mut child = start_until(&place, "\"block\":2");
    child.kill().unwrap();
    child.wait().unwrap();
    let scratch = fs::read_dir(place.path("scratch")).unwrap().flatten();
    for left in scratch.map(|it| it.path()) {
        // The mounts died with their namespace; what is left are plain directories.
        fs::remove_dir_all(left).unwrap();
    }
    place.assert_left_clean();
    stdout(&place.run(&["--resume"]));
    let blocks = sampled(&place);
    assert_eq!(blocks.len(), 12);
    assert!(blocks.iter().all(|it| *it == blocks[0]), "each block has every cell and file once");
}

#[test]
fn root_a_run_is_continued_only_where_it_was_begun() {
    if !is_root() {
        return;
    }
    let place =
        Place::new(&MATRIX.replace("blocks_max = 3", "blocks_max = 1\nbacking = [\"dir\", \"tmpfs\"]"));
    stdout(&place.run(&["--driver", "plain"]));
    let unknown = place.run(&["--resume", "--versus", "overlayfs"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(2), "the matrix has it, the run has not: {said}");
    let path = place.path("out/samples.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [(i32, &str, Change); 4] = [
        (0, "", |_| {}),
        (4, "kernel: 0.0.1 | ", |it| it["host"]["kernel"] = "0.0.1".into()),
        (4, "backings.dir.fs_type: xyz | ", |it| it["host"]["backings"][0]["fs_type"] = "xyz".into()),
        (2, "layer 0 is outside 1 to 400", |it| it["cells"][0]["found_at"] = 0.into()),
    ];
    for (code, expected, change) in changes {
        let mut header = header.clone();
        change(&mut header);
        fs::write(&path, format!("{header}\n{rest}")).unwrap();
        let output = place.run(&["--resume"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
        place.assert_left_clean();
    }
}

#[test]
fn root_loop_images_and_tmpfs_leave_nothing() {
    if !is_root() {
        return;
    }
    let small = MATRIX.replace("blocks_max = 3", "blocks_max = 1\nbacking = [\"loop:ext4\", \"tmpfs\"]");
    let place = Place::new(&small);
    stdout(&place.run(&[]));
    place.assert_left_clean();
    let backings: std::collections::BTreeSet<String> =
        rows(&place.path("out/summary.csv")).into_iter().map(|it| it["backing"].clone()).collect();
    assert_eq!(backings.into_iter().collect::<Vec<_>>(), ["loop:ext4", "tmpfs"]);
}

#[test]
fn root_lists_have_the_promised_shape() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let text =
        stdout(&place.bench(&[&["list", "--json"], &MATRIX_AND_BACKING[..]].concat()).output().unwrap());
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&list), ["cells", "drivers", "models"]);
    assert_eq!(list["cells"], 4 * (12 + 8 + 1) + 2);
    for driver in list["drivers"].as_array().unwrap() {
        assert_eq!(keys(driver), ["available", "name", "options", "reason", "version"]);
        assert_eq!(driver["available"].as_bool().unwrap(), driver["reason"].is_null());
    }
    place.assert_left_clean();
}

#[test]
fn root_verify_says_what_is_right() {
    if !is_root() {
        return;
    }
    let place = Place::new(MATRIX);
    let said = stdout(&place.bench(&[&["verify"], &MATRIX_AND_BACKING[..]].concat()).output().unwrap());
    assert!(said.contains("overlayfs") && said.contains("21 right, 0 wrong"), "{said}");
    assert!(said.contains("layers unchanged"), "{said}");
    place.assert_left_clean();
}

/// An `aufs` command that shows the lowest layer itself, so that writes land in the layer.
const LIAR: &str = r#"#!/bin/sh
case $1 in
mount) lowest=${3##*:}; for target; do :; done; exec mount --bind "${lowest%=*}" "$target" ;;
umount) exec umount "$2" ;;
esac
"#;

#[test]
fn root_a_driver_that_writes_into_layers_is_caught() {
    if !is_root() {
        return;
    }
    let matrix = "name = \"liar\"\nbudget = \"60s\"\nblocks_max = 2\n[[driver]]\nname = \"plain\"\n\
                  [[driver]]\nname = \"aufs-fuse\"\n[[group]]\nmodels = [\"copy-up\", \"lookup\"]\n\
                  found_at = [1]\nfiles = 8\n";
    let place = Place::new(matrix);
    let liar = place.script("liar", LIAR);
    let output = place.run_with(&[], &[("AUFS_BIN", &liar)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    place.assert_left_clean();

    let rows = rows(&place.path("out/summary.csv"));
    let of = |driver: &str, model: &str| {
        rows.iter().find(|it| it["driver"] == driver && it["model"] == model).unwrap().clone()
    };
    let wrong = of("aufs-fuse", "copy-up");
    assert_eq!((wrong["n"].as_str(), wrong["p50_ns"].as_str()), ("0", ""), "an error has no numbers");
    assert_eq!(of("plain", "copy-up")["n"], "16", "the others keep theirs");
    assert_eq!(of("aufs-fuse", "lookup")["n"], "16", "reading was right");
    let page = fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains("no copy on the writable branch"), "the error is in the report");
    assert!(page.contains("A driver wrote into a layer"), "and so is the damage");
}
