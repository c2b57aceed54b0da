//! Builds the layers that all drivers show, and checks them afterwards.
//!
//! Each layer is a directory with the same directories as the others, so that
//! a search must look into each, one small file of its own, and the measured
//! files that are found at its height:
//!
//! ```text
//! LAYER/data/layer-3                       a file of each layer
//! LAYER/data/warm                          lowest layer only: touched before timing
//! LAYER/data/copy-up-4K-8-fresh-17         a measured file, directory depth 1
//! LAYER/deep/chmod-4K-8-fresh-d4/17/2/3/f  a measured file, directory depth 4 and own parents
//! LAYER/data/walk-1K-8-hot-n10000-0/d5/f5  a file of a measured tree
//! LAYER/bin/noop                           lowest layer of some stacks only: a program to start
//! ```

mod room;
mod unchanged;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
pub use room::planned_bytes;

use crate::cell::{Params, TreeContent, TreeKey};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::matrix::expand::PlannedCell;
use crate::model;
use crate::model::Lower;
use crate::pattern::Pattern;
use crate::pool::in_parallel;
use crate::program;
use crate::repository;
use crate::tree::Tree;

/// Mode of measured files in their layer.
pub const FILE_MODE: u32 = 0o644;

/// A measured file: where it is below the root of any mount, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Path below the root.
    pub path: PathBuf,
    /// Number that its content carries.
    pub number: u64,
    /// Its length, or that of each file of a tree, in bytes.
    pub len_bytes: u64,
    /// Its layer, from 1 for the topmost.
    pub found_at: u32,
    /// Files that one sample works on, numbered from `number` on; 0 for a single file.
    pub entries: u32,
}

/// Identity, length and time of the last change of a layer file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    ino: u64,
    len_bytes: u64,
    ctime: (i64, i64),
}

/// The layers of one height.
#[derive(Debug)]
pub struct LayerStack {
    /// Directories, topmost first.
    pub dirs: Vec<PathBuf>,
    /// The measured files of each parameter set.
    pub files: BTreeMap<Params, Vec<FileSpec>>,
    /// Bytes in all files.
    pub tree_bytes: u64,
    key: TreeKey,
}

/// Files of an image tree, spread over its layers, and the length of each: 16 MiB in all.
const IMAGE_FILES: u64 = 256;
const IMAGE_FILE_BYTES: u64 = 64 << 10;

/// Path of a file that every stack has in its lowest layer; no cell measures it.
pub const WARM_FILE: &str = "data/warm";

/// Where file `index` of `params` lies below the root.
fn path_of(params: &Params, index: u32) -> PathBuf {
    let (set, dir_depth) = (params.slug(), params.dir_depth);
    if dir_depth == 1 {
        return PathBuf::from(format!("data/{set}-{index}"));
    }
    let mut path = PathBuf::from(format!("deep/{set}-d{dir_depth}/{index}"));
    // One digit a level: 256 levels must stay far below PATH_MAX, whatever a driver puts before them.
    path.extend((2..dir_depth).map(|level| (level % 10).to_string()));
    path.join("f")
}

/// The files that each parameter set of the tree `key` on `backing` needs.
pub fn plan(cells: &[PlannedCell], backing: &str, key: TreeKey) -> BTreeMap<Params, Vec<FileSpec>> {
    let mut counts: BTreeMap<&Params, u32> = BTreeMap::new();
    for PlannedCell { cell, files, .. } in cells {
        if cell.params.backing == backing && cell.params.tree() == key {
            let most = counts.entry(&cell.params).or_insert(*files);
            *most = (*files).max(*most);
        }
    }
    let mut number = 0;
    let specs = |(params, count): (&Params, u32)| {
        let mut files = Vec::new();
        for index in 0..count {
            number += 1;
            let (len_bytes, found_at, entries) = (params.file_bytes, params.found_at, params.entries);
            files.push(FileSpec { path: path_of(params, index), number, len_bytes, found_at, entries });
            number += u64::from(entries);
        }
        (params.clone(), files)
    };
    counts.into_iter().map(specs).collect()
}

