//! Walks a tree of the host by handles, following nothing.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io;

use crate::entry::{Entry, open_directory};
use crate::listing::{self, Listed};

/// A directory on the way down, and those in it that are still to be entered.
struct Level {
    handle: OwnedFd,
    below: Vec<OsString>,
}

/// Calls `visit` for each entry below `root`, with the handle and the path of its directory, until it breaks.
///
/// A directory is entered once `visit` has seen all its siblings. One that
/// disappears meanwhile is passed over.
///
/// # Errors
///
/// What `openat(2)` and `getdents64(2)` report, `EMFILE` where the tree is deeper than descriptors reach.
pub fn walk(
    root: impl AsFd,
    mut visit: impl FnMut(&OwnedFd, &[OsString], Listed<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let mut path: Vec<OsString> = Vec::new();
    let mut levels = Vec::new();
    let Some(top) = enter(open_directory(root, OsStr::new("."))?, &path, &mut visit)? else { return Ok(()) };
    levels.push(top);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.below.pop() else {
            levels.pop();
            path.pop();
            continue;
        };
        let handle = match open_directory(&level.handle, &name) {
            Err(io::Errno::NOENT | io::Errno::NOTDIR | io::Errno::LOOP) => continue,
            other => other?,
        };
        path.push(name);
        let Some(below) = enter(handle, &path, &mut visit)? else { return Ok(()) };
        levels.push(below);
    }
    Ok(())
}

/// Visits all of one directory; none when that is the end of the walk.
fn enter(
    handle: OwnedFd,
    path: &[OsString],
    visit: &mut impl FnMut(&OwnedFd, &[OsString], Listed<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<Option<Level>> {
    let mut below = Vec::new();
    let mut outcome = Ok(ControlFlow::Continue(()));
    listing::visit(&handle, true, |entry| {
        if !matches!(outcome, Ok(ControlFlow::Continue(()))) {
            return;
        }
        let is_directory = match entry.file_type {
            FileType::Unknown => Entry::At(handle.as_fd(), entry.name)
                .stat()
                .is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Directory),
            file_type => file_type == FileType::Directory,
        };
        if is_directory {
            below.push(entry.name.to_owned());
        }
        outcome = visit(&handle, path, entry);
    })?;
    Ok(outcome?.is_continue().then_some(Level { handle, below }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn visited(root: &std::path::Path, stop_at: &str) -> BTreeSet<PathBuf> {
        let root = fs::File::open(root).unwrap();
        let mut seen = BTreeSet::new();
        walk(&root, |_, path, entry| {
            seen.insert(path.iter().map(OsString::as_os_str).chain([entry.name]).collect());
            Ok(if entry.name == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .unwrap();
        seen
    }

    #[test]
    fn each_entry_is_visited_once_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("a/b/c")).unwrap();
        fs::create_dir_all(scratch.path().join("d")).unwrap();
        fs::write(scratch.path().join("a/b/file"), "").unwrap();
        symlink("..", scratch.path().join("d/up")).unwrap();
        let all = ["a", "a/b", "a/b/c", "a/b/file", "d", "d/up"].map(PathBuf::from);
        assert_eq!(visited(scratch.path(), ""), BTreeSet::from(all));
        let until_c = visited(scratch.path(), "b");
        assert!(until_c.contains(&PathBuf::from("a/b")) && !until_c.contains(&PathBuf::from("a/b/c")));
    }
}
