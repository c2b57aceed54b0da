//! Layers copied into one tree, for drivers that do not stack.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Imported;
use crate::error::{At as _, Result};
use crate::layers::LayerStack;
use crate::pool::{in_parallel, in_parallel_waiting};

/// How the bytes of a file are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyHow {
    /// `read` and `write`, so that the bytes exist twice whatever the file system can do.
    Bytes,
    /// `FICLONE`: both files share their blocks until one is changed.
    Reflink,
}

/// Name of the merged tree in the home of an import.
pub const NAME: &str = "flat";

/// Merges `layers` into `home`/flat, the upper ones winning.
///
/// # Errors
///
/// Any I/O error while copying.
pub fn import(layers: &LayerStack, home: &Path, how: CopyHow) -> Result<Imported> {
    let flat = home.join(NAME);
    for layer in layers.dirs.iter().rev() {
        copy_tree(layer, &flat, how)?;
    }
    Ok(Imported { flat: Some(flat), ..Imported::default() })
}

/// Copies the tree `from` to `to`, one entry after the other; `to` may exist.
///
/// # Errors
///
/// Any I/O error while copying.
pub fn copy_tree(from: &Path, to: &Path, how: CopyHow) -> Result<()> {
    fs::create_dir_all(to).at("create directory", to)?;
    for (source, kind) in entries(from)? {
        let target = to.join(source.file_name().unwrap_or_default());
        if kind.is_dir() {
            copy_tree(&source, &target, how)?;
        } else {
            copy_file(&source, &target, how).at("copy", &source)?;
        }
    }
    Ok(())
}

/// All entries of `dir`, read before any is looked into: a descriptor for each level of a deep tree would
/// pass the limit of a process.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let entry = |entry: io::Result<fs::DirEntry>| entry.and_then(|it| Ok((it.path(), it.file_type()?)));
    fs::read_dir(dir).and_then(|all| all.map(entry).collect()).at("read directory", dir)
}

fn copy_file(from: &Path, to: &Path, how: CopyHow) -> io::Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create(to)?);
    let metadata = source.metadata()?;
    match how {
        CopyHow::Reflink => rustix::fs::ioctl_ficlone(&target, &source)?,
        CopyHow::Bytes => {
            let mut buffer = vec![0; usize::try_from(metadata.len()).unwrap_or(usize::MAX).clamp(1, 1 << 18)];
            loop {
                match source.read(&mut buffer)? {
                    0 => break,
                    len => target.write_all(&buffer[..len])?,
                }
            }
        }
    }
    target.set_permissions(metadata.permissions())
}

/// Removes the trees `dirs` in parallel; what is gone already is fine.
///
/// # Errors
///
/// Any other I/O error.
pub fn remove_trees(dirs: &[PathBuf]) -> Result<()> {
    let is_there = |dir: &&PathBuf| fs::symlink_metadata(dir).is_ok();
    in_parallel_waiting(|| dirs.par_iter().filter(is_there).try_for_each(|dir| remove_tree(dir)))?
}

fn remove_tree(dir: &Path) -> Result<()> {
    for (path, kind) in entries(dir)? {
        if kind.is_dir() {
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    fs::remove_dir(dir).at("remove", dir)
}

/// Empties the files of `dir` but leaves their names, in parallel; see `Backing::keeps_inodes`.
///
/// # Errors
///
/// Any I/O error.
pub fn empty_trees(dirs: &[PathBuf]) -> Result<()> {
    in_parallel(|| dirs.par_iter().try_for_each(|dir| empty_tree(dir)))?
}

fn empty_tree(dir: &Path) -> Result<()> {
    for (path, kind) in entries(dir)? {
        if kind.is_dir() {
            empty_tree(&path)?;
        } else if kind.is_file() && 0 < fs::symlink_metadata(&path).at("stat", &path)?.len() {
            File::options().write(true).open(&path).and_then(|it| it.set_len(0)).at("empty", &path)?;
        }
    }
    Ok(())
}
