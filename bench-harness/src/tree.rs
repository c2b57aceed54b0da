//! Trees of many small files: one description for the layers that hold them and the models that use them.
//!
//! ```text
//! DIR/f0 DIR/f1 …              flat, for listings
//! DIR/d0/f0 … DIR/d99/f9999    spread over directories, file i in directory i mod n
//! ```

use std::path::{Path, PathBuf};

use crate::layers::FileSpec;

/// How the files of a tree are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All in one directory.
    Flat,
    /// Evenly over this many directories.
    Dirs(u32),
}

/// A tree below the path of a [`FileSpec`].
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    spec: &'a FileSpec,
    shape: Shape,
}

impl<'a> Tree<'a> {
    /// The tree of `spec` in `shape`.
    pub fn new(spec: &'a FileSpec, shape: Shape) -> Self {
        Self { spec, shape }
    }

    /// Its directories below `base`, the outermost first.
    pub fn dirs(&self, base: &Path) -> Vec<PathBuf> {
        let n_dirs = match self.shape {
            Shape::Flat => 0,
            Shape::Dirs(n) => n.min(self.spec.entries),
        };
        let inner = (0..n_dirs).map(|it| base.join(format!("d{it}")));
        [base.to_owned()].into_iter().chain(inner).collect()
    }

    /// Its files below `base`: path, and the number that the content carries.
    pub fn files(&self, base: &Path) -> Vec<(PathBuf, u64)> {
        (0..self.spec.entries)
            .map(|it| (base.join(self.name(it)), self.spec.number + u64::from(it)))
            .collect()
    }

    /// The path of file `index` below the tree.
    pub fn name(&self, index: u32) -> PathBuf {
        match self.shape {
            Shape::Flat => PathBuf::from(format!("f{index}")),
            Shape::Dirs(n) => PathBuf::from(format!("d{}/f{index}", index % n.max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_the_directories_that_are_made() {
        let path = PathBuf::from("data/t");
        let spec = |entries| FileSpec { path: path.clone(), number: 5, len_bytes: 10, found_at: 1, entries };
        for (shape, entries, n_dirs) in
            [(Shape::Flat, 7, 1), (Shape::Dirs(3), 7, 4), (Shape::Dirs(100), 7, 8), (Shape::Dirs(3), 0, 1)]
        {
            let spec = spec(entries);
            let tree = Tree::new(&spec, shape);
            let (dirs, files) = (tree.dirs(&path), tree.files(&path));
            assert_eq!((dirs.len(), files.len()), (n_dirs, entries as usize), "{shape:?} {entries}");
            assert!(files.iter().all(|(file, _)| dirs.iter().any(|dir| file.parent() == Some(dir))));
            let numbers: Vec<u64> = files.iter().map(|it| it.1).collect();
            assert_eq!(numbers, (5..5 + u64::from(entries)).collect::<Vec<_>>());
        }
    }
}
