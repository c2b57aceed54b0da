//! Wrong command lines and wrong hosts: one line that names the thing, and a documented exit code.

use std::process::Command;

#[test]
fn each_mistake_has_its_line_and_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, "name = \"w\"\nbudgt = \"1s\"\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (arguments, code, expected) in [
        (&["run", "--matrix", wrong][..], 2, "line 2: unknown key \"budgt\""),
        (&["run", "--matrix", "qick"], 2, "did you mean \"quick\"?"),
        (&["run", "--matrix", "none.toml"], 1, "none.toml"),
        (&["run", "--driver", "overlay"], 2, "did you mean \"overlayfs\"?"),
        (&["run", "--matrix", "quick", "--driver", "reflink"], 2, "matrix quick does not have it"),
        (&["run", "--budget", "soon"], 2, "\"soon\" is not a duration"),
        (&["run", "--resume"], 2, "--out"),
        (&["report", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["keep", "nowhere"], 1, "nowhere/samples.jsonl"),
        (&["verify", "--matrix", "quick", "--backing", "a,b"], 2, "has ','"),
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
