//! That no driver writes into a layer: every byte and every name is compared with what was built.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{FILE_MODE, FileSpec, Held, LayerStack, held, parents};
use crate::cell::TreeContent;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::model::Lower;
use crate::pattern::{Extent, Pattern};
use crate::pool::in_parallel;
use crate::program;
use crate::tree::Tree;

/// Where git keeps what it knows of a repository; git alone knows what belongs there.
const GIT: &str = ".git";

impl LayerStack {
    /// Removes what does not belong there from where `file` is in its layer, or from where it must be missing, so
    /// that what one driver has left does not fail the others; the one is an error of its own.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn remove_strays(&self, file: &FileSpec, lower: Lower) -> Result<()> {
        match lower {
            Lower::File => Ok(()),
            Lower::Nothing => self.dirs.iter().try_for_each(|layer| remove(&layer.join(&file.path))),
            Lower::Tree(shape) => self.remove_from_tree(file, &Tree::new(file, shape)),
        }
    }

    fn remove_from_tree(&self, file: &FileSpec, tree: &Tree<'_>) -> Result<()> {
        let base = self.lower_path(file);
        let own: BTreeSet<PathBuf> = tree.files(&base).into_iter().map(|it| it.0).collect();
        for dir in tree.dirs(&base) {
            for entry in fs::read_dir(&dir).at("read layer directory", &dir)? {
                let path = entry.at("read layer directory", &dir)?.path();
                let is_file = fs::symlink_metadata(&path).at("stat layer file", &path)?.is_file();
                if is_file && !own.contains(&path) {
                    fs::remove_file(&path).at("remove stray from layer", &path)?;
                }
            }
        }
        Ok(())
    }

    /// Reads every file of the layers and compares all bytes and the mode; then looks for names that were not built.
    ///
    /// # Errors
    ///
    /// `Incorrect`: a driver wrote into a layer. Else what reading reports.
    pub fn check_unchanged(&self, pattern: &Pattern) -> Result<()> {
        let held = held(&self.files, self.key);
        in_parallel(|| held.par_iter().try_for_each(|it| self.check_file(it, pattern)))??;
        if let Some(lowest) = self.dirs.last().filter(|_| self.key.content == TreeContent::Program) {
            program::check_laid(lowest)?;
        }
        let mut dirs = BTreeSet::new();
        for parent in parents(&self.files, self.key.content) {
            dirs.extend(parent.ancestors().map(Path::to_owned));
        }
        in_parallel(|| {
            (1..).zip(&self.dirs).par_bridge().try_for_each(|it| self.check_names(it, &held, &dirs))
        })?
    }

    fn check_file(&self, (found_at, path, number, len_bytes): &Held, pattern: &Pattern) -> Result<()> {
        let path = self.dirs[*found_at as usize - 1].join(path);
        let open = File::open(&path).at("open layer file", &path)?;
        let difference = pattern.difference(&open, *number, *len_bytes, &[], Extent::Whole);
        let mode = open.metadata().at("stat layer file", &path)?.mode() & 0o7777;
        let changed = difference.at("read layer file", &path)?;
        let changed = changed.or((mode != FILE_MODE).then(|| format!("mode is {mode:o}")));
        changed.map_or(Ok(()), |what| Err(changed_at(&path, &what)))
    }

    /// Compares all names of the layer numbered `layer` with the files of `held` and the directories `dirs`.
    fn check_names(
        &self,
        (layer, root): (u32, &PathBuf),
        held: &[Held],
        dirs: &BTreeSet<PathBuf>,
    ) -> Result<()> {
        let mut files: BTreeSet<&Path> =
            held.iter().filter(|it| it.0 == layer).map(|it| it.1.as_path()).collect();
        if self.key.content == TreeContent::Program && layer == self.key.n_layers {
            files.insert(Path::new(program::PATH));
        }
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            let full = root.join(&dir);
            for entry in fs::read_dir(&full).at("read layer directory", &full)? {
                let entry = entry.at("read layer directory", &full)?;
                let path = dir.join(entry.file_name());
                if entry.file_type().at("stat layer file", entry.path())?.is_dir() && dirs.contains(&path) {
                    left.push(path);
                } else if !files.contains(path.as_path()) && !self.is_git(&path) {
                    return Err(changed_at(&entry.path(), "it was not built"));
                }
            }
        }
        Ok(())
    }

    fn is_git(&self, path: &Path) -> bool {
        self.key.content == TreeContent::Repository && path.file_name().is_some_and(|it| it == GIT)
    }
}

fn changed_at(path: &Path, what: &str) -> BenchError {
    let message = format!("the layer was changed: {what}");
    BenchError::new("check layer file", path, BenchErrorKind::Incorrect(message))
}

/// Removes a file or a tree that may not be there.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("stat layer file", path),
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).at("remove stray from layer", path),
        Ok(_) => fs::remove_file(path).at("remove stray from layer", path),
    }
}
