//! Reads a snapshot; opens nothing for writing, makes nothing, and follows no symbolic link.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aufs_host::draft;
use aufs_host::entry::{Entry, open_directory};
use aufs_host::errno::errno_of;
use aufs_host::listing;
use oci_spec::image::ImageConfiguration;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::snapshot::{Content, Count, Misplaced, Reading, Snapshot, Unreadable};
use super::snapshot::{layer_path, state_path};
use crate::container::{Container, RECORDS};
use crate::count::{self, boot_id};
use crate::error::{StorageErrorKind, failed};
use crate::id::{INIT, LayerId, REMOVING};
use crate::image::digest::Digest;
use crate::image::{LayerRecord, Tag, diff_ids};
use crate::layers_file;
use crate::pending::Note;
use crate::record::{Records, SUFFIX};

/// Where what cannot be understood is moved to; on file systems of its own, also where their fsck does.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

const FILE: &str = "a file";
const DIRECTORY: &str = "a directory";

/// A data root, opened as it is.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    pub(super) path: PathBuf,
}

impl Root {
    /// Opens a data root that is there.
    pub(super) fn open(root: &Path) -> Result<Self, StorageErrorKind> {
        let path = fs::canonicalize(root).map_err(errno_of).map_err(failed("realpath", root))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open", &path))?;
        let home = Self { dir, path };
        // Anything else is more likely a mistyped path than a data root in which all is well.
        Entry::At(home.dir.as_fd(), OsStr::new("aufs"))
            .stat()
            .map_err(failed("stat", home.path.join("aufs")))?;
        Ok(home)
    }

    /// Opens a directory below it.
    pub(super) fn open_below(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), resolve)
    }

    /// Reads all that is to be known.
    pub(super) fn read(&self) -> Result<Snapshot, StorageErrorKind> {
        let boot = boot_id().map_err(failed("read", "/proc"))?;
        let mut reader = Reader { root: self, snapshot: Snapshot { boot, ..Snapshot::default() } };
        reader.top("aufs", &["layers", "diff", "mnt"])?;
        reader.top(
            "aufs-rs",
            &["images", "layers", "tags", RECORDS, "pending", "splits", "counts", "locks", "drafts"],
        )?;
        reader.home()?;
        reader.objects()?;
        reader.marks()?;
        Ok(reader.snapshot)
    }
}

pub(super) struct Reader<'r> {
    pub(super) root: &'r Root,
    pub(super) snapshot: Snapshot,
}

