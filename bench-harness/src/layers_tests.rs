//! Layers as they are built, and what is found when they change.

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::cell::{Cache, Cell};
use crate::tree::Shape;

const KEY: TreeKey = TreeKey { n_layers: 3, content: TreeContent::Files };

pub(super) fn planned(dir_depth: u32, files: u32) -> PlannedCell {
    let params = Params {
        model: "copy-up".to_owned(),
        backing: "dir".to_owned(),
        file_bytes: 100,
        found_at: 2,
        n_layers: 3,
        dir_depth,
        cache: Cache::Fresh,
        entries: 0,
        threads: 0,
    };
    PlannedCell {
        cell: Cell { driver: "plain".to_owned(), options: "default".to_owned(), params },
        files,
        blocks: u32::MAX,
    }
}

#[test]
fn files_lie_in_their_layer_and_changes_are_found() {
    let root = tempfile::tempdir().unwrap();
    let pattern = Pattern::default();
    let files = plan(&[planned(1, 3), planned(4, 2)], "dir", KEY);
    let stack = LayerStack::build(root.path(), KEY, files, &pattern).unwrap();
    assert_eq!(stack.dirs.len(), 3);
    assert!(root.path().join("2/data/copy-up-100-2-fresh-2").is_file());
    assert!(root.path().join("2/deep/copy-up-100-2-fresh-d4/1/2/3/f").is_file());
    assert!(
        root.path().join("1/deep/copy-up-100-2-fresh-d4/1/2/3").is_dir(),
        "directories are in each layer"
    );
    assert!(root.path().join("3").join(WARM_FILE).is_file());
    stack.check_unchanged(&pattern).unwrap();

    let spec = FileSpec { path: PathBuf::from("data"), number: 0, len_bytes: 1, found_at: 2, entries: 0 };
    let flat = Lower::Tree(Shape::Flat);
    let before = stack.fingerprint(&spec, flat).unwrap();
    fs::write(root.path().join("2/data/stray"), "x").unwrap();
    assert_ne!(stack.fingerprint(&spec, flat).unwrap(), before, "a new name moves its directory");
    stack.remove_strays(&FileSpec { path: PathBuf::from("deep"), ..spec }, flat).unwrap();
    assert!(root.path().join("2/data/stray").exists(), "only in its own tree");

    let victim = root.path().join("2/data/copy-up-100-2-fresh-2");
    File::options().write(true).open(victim).unwrap().write_all_at(&[1], 50).unwrap();
    let error = stack.check_unchanged(&pattern).unwrap_err();
    assert!(matches!(error.kind, BenchErrorKind::Incorrect(_)), "{error:?}");
}

#[test]
fn every_file_and_every_name_of_a_layer_is_compared() {
    let is_found = |content: TreeContent, change: fn(&Path)| {
        let root = tempfile::tempdir().unwrap();
        let (pattern, key) = (Pattern::default(), TreeKey { content, ..KEY });
        let files = plan(&[planned(1, 3), planned(4, 2)], "dir", KEY);
        let stack = LayerStack::build(root.path(), key, files, &pattern).unwrap();
        stack.check_unchanged(&pattern).unwrap();
        change(root.path());
        matches!(stack.check_unchanged(&pattern), Err(BenchError { kind: BenchErrorKind::Incorrect(_), .. }))
    };
    assert!(is_found(TreeContent::Files, |root| touch_at(&root.join("3").join(WARM_FILE))));
    assert!(is_found(TreeContent::Files, |root| touch_at(&root.join("2/data/layer-2"))));
    assert!(is_found(TreeContent::Image, |root| touch_at(&root.join("1/data/image-3"))));
    assert!(is_found(TreeContent::Program, |root| touch_at(&root.join("3").join(program::PATH))));
    for stray in [
        |root: &Path| fs::write(root.join("1/data/new"), "").unwrap(),
        |root: &Path| {
            fs::create_dir(root.join("3/deep/new")).unwrap();
        },
    ] {
        assert!(is_found(TreeContent::Files, stray));
    }
    assert!(is_found(TreeContent::Files, |root| {
        let path = root.join("1/deep/copy-up-100-2-fresh-d4/1/2/3/f");
        fs::write(path, "").unwrap();
    }));
}

fn touch_at(path: &Path) {
    File::options().write(true).open(path).unwrap().write_all_at(&[7], 9).unwrap();
}

#[test]
fn what_a_driver_made_in_a_layer_is_removed_for_the_others() {
    let root = tempfile::tempdir().unwrap();
    let pattern = Pattern::default();
    let files = plan(&[planned(1, 1)], "dir", KEY);
    let stack = LayerStack::build(root.path(), KEY, files, &pattern).unwrap();
    let made =
        FileSpec { path: PathBuf::from("data/made"), number: 0, len_bytes: 1, found_at: 2, entries: 0 };
    stack.remove_strays(&made, Lower::Nothing).unwrap();
    for layer in ["1", "3"] {
        fs::create_dir_all(root.path().join(layer).join("data/made/d0")).unwrap();
        stack.remove_strays(&made, Lower::Nothing).unwrap();
        fs::write(root.path().join(layer).join("data/made"), "x").unwrap();
        stack.remove_strays(&made, Lower::Nothing).unwrap();
    }
    stack.check_unchanged(&pattern).unwrap();
}

#[test]
fn deep_trees_are_built_and_paths_too_long_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let pattern = Pattern::default();
    let files = || plan(&[planned(256, 2)], "dir", KEY);
    let stack = LayerStack::build(root.path(), KEY, files(), &pattern).unwrap();
    let spec = &stack.files.values().next().unwrap()[1];
    assert_eq!(spec.path.parent().unwrap().components().count(), 256 + 1, "deep/, and its own 256");
    stack.check_unchanged(&pattern).unwrap();
    let far = root.path().join("far/".repeat(900));
    let error = LayerStack::build(&far, KEY, files(), &pattern).unwrap_err();
    assert!(matches!(error.kind, BenchErrorKind::Refused(_)), "{error:?}");
    assert!(!root.path().join("far").exists());
}

#[test]
fn other_backings_and_heights_need_nothing() {
    assert!(plan(&[planned(1, 3)], "tmpfs", KEY).is_empty());
    assert!(plan(&[planned(1, 3)], "dir", TreeKey { n_layers: 2, ..KEY }).is_empty());
    assert!(plan(&[planned(1, 3)], "dir", TreeKey { content: TreeContent::Image, ..KEY }).is_empty());
}
