//! Objects of ours on disk, one JSON file each, which a crash leaves as they were or as they are to be.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aufs_host::draft::{fresh_name, read_names};
use aufs_host::errno::errno_of;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::error::{StorageErrorKind, failed};

/// Longest object read, in bytes; image configurations are the longest.
const LEN_MAX: u64 = 8 << 20;

/// What the name of an object's file has after its key.
pub(crate) const SUFFIX: &str = ".json";

/// A directory of objects.
#[derive(Debug)]
pub(crate) struct Records {
    dir: OwnedFd,
    path: PathBuf,
    /// Where objects are written before they show, and what a crash leaves goes at the next start.
    drafts: OwnedFd,
}

impl Records {
    /// The objects in an open directory.
    pub(crate) fn new(dir: OwnedFd, path: PathBuf, drafts: OwnedFd) -> Self {
        Self { dir, path, drafts }
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}{SUFFIX}"))
    }

    /// Returns the keys of all objects, sorted.
    pub(crate) fn keys(&self) -> Result<Vec<String>, StorageErrorKind> {
        let names = read_names(&self.dir).map_err(failed("list", &self.path))?;
        let key = |it: &std::ffi::OsString| Some(it.to_str()?.strip_suffix(SUFFIX)?.to_owned());
        let mut keys: Vec<_> = names.iter().filter_map(key).collect();
        keys.sort();
        Ok(keys)
    }

    /// Returns the bytes of an object; none when there is no such.
    pub(crate) fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, StorageErrorKind> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{key}{SUFFIX}");
        let file = match rustix::fs::openat(&self.dir, &name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
            other => other.map_err(failed("open", self.file(key)))?,
        };
        let mut bytes = Vec::new();
        let len = File::from(file).take(LEN_MAX + 1).read_to_end(&mut bytes);
        let len = len.map_err(|error| failed("read", self.file(key))(errno_of(error)))?;
        if LEN_MAX < len as u64 {
            return Err(failed("read", self.file(key))(Errno::FBIG));
        }
        Ok(Some(bytes))
    }

    /// Returns an object; none when there is no such.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StorageErrorKind> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| StorageErrorKind::Record { path: self.file(key), error })
    }

    /// Writes an object anew.
    pub(crate) fn put<T: Serialize>(&self, key: &str, object: &T) -> Result<(), StorageErrorKind> {
        let mut text = serde_json::to_vec_pretty(object)
            .map_err(|error| StorageErrorKind::Record { path: self.file(key), error })?;
        text.push(b'\n');
        self.put_bytes(key, &text)
    }

    /// Writes the bytes of an object anew.
    pub(crate) fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<(), StorageErrorKind> {
        let path = self.file(key);
        let draft_name = fresh_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.drafts, &draft_name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(made.map_err(failed("create", &path))?);
        let write = || -> Result<(), Errno> {
            file.write_all(bytes).map_err(errno_of)?;
            rustix::fs::fsync(&file)?;
            rustix::fs::renameat(&self.drafts, &draft_name, &self.dir, format!("{key}{SUFFIX}"))
        };
        let written = { write }();
        if let Err(errno) = written {
            if let Err(errno) = rustix::fs::unlinkat(&self.drafts, &draft_name, AtFlags::empty()) {
                debug!(?path, %errno, "a draft stays, which is no object");
            }
            return Err(failed("write", path)(errno));
        }
        rustix::fs::fsync(&self.dir).map_err(failed("fsync", &self.path))
    }

    /// Removes an object; one that does not exist is fine.
    pub(crate) fn remove(&self, key: &str) -> Result<(), StorageErrorKind> {
        match rustix::fs::unlinkat(&self.dir, format!("{key}{SUFFIX}"), AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed("unlink", self.file(key)))?,
        }
        rustix::fs::fsync(&self.dir).map_err(failed("fsync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let open = || OwnedFd::from(File::open(dir.path()).unwrap());
        let records = Records::new(open(), dir.path().to_owned(), open());
        assert_eq!(records.get::<u32>("a").unwrap(), None);
        records.put("a", &1).unwrap();
        records.put("a", &22).unwrap();
        records.put("b", &3).unwrap();
        assert_eq!((records.get("a").unwrap(), records.get("b").unwrap()), (Some(22), Some(3)));
        std::fs::write(dir.path().join("1.0"), "a draft of a crash").unwrap();
        assert_eq!(records.keys().unwrap(), ["a", "b"]);
        std::fs::write(dir.path().join("c.json"), "").unwrap();
        let error = records.get::<u32>("c").unwrap_err().to_string();
        assert!(error.contains("c.json") && error.contains("EOF"), "{error}");
        records.remove("a").unwrap();
        records.remove("a").unwrap();
        assert_eq!(records.keys().unwrap(), ["b", "c"]);
    }
}
