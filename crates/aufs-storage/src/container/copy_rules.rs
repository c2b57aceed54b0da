//! Where a copy goes: the rules of `docker cp`. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::archive::split;

/// Why there is no copy; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyFault {
    /// A path has no characters.
    #[error("a path is empty; / is the root of a container")]
    NoPath,
    /// There is nothing to copy.
    #[error("{} does not exist", .0.display())]
    NoSource(PathBuf),
    /// What is to be copied is a socket, or a device without its owner.
    #[error("{} is a socket or a device; -a copies a device", .0.display())]
    NoFile(PathBuf),
    /// The directory in which something is to be made is missing.
    #[error("the directory of {} does not exist; make it first", .0.display())]
    NoParent(PathBuf),
    /// A file is to go into a directory that is missing.
    #[error("the directory {} does not exist; make it first", .0.display())]
    NoDirectory(PathBuf),
    /// A path asks for a directory, and something else is there.
    #[error("{} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// A directory is to take the place of a file.
    #[error("{} is not a directory, and a directory cannot be copied onto it", .0.display())]
    OntoFile(PathBuf),
    /// A device, a pipe or a socket is to be replaced.
    #[error("{} is neither a file nor a directory; remove it first", .0.display())]
    OntoSpecial(PathBuf),
    /// What is mounted there takes no writes, as a volume with `:ro`.
    #[error("{} lies where nothing can be written, such as in a read-only volume", .0.display())]
    ReadOnly(PathBuf),
}

impl CopyFault {
    /// Returns the errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoPath | Self::NoFile(_) => Errno::INVAL,
            Self::NoSource(_) | Self::NoParent(_) | Self::NoDirectory(_) => Errno::NOENT,
            Self::NotDirectory(_) | Self::OntoFile(_) => Errno::NOTDIR,
            Self::OntoSpecial(_) => Errno::EXIST,
            Self::ReadOnly(_) => Errno::ROFS,
        }
    }
}

/// A path as somebody asked for it, cleaned of `.` and `..` as Docker does it: by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// As it was written, for messages.
    pub(super) shown: &'a Path,
    /// From the root, without a slash in front; empty for the root.
    pub(super) path: Vec<u8>,
    /// Whether it can mean nothing but a directory, since it ends in `/`, `/.` or `/..`.
    pub(super) is_directory: bool,
    /// Whether it means what a directory holds, not the directory, since it ends in `/.`.
    pub(super) is_content: bool,
}

impl<'a> Asked<'a> {
    /// Takes `path` from the directory `base`.
    pub(super) fn of(shown: &'a Path, base: &Path) -> Result<Self, CopyFault> {
        let written = shown.as_os_str().as_bytes();
        if written.is_empty() {
            return Err(CopyFault::NoPath);
        }
        let last = written.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let joined = base.join(shown);
        let mut names: Vec<&[u8]> = Vec::new();
        for name in joined.as_os_str().as_bytes().split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        Ok(Self {
            shown,
            is_directory: matches!(last, b"" | b"." | b".."),
            is_content: last == b"." || names.is_empty(),
            path: names.join(&b'/'),
        })
    }

    /// The last name of the path; none of the root.
    pub(super) fn name(&self) -> &[u8] {
        split(&self.path).1
    }
}

/// What is to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A file, a link, or whatever else is no directory.
    File,
    Directory,
    /// What a directory holds.
    Content,
}

/// What is found where the copy is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    File,
    Missing,
}

/// What a copy becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// An entry of the directory that was found, under the name of the source.
    Entry,
    /// All that the source holds becomes entries of the directory that was found.
    Entries,
    /// What was asked for by name, anew or in the place of a file.
    Named,
}

/// Decides what a copy of `source` becomes at `to`, where `found` is.
pub(super) fn decide(source: Source, found: Found, to: &Asked<'_>) -> Result<Becomes, CopyFault> {
    let shown = || to.shown.to_owned();
    match (source, found) {
        (Source::Content, Found::Directory) => Ok(Becomes::Entries),
        (_, Found::Directory) => Ok(Becomes::Entry),
        (_, Found::File) if to.is_directory => Err(CopyFault::NotDirectory(shown())),
        (Source::File, Found::File) => Ok(Becomes::Named),
        (_, Found::File) => Err(CopyFault::OntoFile(shown())),
        (Source::File, Found::Missing) if to.is_directory => Err(CopyFault::NoDirectory(shown())),
        (_, Found::Missing) => Ok(Becomes::Named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_from_the_root() {
        for (shown, path, name, is_directory, is_content) in [
            ("/", "", "", true, true),
            (".", "w/d", "d", true, true),
            ("..", "w", "w", true, false),
            ("../..", "", "", true, true),
            ("../../../..", "", "", true, true),
            ("a", "w/d/a", "a", false, false),
            ("a/", "w/d/a", "a", true, false),
            ("a/.", "w/d/a", "a", true, true),
            ("a/..", "w/d", "d", true, false),
            ("/a//b/./c", "a/b/c", "c", false, false),
            ("/a/../../b", "b", "b", false, false),
            ("/a/...", "a/...", "...", false, false),
            ("./x:y", "w/d/x:y", "x:y", false, false),
        ] {
            let asked = Asked::of(Path::new(shown), Path::new("/w/d")).unwrap();
            let seen = (asked.path.as_slice(), asked.name(), asked.is_directory, asked.is_content);
            assert_eq!(seen, (path.as_bytes(), name.as_bytes(), is_directory, is_content), "{shown}");
        }
        assert_eq!(Asked::of(Path::new(""), Path::new("/")), Err(CopyFault::NoPath));
    }

    #[test]
    fn the_table_of_docker_decides() {
        use Becomes::{Entries, Entry, Named};
        let [no_directory, not_directory, onto_file] =
            [CopyFault::NoDirectory, CopyFault::NotDirectory, CopyFault::OntoFile];
        let to = PathBuf::from;
        for (source, found, shown, expected) in [
            (Source::File, Found::Missing, "/to", Ok(Named)),
            (Source::File, Found::Missing, "/to/", Err(no_directory(to("/to/")))),
            (Source::File, Found::Missing, "/to/.", Err(no_directory(to("/to/.")))),
            (Source::File, Found::File, "/to", Ok(Named)),
            (Source::File, Found::File, "/to/", Err(not_directory(to("/to/")))),
            (Source::File, Found::Directory, "/to", Ok(Entry)),
            (Source::File, Found::Directory, "/to/", Ok(Entry)),
            (Source::Directory, Found::Missing, "/to", Ok(Named)),
            (Source::Directory, Found::Missing, "/to/", Ok(Named)),
            (Source::Directory, Found::File, "/to", Err(onto_file(to("/to")))),
            (Source::Directory, Found::Directory, "/to", Ok(Entry)),
            (Source::Content, Found::Missing, "/to", Ok(Named)),
            (Source::Content, Found::File, "/to", Err(onto_file(to("/to")))),
            (Source::Content, Found::Directory, "/to", Ok(Entries)),
        ] {
            let asked = Asked::of(Path::new(shown), Path::new("/")).unwrap();
            assert_eq!(decide(source, found, &asked), expected, "{source:?} {found:?} {shown}");
        }
    }
}
