//! Where images come from: a directory, or an archive of one, which need not be a file that can be read twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aufs_host::draft::nameless_file;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tracing::debug;

use super::error::{ImageErrorKind, host, refused};
use crate::archive::{CompressionLimits, open_compressed};

/// Longest document of an image, in bytes.
const DOCUMENT_LEN_MAX: u64 = 8 << 20;

/// Most members of an archive of images: each has a handful.
const MEMBERS_MAX: usize = 100_000;

/// Longest way over symbolic links within an archive, as docker save of old wrote for layers that were there already.
const LINKS_MAX: usize = 8;

/// An image layout that can be read.
#[derive(Debug)]
pub(crate) struct Source {
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Directory(OwnedFd),
    Archive { file: Arc<File>, members: HashMap<String, Member> },
}

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    File { start: u64, len: u64 },
    Link(String),
}

impl Source {
    /// Opens a directory, or an archive that may be compressed; what is needed twice goes to a file without name in `drafts`.
    pub(crate) fn open(path: &Path, drafts: BorrowedFd<'_>) -> Result<Self, ImageErrorKind> {
        let file = File::open(path).map_err(ImageErrorKind::io("open", path))?;
        let stat = file.metadata().map_err(ImageErrorKind::io("stat", path))?;
        if stat.is_dir() {
            return Ok(Self { kind: Kind::Directory(file.into()), path: path.to_owned() });
        }
        if stat.is_file() && !is_compressed(&file).map_err(ImageErrorKind::io("read", path))? {
            return Self::of_archive(file, path);
        }
        Self::of_stream(file, path, drafts)
    }

    /// Reads a stream to its end.
    pub(crate) fn of_stream(
        stream: impl Read,
        path: &Path,
        drafts: BorrowedFd<'_>,
    ) -> Result<Self, ImageErrorKind> {
        let kept = nameless_file(drafts, 0o600).map_err(host).map_err(refused("create", path))?;
        let mut kept = kept.ok_or_else(|| refused("create", path)(host(Errno::OPNOTSUPP)))?;
        let mut plain = open_compressed(stream, &CompressionLimits::default())
            .map_err(ImageErrorKind::io("read", path))?;
        io::copy(&mut plain, &mut kept).map_err(ImageErrorKind::io("read", path))?;
        Self::of_archive(kept, path)
    }

    /// One member of this name, the whole of a file.
    pub(super) fn of_file(name: &str, file: File) -> Result<Self, ImageErrorKind> {
        let len = file.metadata().map_err(ImageErrorKind::io("stat", name))?.len();
        let members = HashMap::from([(name.to_owned(), Member::File { start: 0, len })]);
        Ok(Self { kind: Kind::Archive { file: Arc::new(file), members }, path: PathBuf::from(name) })
    }

    fn of_archive(mut file: File, path: &Path) -> Result<Self, ImageErrorKind> {
        // What the file holds instead of an archive is not for terminals.
        let not = |error: io::Error| {
            debug!(?path, %error, "not an archive");
            ImageErrorKind::NotAnImage { reason: "it is no tar archive, or a damaged one".to_owned() }
        };
        file.seek(SeekFrom::Start(0)).map_err(ImageErrorKind::io("read", path))?;
        let mut members = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(not)? {
            let entry = entry.map_err(not)?;
            let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
            let member = match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    Member::File { start: entry.raw_file_position(), len: entry.size() }
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    Member::Link(beside(&name, &String::from_utf8_lossy(&target)))
                }
                tar::EntryType::Link => Member::Link(plain(&String::from_utf8_lossy(
                    &entry.link_name_bytes().unwrap_or_default(),
                ))),
                _ => continue,
            };
            members.insert(name, member);
            if MEMBERS_MAX < members.len() {
                return Err(ImageErrorKind::NotAnImage {
                    reason: format!("it has more than {MEMBERS_MAX} members"),
                });
            }
        }
        Ok(Self { kind: Kind::Archive { file: Arc::new(file), members }, path: path.to_owned() })
    }

    /// Opens a member; returns its length too, in bytes.
    pub(crate) fn member(&self, name: &str) -> Result<(Part, u64), ImageErrorKind> {
        let missing = || ImageErrorKind::MissingMember { member: name.to_owned() };
        match &self.kind {
            Kind::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // A layout may share its files by links, but not with what lies outside of it.
                let opened =
                    rustix::fs::openat2(dir, plain(name), flags, Mode::empty(), ResolveFlags::BENEATH);
                let file = match opened {
                    Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
                    other => File::from(
                        other.map_err(host).map_err(ImageErrorKind::io("open", self.path.join(name)))?,
                    ),
                };
                let stat = file.metadata().map_err(ImageErrorKind::io("stat", self.path.join(name)))?;
                if !stat.is_file() {
                    return Err(missing());
                }
                Ok((Part { file: Arc::new(file), at: 0, end: stat.len() }, stat.len()))
            }
            Kind::Archive { file, members } => {
                let mut name = plain(name);
                for _ in 0..LINKS_MAX {
                    match members.get(&name) {
                        Some(Member::File { start, len }) => {
                            let end = start.saturating_add(*len);
                            return Ok((Part { file: Arc::clone(file), at: *start, end }, *len));
                        }
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Err(missing()),
                    }
                }
                Err(missing())
            }
        }
    }

    /// Reads a document.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>, ImageErrorKind> {
        let (mut part, len) = self.member(name)?;
        if DOCUMENT_LEN_MAX < len {
            return Err(ImageErrorKind::TooLong { member: name.to_owned(), len_max: DOCUMENT_LEN_MAX });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(ImageErrorKind::io("read", self.path.join(name)))?;
        Ok(bytes)
    }
}