impl LayerStack {
    /// Writes the layers of `key` below `root`.
    ///
    /// # Errors
    ///
    /// Any I/O error while writing, a full disk most likely.
    pub fn build(
        root: &Path,
        key: TreeKey,
        files: BTreeMap<Params, Vec<FileSpec>>,
        pattern: &Pattern,
    ) -> Result<Self> {
        let dirs: Vec<PathBuf> = (1..=key.n_layers).map(|layer| root.join(layer.to_string())).collect();
        check_lengths(root, &files)?;
        let parents = parents(&files, key.content);
        let held = held(&files, key);
        in_parallel(|| {
            dirs.par_iter().try_for_each(|dir| create_dirs(dir, &parents))?;
            held.par_iter().try_for_each(|(found_at, path, number, len_bytes)| {
                write_file(&dirs[*found_at as usize - 1].join(path), *number, *len_bytes, pattern)
            })
        })??;
        let mut tree_bytes: u64 = held.iter().map(|it| it.3).sum();
        if let Some(lowest) = dirs.last().filter(|_| key.content == TreeContent::Program) {
            program::lay(lowest)?;
            tree_bytes += program::len_bytes()?;
        }
        if key.content == TreeContent::Repository {
            commit_all(&files, &dirs)?;
        }
        Ok(Self { dirs, files, tree_bytes, key })
    }

    /// The layer's own copy of `file`.
    pub fn lower_path(&self, file: &FileSpec) -> PathBuf {
        self.dirs[file.found_at as usize - 1].join(&file.path)
    }

    /// What must not change about the layer's copy of `file`, or the directories of its tree: any write moves a ctime.
    ///
    /// # Errors
    ///
    /// The file is gone or cannot be looked at.
    pub fn fingerprint(&self, file: &FileSpec, lower: Lower) -> Result<Vec<Fingerprint>> {
        let base = self.lower_path(file);
        let paths = match lower {
            Lower::Tree(shape) => Tree::new(file, shape).dirs(&base),
            Lower::File | Lower::Nothing => vec![base],
        };
        let of = |path: &PathBuf| {
            let stat = fs::symlink_metadata(path).at("stat layer file", path)?;
            let ctime = (stat.ctime(), stat.ctime_nsec());
            Ok(Fingerprint { ino: stat.ino(), len_bytes: stat.len(), ctime })
        };
        paths.iter().map(of).collect()
    }
}

/// A file whose content is known: layer, path below it, number, length in bytes.
type Held = (u32, PathBuf, u64, u64);

/// Every file of the layers of `key` but programs and what git keeps.
fn held(files: &BTreeMap<Params, Vec<FileSpec>>, key: TreeKey) -> Vec<Held> {
    let TreeKey { n_layers, content } = key;
    let of_layer =
        |layer: u32| (layer, PathBuf::from(format!("data/layer-{layer}")), u64::from(layer) - 1, 64);
    let image_files = if content == TreeContent::Image { IMAGE_FILES } else { 0 };
    let of_image = |(index, layer): (u64, u32)| {
        (layer, PathBuf::from(format!("data/image-{index}")), index, IMAGE_FILE_BYTES)
    };
    let single = measured(files).map(|it| (it.found_at, it.path.clone(), it.number, it.len_bytes));
    let mut held: Vec<Held> = (1..=n_layers).map(of_layer).chain(single).chain(entries(files)).collect();
    held.push((n_layers, PathBuf::from(WARM_FILE), 0, 4096));
    held.extend((0..image_files).zip((1..=n_layers).cycle()).map(of_image));
    held
}

