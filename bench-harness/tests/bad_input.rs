//! Wrong command lines and wrong hosts: one line that names the thing, and a documented exit code.

use std::process::Command;

#[test]
fn each_mistake_has_its_line_and_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, "name = \"w\"\nbudgt = \"1s\"\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    std::fs::create_dir(dir.path().join("newer")).unwrap();
    std::fs::write(dir.path().join("newer/samples.jsonl"), "{\"type\":\"header\",\"schema\":9}\n").unwrap();
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/a file"), "").unwrap();
    std::fs::write(dir.path().join("trace.csv"), "1,0,1,4K,500\n2,0,1,4K,fast\n").unwrap();
    for (arguments, code, expected) in [
        (&["run", "--matrix", wrong][..], 2, "line 2: unknown key \"budgt\""),
        (&["run", "--matrix", "qick"], 2, "did you mean \"quick\"?"),
        (&["run", "--matrix", "none.toml"], 1, "none.toml"),
        (&["run", "--driver", "overlay"], 2, "did you mean \"overlayfs\"?"),
        (&["run", "--matrix", "quick", "--driver", "reflink"], 2, "matrix quick does not have it"),
        (&["run", "--budget", "soon"], 2, "\"soon\" is not a duration"),
        (&["run", "--budget", "1e20"], 2, "\"1e20\" is longer than thirty years"),
        (&["run", "--mount-timeout", "1e19s"], 2, "longer than thirty years"),
        (&["run", "--resume"], 2, "--out"),
        (&["report", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["keep", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["fit", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["claims", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["history", "nowhere"], 1, "nowhere"),
        (&["history"], 2, "<DIRS>"),
        (&["verify", "--matrix", "quick", "--backing", "a,b"], 2, "has ','"),
        (&["run", "--matrix", "quick", "--set", "group.0.filse=1"], 2, "did you mean \"files\"?"),
        (&["run", "--matrix", "quick", "--set", "budget"], 2, "expected key=value"),
        (&["run", "--matrix", "quick", "--precision", "tight"], 2, "\"tight\" is not a share"),
        (&["run", "--matrix", "quick", "--sessions", "0"], 2, "0 sessions is outside 1 to 100"),
        (&["run", "--matrix", "quick", "--rate", "0"], 2, "outside 0.001"),
        (&["run", "--matrix", "quick", "--set", "group.*.files=4096"], 2, "samples in a block: give --yes"),
        (
            &["run", "--matrix", "quick", "--set", "group.0.sizes=4G"],
            2,
            "are free for the layers: give --yes",
        ),
        (&["run", "--matrix", "quick", "--resume", "--out", "x", "--set", "sessions=2"], 2, "--set"),
        (
            &["report", "newer"],
            1,
            "schema 9, but this aufs-bench reads 1 to 2; use the version that measured it",
        ),
        (&["run", "--matrix", "quick", "--out", "full"], 2, "it is not empty: \"a file\" lies there"),
        (&["run", "--matrix", "quick", "--out", "newer"], 2, "continue it with --resume"),
        (&["run", "--matrix", "quick", "--out", "wrong.toml/out"], 2, "give another --out"),
        (&["run", "--matrix", "quick", "--out", "/proc/out"], 2, "give another --out"),
        (&["schema", "sample"], 2, "samples"),
        (&["gate", "selftest", "--pairs", "16"], 2, "--live"),
        (&["gate", "selftest", "--quick", "--matrix", "mine.toml"], 2, "--live"),
        (&["gate", "selftest", "--replay", "none.csv"], 5, "none.csv"),
        (
            &["gate", "selftest", "--replay", "trace.csv"],
            2,
            "line 2: elapsed_ns \"fast\" is not a whole number",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_aufs-bench"))
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_second_bench_in_a_backing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backing = dir.path().join("scratch");
    std::fs::create_dir(&backing).unwrap();
    let open = std::fs::File::open(&backing).unwrap();
    let lock = nix::fcntl::Flock::lock(open, nix::fcntl::FlockArg::LockExclusive).unwrap();
    for (verb, code) in [("run", 4), ("verify", 4), ("doctor", 4)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aufs-bench"));
        command.args([verb, "--backing", "scratch"]).current_dir(dir.path());
        if verb == "doctor" {
            command.args(["--watch", "0.1s"])
        } else {
            command.args(["--matrix", "quick"])
        };
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
        assert!(said.contains("another") && said.contains("bench measures"), "{verb}: {said}");
        assert!(!dir.path().join("target").exists(), "nothing was begun");
    }
    drop(lock);
}

#[test]
fn nothing_that_can_run_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let matrix = dir.path().join("m.toml");
    let text = "name = \"m\"\nbudget = \"1s\"\nblocks_max = 1\n[[driver]]\nname = \"aufs-fuse\"\n\
                [[group]]\nmodels = [\"copy-up\"]\nfound_at = [1]\nfiles = 1\n";
    std::fs::write(&matrix, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aufs-bench"))
        .args(["run", "--matrix", "m.toml", "--backing", "scratch", "--out", "out"])
        .env("AUFS_BIN", "/nowhere/aufs")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    // Hosts that give no namespaces refuse even before the driver is looked for.
    assert!(said.contains("AUFS_BIN") || said.contains("unshare"), "names the remedy: {said}");
    assert!(!dir.path().join("out/samples.jsonl").exists());
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    for arguments in [&["schema", "samples"][..], &["run", "--print-config"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_aufs-bench")).args(arguments).stdout(writer).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}