/// A part of a file, read from its beginning, whoever reads other parts.
#[derive(Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let len = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Whether a file begins as gzip or zstd do.
fn is_compressed(file: &File) -> io::Result<bool> {
    let mut magic = [0; 4];
    let len = file.read_at(&mut magic, 0)?;
    let begins = |with: &[u8]| magic[..len].starts_with(with);
    Ok(begins(&[0x1f, 0x8b]) || begins(&[0x28, 0xb5, 0x2f, 0xfd]))
}

/// A name without `./` and the like.
fn plain(name: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in name.split('/').filter(|it| !it.is_empty() && *it != ".") {
        if component == ".." {
            components.pop();
        } else {
            components.push(component);
        }
    }
    components.join("/")
}

/// What a symbolic link at `name` leads to.
fn beside(name: &str, target: &str) -> String {
    let parent = name.rsplit_once('/').map_or("", |it| it.0);
    plain(&format!("{parent}/{target}"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// A layout of two members, one a link to the other, as a directory and as archives.
    fn sources() -> Vec<(&'static str, Source, tempfile::TempDir)> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut put = |path: &str, kind, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            if kind == tar::EntryType::Symlink {
                header.set_size(0);
                builder.append_link(&mut header, path, text).unwrap();
            } else {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
        };
        put("./a/one", tar::EntryType::Regular, "first");
        put("b/two", tar::EntryType::Symlink, "../a/one");
        put("b/out", tar::EntryType::Symlink, "../../etc/passwd");
        put("b/round", tar::EntryType::Symlink, "round");
        let archive = builder.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &archive).unwrap();
        let scratch = || tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for (case, bytes) in [("archive", archive), ("compressed", gzip.finish().unwrap())] {
            let dir = scratch();
            std::fs::write(dir.path().join("it"), bytes).unwrap();
            let drafts = File::open(dir.path()).unwrap();
            all.push((case, Source::open(&dir.path().join("it"), drafts.as_fd()).unwrap(), dir));
        }
        let dir = scratch();
        for sub in ["a", "b"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        std::fs::write(dir.path().join("a/one"), "first").unwrap();
        for (name, target) in [("two", "../a/one"), ("out", "../../etc/passwd"), ("round", "round")] {
            std::os::unix::fs::symlink(target, dir.path().join("b").join(name)).unwrap();
        }
        let drafts = File::open(dir.path()).unwrap();
        all.push(("directory", Source::open(dir.path(), drafts.as_fd()).unwrap(), dir));
        all
    }

    #[test]
    fn members_are_found_in_every_form() {
        for (case, source, _dir) in sources() {
            for name in ["a/one", "./a/one", "b/two", "a//one"] {
                assert_eq!(source.document(name).unwrap(), b"first", "{case} {name}");
            }
            for name in ["a", "none", "b/out", "b/round", "", "a/one/more"] {
                assert!(source.member(name).is_err(), "{case} {name:?}");
            }
        }
    }

    #[test]
    fn what_is_no_archive_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        std::fs::write(&path, "x".repeat(2000)).unwrap();
        let drafts = File::open(dir.path()).unwrap();
        let error = Source::open(&path, drafts.as_fd()).unwrap_err();
        assert!(matches!(error, ImageErrorKind::NotAnImage { .. }), "{error}");
        assert!(matches!(
            Source::open(&dir.path().join("no"), drafts.as_fd()),
            Err(ImageErrorKind::Io { .. })
        ));
    }
}
