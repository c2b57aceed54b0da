//! Checks must fail: for a sample that was not done, a branch that was not written, a layer that was.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::*;
use crate::cell::{Cache, Params, TreeContent, TreeKey};
use crate::driver::{self, Branch, Imported, View};
use crate::error::{BenchError, BenchErrorKind};
use crate::layers::LayerStack;
use crate::pattern::Pattern;
use crate::run::interrupt::Interrupt;

/// Models that change something, so that a check of theirs can find it missing.
const CHANGING: [&str; 20] = [
    "reference",
    "copy-up",
    "append",
    "truncate",
    "chmod",
    "chown-tree",
    "rename",
    "rename-dir",
    "whiteout",
    "opaque",
    "second-write",
    "write-sequential",
    "write-random",
    "create",
    "unlink",
    "untar",
    "remove-tree",
    "git-status",
    "writers",
    "database",
];

/// Those whose change must show on the writable branch.
const BRANCHED: [&str; 11] = [
    "copy-up",
    "append",
    "truncate",
    "chmod",
    "chown-tree",
    "rename",
    "rename-dir",
    "whiteout",
    "opaque",
    "git-status",
    "database",
];

fn key_of(name: &str) -> TreeKey {
    let content = if name == "git-status" { TreeContent::Repository } else { TreeContent::Files };
    TreeKey { n_layers: 2, content }
}

/// Layers with one file or tree for a model, and a plain directory that shows them.
struct Place {
    model: &'static dyn Model,
    params: Params,
    pattern: Pattern,
    layers: LayerStack,
    imported: Imported,
    file: FileSpec,
    home: PathBuf,
    interrupt: Interrupt,
    _dir: tempfile::TempDir,
}

impl Place {
    fn of(name: &str, cache: Cache, dir_depth: u32) -> Self {
        let model = by_name(name).unwrap();
        // In memory where there is some: what is tested is no disk, and a database syncs often.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let params = Params {
            model: name.to_owned(),
            backing: "dir".to_owned(),
            file_bytes: 5000,
            found_at: 2,
            n_layers: 2,
            dir_depth,
            cache,
            entries: if model.takes_many() { 5 } else { 0 },
            threads: 0,
        };
        let path = if dir_depth == 1 { PathBuf::from("data/f-1") } else { PathBuf::from("deep/1/2/f-1") };
        let file = FileSpec { path, number: 1, len_bytes: 5000, found_at: 2, entries: params.entries };
        let (pattern, files) = (Pattern::default(), BTreeMap::from([(params.clone(), vec![file.clone()])]));
        let layers = LayerStack::build(&dir.path().join("l"), key_of(name), files, &pattern).unwrap();
        let home = dir.path().join("h");
        std::fs::create_dir(&home).unwrap();
        let imported = driver::by_name(PLAIN).unwrap().import(&layers, &home).unwrap();
        let interrupt = Interrupt::never();
        Self { model, params, pattern, layers, imported, file, home, interrupt, _dir: dir }
    }

    fn plain(&self) -> View {
        View::plain(self.imported.flat.clone().unwrap())
    }

    fn bed<'a>(&'a self, view: &'a View, block: u32) -> Bed<'a> {
        let root = File::open(&view.root).unwrap().into();
        let driver = driver::by_name(PLAIN).unwrap();
        let mounting = Mounting { driver, options: "default", imported: &self.imported, home: &self.home };
        let (layers, pattern, params) = (&self.layers, &self.pattern, &self.params);
        let interrupt = &self.interrupt;
        Bed { view, root, layers, pattern, params, block, mounting, interrupt }
    }

    fn check(&self, bed: &Bed<'_>) -> Result<()> {
        self.model.check(bed, &self.file, Extent::Whole)
    }

    /// All that `view` shows of the model's directory: path, mode, owner, content.
    fn shown(&self, view: &View) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
        let mut rows = Vec::new();
        let mut dirs = vec![view.root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let (path, stat) = (entry.path(), entry.metadata().unwrap());
                if stat.is_dir() {
                    dirs.push(path.clone());
                }
                let content = if stat.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                rows.push((path, stat.mode(), stat.uid(), content));
            }
        }
        rows.sort();
        rows
    }
}

/// Whether `name` can be done by who runs the tests: giving a file away takes root.
fn can_do(name: &str) -> bool {
    match name {
        "chown-tree" => nix::unistd::geteuid().is_root(),
        "git-status" => crate::repository::has_git(),
        _ => true,
    }
}

fn is_incorrect(error: &BenchError) -> bool {
    matches!(error.kind, BenchErrorKind::Incorrect(_))
}