impl Reader<'_> {
    /// Looks for what does not belong into a directory of directories.
    fn top(&mut self, name: &str, expected: &[&str]) -> Result<(), StorageErrorKind> {
        let path = Path::new(name);
        let Some(dir) = self.directory(path)? else { return Ok(()) };
        for (name, _) in self.entries(&dir, path)? {
            if !expected.iter().any(|it| name == *it) {
                self.snapshot.unknown.push(path.join(name));
            }
        }
        Ok(())
    }

    /// Opens a directory; none where it is missing or something else.
    fn directory(&mut self, path: &Path) -> Result<Option<OwnedFd>, StorageErrorKind> {
        let mut dir = self.root.dir.try_clone().map_err(errno_of).map_err(failed("dup", path))?;
        let mut reached = PathBuf::new();
        for name in path {
            reached.push(name);
            dir = match open_directory(&dir, name) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = Entry::At(dir.as_fd(), name).stat();
                    let found = stat.map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode));
                    self.misplace(reached, DIRECTORY, found);
                    self.snapshot.is_layout_broken = true;
                    return Ok(None);
                }
                Err(errno) => return Err(failed("open", self.root.path.join(reached))(errno)),
            };
        }
        Ok(Some(dir))
    }

    fn misplace(&mut self, path: PathBuf, expected: &'static str, found: FileType) {
        let found = match found {
            FileType::RegularFile => FILE,
            FileType::Directory => DIRECTORY,
            FileType::Symlink => "a symbolic link",
            _ => "a special file",
        };
        self.snapshot.misplaced.insert(path, Misplaced { expected, found });
    }

    /// Lists a directory with the type of each entry, sorted.
    fn entries(&self, dir: &OwnedFd, path: &Path) -> Result<Vec<(OsString, FileType)>, StorageErrorKind> {
        let listed = listing::read(dir, |it| (it.name.to_owned(), it.file_type));
        let mut entries = listed.map_err(failed("list", self.root.path.join(path)))?;
        for (name, file_type) in &mut entries {
            if *file_type == FileType::Unknown
                && let Ok(stat) = Entry::At(dir.as_fd(), name).stat()
            {
                *file_type = FileType::from_raw_mode(stat.st_mode);
            }
        }
        // The root of a file system may have one.
        entries.retain(|it| it.0 != LOST_AND_FOUND || it.1 != FileType::Directory);
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// Lists what layers have in a directory of the home.
    pub(super) fn parts(
        &mut self,
        part: &str,
        expected: FileType,
    ) -> Result<Option<(OwnedFd, Vec<LayerId>)>, StorageErrorKind> {
        let path = Path::new("aufs").join(part);
        let Some(dir) = self.directory(&path)? else { return Ok(None) };
        let mut ids = Vec::new();
        for (name, file_type) in self.entries(&dir, &path)? {
            let text = name.to_str().unwrap_or_default();
            if let Ok(id) = text.parse::<LayerId>() {
                if file_type == expected {
                    ids.push(id);
                } else {
                    let expected = if expected == FileType::Directory { DIRECTORY } else { FILE };
                    self.misplace(path.join(name), expected, file_type);
                }
            } else if name.as_encoded_bytes().ends_with(REMOVING.as_bytes())
                && expected == FileType::Directory
            {
                self.snapshot.removing.push(path.join(name));
            } else {
                self.snapshot.unknown.push(path.join(name));
            }
        }
        Ok(Some((dir, ids)))
    }

    /// Reads the three directories of Docker's layout.
    fn home(&mut self) -> Result<(), StorageErrorKind> {
        if let Some((dir, ids)) = self.parts("layers", FileType::RegularFile)? {
            for id in ids {
                let Some(read) = self.head(&dir, &layer_path("layers", &id), layers_file::LEN_MAX)? else {
                    continue;
                };
                let parsed = read.and_then(|bytes| {
                    layers_file::parse(&id, &bytes).map_err(|error| Unreadable::Malformed(error.to_string()))
                });
                self.snapshot.layers.insert(id, parsed);
            }
        }
        let misplaced = self.snapshot.misplaced.keys().filter(|it| it.starts_with("aufs/layers"));
        let misplaced = misplaced.filter_map(|it| it.file_name()?.to_str()?.parse::<LayerId>().ok());
        self.snapshot.layers.extend(misplaced.map(|it| (it, Err(Unreadable::WrongType))).collect::<Vec<_>>());
        if let Some((dir, ids)) = self.parts("diff", FileType::Directory)? {
            for id in ids {
                let content = if self.snapshot.layers.contains_key(&id) {
                    Content::OfLayer
                } else if self.is_empty(&dir, "diff", &id)? {
                    Content::Nothing
                } else {
                    Content::Something
                };
                self.snapshot.diffs.insert(id, content);
            }
        }
        self.mount_points()
    }

    pub(super) fn is_empty(&self, dir: &OwnedFd, part: &str, id: &LayerId) -> Result<bool, StorageErrorKind> {
        // What is mounted there meanwhile is not entered, or whoever unmounts it would find it in use.
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(dir, id.as_str(), flags, Mode::empty(), resolve);
        match opened.and_then(draft::read_names) {
            Err(Errno::NOENT) => Ok(true),
            Err(Errno::XDEV) => Ok(false),
            other => Ok(other.map_err(failed("list", self.root.path.join(layer_path(part, id))))?.is_empty()),
        }
    }

    /// Reads the objects that are written as JSON.
    fn objects(&mut self) -> Result<(), StorageErrorKind> {
        let digest = |it: &str| format!("sha256:{it}").parse::<Digest>().ok();
        let id = |it: &str| it.parse::<LayerId>().ok();
        self.snapshot.has_images = self.directory(&state_path("images", ""))?.is_some();
        self.snapshot.images = self.records("images", digest, |key: &Digest, bytes| {
            if Digest::of(&bytes) != *key {
                return Err("its bytes have another digest".to_owned());
            }
            let config: ImageConfiguration = json(&bytes)?;
            diff_ids(&config).map_err(|kind| kind.to_string())
        })?;
        self.snapshot.records = self.records("layers", digest, |key, bytes| {
            let record: LayerRecord = json(&bytes)?;
            if record.chain_id == *key { Ok(record) } else { Err(MISNAMED.to_owned()) }
        })?;
        self.snapshot.tags = self.records("tags", digest, |key, bytes| {
            let tag: Tag = json(&bytes)?;
            if tag.reference.key() == key.hex() { Ok(tag) } else { Err(MISNAMED.to_owned()) }
        })?;
        self.snapshot.containers = self.records(RECORDS, id, |key, bytes| {
            let container: Container = json(&bytes)?;
            let has_init = format!("{key}{INIT}").parse::<LayerId>().is_ok();
            if container.id == *key && has_init { Ok(container) } else { Err(MISNAMED.to_owned()) }
        })?;
        self.snapshot.notes = self.records("pending", id, |_, bytes| Ok(json::<Note>(&bytes)?.layers))?;
        Ok(())
    }

    fn records<K: Ord, T>(
        &mut self,
        name: &str,
        key_of: impl Fn(&str) -> Option<K>,
        parse: impl Fn(&K, Vec<u8>) -> Result<T, String>,
    ) -> Result<BTreeMap<K, Reading<T>>, StorageErrorKind> {
        let mut found = BTreeMap::new();
        let path = state_path(name, "");
        let Some(dir) = self.directory(&path)? else { return Ok(found) };
        let entries = self.entries(&dir, &path)?;
        let again = dir.try_clone().map_err(errno_of).map_err(failed("dup", &path))?;
        let records = Records::new(dir, self.root.path.join(&path), again);
        for (name, file_type) in entries {
            let key =
                name.to_str().and_then(|it| it.strip_suffix(SUFFIX)).and_then(|it| Some((it, key_of(it)?)));
            let Some((text, key)) = key else {
                self.snapshot.unknown.push(path.join(name));
                continue;
            };
            if file_type != FileType::RegularFile {
                self.misplace(path.join(&name), FILE, file_type);
                found.insert(key, Err(Unreadable::WrongType));
                continue;
            }
            let read = match records.bytes(text) {
                Ok(None) => continue,
                Ok(Some(bytes)) => parse(&key, bytes).map_err(Unreadable::Malformed),
                Err(StorageErrorKind::Call { errno: Errno::ACCESS | Errno::PERM, call, path }) => {
                    return Err(failed(call, path)(Errno::ACCESS));
                }
                Err(kind) => Err(Unreadable::Malformed(kind.to_string())),
            };
            found.insert(key, read);
        }
        Ok(found)
    }

    /// Reads what is neither Docker's nor JSON: counts, locks, drafts, and what is kept of archives.
    fn marks(&mut self) -> Result<(), StorageErrorKind> {
        if let Some((dir, ids)) = self.files("counts", |it| it.parse::<LayerId>().ok())? {
            for id in ids {
                let Some(read) = self.head(&dir, &state_path("counts", &id), count::LEN_MAX)? else {
                    continue;
                };
                let count = match read {
                    Ok(bytes) if bytes.is_empty() => Count::Nothing,
                    Ok(bytes) => serde_json::from_slice(&bytes).map_or(Count::Malformed, Count::Says),
                    Err(_) => Count::Malformed,
                };
                self.snapshot.counts.insert(id, count);
            }
        }
        let locks = self.files("locks", |it| it.parse::<LayerId>().ok())?;
        self.snapshot.locks = locks.map(|it| it.1.into_iter().collect()).unwrap_or_default();
        let splits = self.files("splits", |it| format!("sha256:{it}").parse::<Digest>().ok())?;
        self.snapshot.splits = splits.map(|it| it.1.into_iter().collect()).unwrap_or_default();
        self.files("drafts", |_| None::<()>)?;
        Ok(())
    }

    /// Lists files of ours by their keys; drafts and what has no key are put aside.
    fn files<K>(
        &mut self,
        name: &str,
        key_of: impl Fn(&str) -> Option<K>,
    ) -> Result<Option<(OwnedFd, Vec<K>)>, StorageErrorKind> {
        let path = state_path(name, "");
        let Some(dir) = self.directory(&path)? else { return Ok(None) };
        let mut keys = Vec::new();
        for (name, file_type) in self.entries(&dir, &path)? {
            let owner =
                draft::owner_of(&name).filter(|_| path.ends_with("drafts") || path.ends_with("splits"));
            match (name.to_str().and_then(&key_of), owner) {
                (_, Some(owner)) if draft::is_alive(owner) => {}
                (_, Some(_)) => self.snapshot.drafts.push(path.join(name)),
                (None, None) => self.snapshot.unknown.push(path.join(name)),
                (Some(key), None) if file_type == FileType::RegularFile => keys.push(key),
                (Some(_), None) => self.misplace(path.join(name), FILE, file_type),
            }
        }
        Ok(Some((dir, keys)))
    }

    /// Reads a short file; none when it is gone.
    fn head(
        &self,
        dir: &OwnedFd,
        path: &Path,
        len_max: u64,
    ) -> Result<Option<Reading<Vec<u8>>>, StorageErrorKind> {
        let name = path.file_name().unwrap_or_default();
        let mut bytes = Vec::new();
        let file = Entry::At(dir.as_fd(), name).open(OFlags::RDONLY | OFlags::NONBLOCK);
        let read = file.and_then(|it: File| it.take(len_max + 1).read_to_end(&mut bytes).map_err(errno_of));
        match read {
            Err(Errno::NOENT) => Ok(None),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
                Err(failed("open", self.root.path.join(path))(errno))
            }
            Err(errno) => Ok(Some(Err(Unreadable::Malformed(errno.to_string())))),
            Ok(len) if len_max < len as u64 => {
                Ok(Some(Err(Unreadable::Malformed(format!("more than {len_max} bytes")))))
            }
            Ok(_) => Ok(Some(Ok(bytes))),
        }
    }
}

const MISNAMED: &str = "it tells of something else than its name";

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
