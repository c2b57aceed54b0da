//! What stands on a writable branch for a name that was removed, whichever union has written it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Bed;
use crate::error::{At as _, Result};
use crate::layers::FileSpec;

/// Whether `entry` can stand for the removed `name`: the name itself (a device 0/0), or the name with
/// something of the union's before it (`.wh.NAME`) or after it (`NAME_HIDDEN~`).
fn stands_for(entry: &OsStr, name: &OsStr) -> bool {
    let (entry, name) = (entry.as_bytes(), name.as_bytes());
    let before_ends = |before: &[u8]| before.is_empty() || before.starts_with(b".");
    // NAME1 must not be taken for a marker of NAME.
    let after_begins = |after: &[u8]| after.first().is_none_or(|byte| !byte.is_ascii_alphanumeric());
    entry
        .windows(name.len().max(1))
        .position(|window| window == name)
        .is_some_and(|at| before_ends(&entry[..at]) && after_begins(&entry[at + name.len()..]))
}

/// The entries of `dir` that can stand for `name`; none where there is no such directory.
fn markers_in(dir: &Path, name: &OsStr) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|it| stands_for(&it.file_name(), name)).map(|it| it.path()).collect()
}

/// What of the branch `upper` stands for the removed `path`: beside where it was, or at the same place
/// in a hidden directory at the top.
fn markers(upper: &Path, path: &Path) -> Vec<PathBuf> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Vec::new() };
    let hidden = std::fs::read_dir(upper).into_iter().flatten().flatten();
    let hidden = hidden.filter(|it| it.file_name().as_bytes().starts_with(b".")).map(|it| it.path());
    let roots = [upper.to_owned()].into_iter().chain(hidden);
    roots.flat_map(|root| markers_in(&root.join(parent), name)).collect()
}

/// Space that `path` takes with all that lies below it, in bytes; 0 where there is nothing.
pub(super) fn space_of(path: &Path) -> u64 {
    let Ok(stat) = std::fs::symlink_metadata(path) else { return 0 };
    let inner =
        || std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| space_of(&it.path())).sum();
    let below: u64 = if stat.is_dir() { inner() } else { 0 };
    stat.blocks() * 512 + below
}

impl Bed<'_> {
    /// Checks that the writable branch says that `file` is gone, for drivers that have one.
    pub(super) fn check_marked(&self, file: &FileSpec) -> Result<()> {
        match &self.view.upper {
            Some(upper) if markers(upper, &file.path).is_empty() => {
                Err(self.incorrect(file, "no whiteout on the writable branch".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Space that the whiteouts of `file` take on the writable branch.
    pub(super) fn marker_bytes(&self, file: &FileSpec) -> Option<u64> {
        let upper = self.view.upper.as_ref()?;
        Some(markers(upper, &file.path).iter().map(|it| space_of(it)).sum())
    }

    /// Checks that the layer still has its own `file`, with the length that it was made with.
    pub(super) fn check_below(&self, file: &FileSpec) -> Result<()> {
        let path = self.layers.lower_path(file);
        let len_bytes = std::fs::symlink_metadata(&path).at("stat layer file", &path)?.len();
        if len_bytes == file.len_bytes {
            return Ok(());
        }
        Err(self.incorrect(file, format!("the layer's file has {len_bytes} bytes now")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_of_all_unions_are_known() {
        for (entry, expected) in [
            ("f-1", true),
            (".wh.f-1", true),
            ("f-1_HIDDEN~", true),
            ("f-12", false),
            (".wh.f-12", false),
            ("of-1", false),
            ("moved-1", false),
            ("", false),
        ] {
            assert_eq!(stands_for(OsStr::new(entry), OsStr::new("f-1")), expected, "{entry}");
        }
    }

    #[test]
    fn markers_lie_beside_or_in_a_hidden_directory() {
        let upper = tempfile::tempdir().unwrap();
        let path = Path::new("data/f");
        assert!(markers(upper.path(), path).is_empty(), "an empty branch");
        for dir in ["data", ".unionfs/data", "other"] {
            std::fs::create_dir_all(upper.path().join(dir)).unwrap();
        }
        std::fs::write(upper.path().join("other/f"), "").unwrap();
        assert!(markers(upper.path(), path).is_empty(), "another directory");
        for name in ["data/.wh.f", ".unionfs/data/f_HIDDEN~"] {
            std::fs::write(upper.path().join(name), "").unwrap();
            assert_eq!(markers(upper.path(), path), [upper.path().join(name)]);
            std::fs::remove_file(upper.path().join(name)).unwrap();
        }
    }

    #[test]
    fn space_of_a_tree_is_that_of_all_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let empty = space_of(dir.path());
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), vec![1; 20_000]).unwrap();
        assert!(empty + 20_000 <= space_of(dir.path()));
        assert_eq!(space_of(&dir.path().join("none")), 0);
    }
}