#[test]
fn every_check_fails_when_the_sample_was_not_done() {
    for name in CHANGING.into_iter().filter(|name| can_do(name)) {
        for (cache, dir_depth) in [(Cache::Fresh, 1), (Cache::Hot, 3)] {
            if (name, cache) == ("git-status", Cache::Hot) {
                // The first status has done all there is to see; the sample itself compares what the next prints.
                continue;
            }
            let place = Place::of(name, cache, dir_depth);
            let view = place.plain();
            let bed = place.bed(&view, 0);
            place.model.prepare(&bed, &place.file).unwrap();
            let error = place.check(&bed).expect_err(name);
            // What a model makes is missing then; what was to change is wrong.
            let makes = ["create", "untar"].contains(&name);
            assert!(makes || is_incorrect(&error), "{name}: {error:?}");
        }
    }
}

#[test]
fn containers_that_were_not_brought_up_are_missed() {
    let place = Place::of("density", Cache::Fresh, 1);
    let view = place.plain();
    let bed = place.bed(&view, 0);
    let error = place.check(&bed).unwrap_err();
    assert!(error.line().contains("d1-0"), "{}", error.line());
    // As a container leaves it that was mounted and not written to.
    let own = Branch::create(&place.home.join("d1-0")).unwrap().target.join(&place.file.path);
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::copy(place.layers.lower_path(&place.file), &own).unwrap();
    assert!(is_incorrect(&place.check(&bed).unwrap_err()), "nothing was written to it");
}

#[test]
fn done_is_right_and_undone_is_as_before() {
    for name in CHANGING.into_iter().filter(|name| can_do(name)) {
        for (cache, dir_depth) in [(Cache::Fresh, 1), (Cache::Hot, 3)] {
            let place = Place::of(name, cache, dir_depth);
            let view = place.plain();
            let before = place.shown(&view);
            for block in 0..3 {
                let bed = place.bed(&view, block);
                place.model.prepare(&bed, &place.file).unwrap();
                let timing = place.model.sample(&bed, &place.file).unwrap();
                assert!(0 < timing.elapsed_ns && timing.open_ns <= Some(timing.elapsed_ns), "{name}");
                place.check(&bed).unwrap_or_else(|error| panic!("{name}, block {block}: {}", error.line()));
                place.model.restore(&bed, &place.file).unwrap();
                assert_eq!(place.model.upper_bytes(&bed, &place.file), None, "{name}: plain has no branch");
            }
            // The others write over what they find in each block.
            let undone = [
                "append",
                "truncate",
                "chown-tree",
                "rename",
                "rename-dir",
                "whiteout",
                "opaque",
                "remove-tree",
            ];
            if undone.contains(&name) {
                assert!(place.shown(&view) == before, "{name} leaves something");
            }
            place.layers.check_unchanged(&place.pattern).unwrap();
        }
    }
}

#[test]
fn what_is_missing_on_the_branch_is_found() {
    for name in BRANCHED.into_iter().filter(|name| can_do(name)) {
        let place = Place::of(name, Cache::Fresh, 1);
        let mut view = place.plain();
        let upper = place.home.join("u");
        std::fs::create_dir(&upper).unwrap();
        view.upper = Some(upper.clone());
        let bed = place.bed(&view, 0);
        place.model.prepare(&bed, &place.file).unwrap();
        place.model.sample(&bed, &place.file).unwrap();
        let error = place.check(&bed).expect_err(name);
        let makes_dir = name == "opaque";
        assert!(makes_dir || is_incorrect(&error), "{name}: {error:?}");
        assert!(error.line().contains("branch") || makes_dir, "{name}: {}", error.line());
    }
}

#[test]
fn a_changed_layer_is_found() {
    // A database on a plain directory begins with a new copy of the layer's file, which this test has made the same.
    for name in BRANCHED.into_iter().filter(|name| can_do(name) && *name != "database") {
        let place = Place::of(name, Cache::Fresh, 1);
        // Shows the layer itself, and claims to have a branch where all is as it should be.
        let view = View::plain(place.layers.dirs[1].clone());
        let bed = place.bed(&view, 0);
        let lower = place.model.lower();
        let before = place.layers.fingerprint(&place.file, lower).unwrap();
        place.model.prepare(&bed, &place.file).unwrap();
        place.model.sample(&bed, &place.file).unwrap();
        let checked = place.check(&bed);
        let after = place.layers.fingerprint(&place.file, lower);
        assert!(checked.is_err() || after.is_err() || after.unwrap() != before, "{name}");
    }
}

#[test]
fn a_sample_of_the_reference_stands_for_those_before_it_only() {
    let place = Place::of("reference", Cache::Fresh, 1);
    let view = place.plain();
    let bed = place.bed(&view, 0);
    place.model.prepare(&bed, &place.file).unwrap();
    let numbered = |number| FileSpec { number, ..place.file.clone() };
    for number in [1, 2] {
        place.model.sample(&bed, &numbered(number)).unwrap();
    }
    for (number, expected) in [(1, true), (2, true), (3, false)] {
        assert_eq!(place.model.check(&bed, &numbered(number), Extent::Whole).is_ok(), expected, "{number}");
    }
    let next = place.bed(&view, 1);
    assert!(place.model.check(&next, &numbered(1), Extent::Whole).is_err(), "another block");
}
