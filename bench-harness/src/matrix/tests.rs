//! Wrong matrix files, each with the message that a user sees.

use super::*;

const GOOD: &str = r#"name = "good"
budget = "10s"
blocks_max = 2
backing = ["dir"]

[[driver]]
name = "overlayfs"
options = ["default"]

[[group]]
models = ["copy-up"]
sizes = ["4K"]
found_at = [1]
files = 2
"#;

#[test]
fn built_in_matrices_are_good() {
    for name in builtin::names() {
        let matrix = Matrix::load(name).unwrap();
        assert_eq!(matrix.name, name);
        assert!(!expand::cells(&matrix, &[], matrix.budget).is_empty(), "{name}");
    }
}

#[test]
fn unionfs_fuse_writes_with_one_thread_only() {
    let mut n_single = 0;
    for name in builtin::names() {
        for planned in expand::cells(&Matrix::load(name).unwrap(), &[], f64::MAX) {
            let (driver, params) = (planned.cell.driver.as_str(), &planned.cell.params);
            if (driver, params.model.as_str()) == ("unionfs-fuse", "writers") {
                assert_eq!(params.threads, 1, "{name}: its threads fail each other");
                n_single += 1;
            }
        }
    }
    assert_eq!(n_single, 2, "full and workloads");
}

#[test]
fn errors_name_the_line_and_the_word() {
    for (from, to, expected) in [
        ("blocks_max", "block_max", &["line 3", "\"block_max\"", "did you mean \"blocks_max\"?"][..]),
        ("found_at", "found-at", &["line 13", "\"found-at\"", "did you mean \"found_at\"?"]),
        ("\"overlayfs\"", "\"overlay\"", &["line 7", "unknown driver \"overlay\"", "\"overlayfs\""]),
        ("\"default\"", "\"volatil\"", &["line 8", "unknown option set", "\"volatile\""]),
        ("\"copy-up\"", "\"copyup\"", &["line 11", "unknown model \"copyup\"", "\"copy-up\""]),
        ("\"4K\"", "\"4X\"", &["line 12", "\"4X\" is not a size"]),
        ("\"10s\"", "\"fast\"", &["line 2", "\"fast\" is not a duration"]),
        ("\"dir\"", "\"loop:ext5\"", &["line 4", "unknown backing", "\"loop:ext4\""]),
        (
            "\"copy-up\"]\nsizes = [\"4K\"]",
            "\"copy-up\", \"create\"]\nsizes = [\"1M\"]",
            &["line 12", "create takes files of 64 KiB at most, not of 1 MiB"],
        ),
        ("[1]", "[0]", &["line 13", "layer 0 is outside"]),
        ("files = 2", "files = 0", &["line 14", "outside 1 to 4096"]),
        ("files = 2", "files = 2\nentries = [0]", &["line 15", "outside 1 to 1000000"]),
        (
            "files = 2",
            "files = 2\ndrivers = [\"plain\"]",
            &["line 15", "unknown driver of this matrix \"plain\""],
        ),
        ("files = 2", "files = 2\nbudget_min = \"soon\"", &["line 15", "not a duration"]),
        ("blocks_max = 2", "blocks_max = 2\ngoals = \"peer\"", &["line 4", "did you mean \"peers\"?"]),
        ("files = 2\n", "", &["missing field"]),
        ("name = \"good\"", "name = ", &["line 1"]),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is in the text");
        let error = Matrix::parse(&text, Path::new("m.toml")).unwrap_err();
        assert!(matches!(error.kind, BenchErrorKind::Config(_)), "{error:?}");
        let message = error.line();
        for part in expected {
            assert!(message.contains(part), "{to}: {message:?} lacks {part:?}");
        }
        assert!(message.contains("m.toml"), "{message}");
    }
}

#[test]
fn an_unknown_name_is_not_taken_for_a_file() {
    let error = Matrix::load("defualt").unwrap_err();
    assert!(error.line().contains("did you mean \"default\"?"), "{}", error.line());
}