/// The directories that each layer has, which hold files in some.
fn parents(files: &BTreeMap<Params, Vec<FileSpec>>, content: TreeContent) -> Vec<PathBuf> {
    // Missing names get their parents too: else a search would end early.
    let parent = |file: &FileSpec| file.path.parent().map(Path::to_owned).unwrap_or_default();
    let mut parents: Vec<PathBuf> = files.values().flatten().map(parent).collect();
    parents.extend(trees(files).flat_map(|(spec, tree)| tree.dirs(&spec.path)));
    if content == TreeContent::Program {
        parents.extend(Path::new(program::PATH).parent().map(Path::to_owned));
    }
    parents.push(PathBuf::from("data"));
    parents.sort();
    parents.dedup();
    parents
}

/// The single files that exist, in contrast to trees and to the names that must be missing.
fn measured(files: &BTreeMap<Params, Vec<FileSpec>>) -> impl Iterator<Item = &FileSpec> {
    let exist = |params: &Params| model::by_name(&params.model).is_some_and(|it| it.lower() == Lower::File);
    files.iter().filter(move |(params, _)| exist(params)).flat_map(|(_, files)| files)
}

/// The measured trees.
fn trees(files: &BTreeMap<Params, Vec<FileSpec>>) -> impl Iterator<Item = (&FileSpec, Tree<'_>)> {
    files.iter().flat_map(|(params, specs)| {
        let shape = match model::by_name(&params.model).map(|it| it.lower()) {
            Some(Lower::Tree(shape)) => Some(shape),
            _ => None,
        };
        specs.iter().filter_map(move |spec| Some((spec, Tree::new(spec, shape?))))
    })
}

/// Every file of the measured trees.
fn entries(files: &BTreeMap<Params, Vec<FileSpec>>) -> Vec<Held> {
    let of_tree = |(spec, tree): (&FileSpec, Tree<'_>)| {
        let row = |(path, number)| (spec.found_at, path, number, spec.len_bytes);
        tree.files(&spec.path).into_iter().map(row).collect::<Vec<_>>()
    };
    trees(files).flat_map(of_tree).collect()
}

/// Longest path that a system call takes, in bytes with its end.
const PATH_MAX: usize = 4096;

/// Room in a path for what drivers and models put before and after the name of a measured file.
const PATH_ROOM: usize = 128;

/// Refuses files whose path below `root` the kernel would not take.
fn check_lengths(root: &Path, files: &BTreeMap<Params, Vec<FileSpec>>) -> Result<()> {
    let len = |path: &Path| path.as_os_str().len();
    let longest = files.values().flatten().map(|it| len(&it.path)).max().unwrap_or(0);
    let needed = len(root) + longest + PATH_ROOM;
    if needed < PATH_MAX {
        return Ok(());
    }
    let reason = format!(
        "paths of {needed} bytes would pass the {PATH_MAX} that Linux takes; give a shorter --backing or dir_depth"
    );
    Err(BenchError::new("build layers in", root, BenchErrorKind::Refused(reason)))
}

/// Makes each measured tree a repository.
fn commit_all(files: &BTreeMap<Params, Vec<FileSpec>>, layers: &[PathBuf]) -> Result<()> {
    trees(files).try_for_each(|(spec, tree)| {
        let dir = layers[spec.found_at as usize - 1].join(&spec.path);
        let paths: Vec<PathBuf> = tree.files(&dir).into_iter().map(|it| it.0).collect();
        repository::commit(&dir, &paths)
    })
}

fn create_dirs(layer: &Path, parents: &[PathBuf]) -> Result<()> {
    for parent in parents {
        let path = layer.join(parent);
        fs::create_dir_all(&path).at("create layer", &path)?;
    }
    Ok(())
}

fn write_file(path: &Path, number: u64, len_bytes: u64, pattern: &Pattern) -> Result<()> {
    let mut file = File::create(path).at("create layer file", path)?;
    pattern.write(&mut file, number, len_bytes).at("write layer file", path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE)).at("chmod layer file", path)
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
