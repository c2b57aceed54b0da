//! What a directory's file system can do.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, StatVfsMountFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{DetectError, DetectErrorKind};
use crate::fact::{Answer, Fact};
use crate::statfs_type::docker_name;

/// What a directory's file system can do for the calling process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFacts {
    /// The directory as the caller named it.
    #[serde(serialize_with = "path_as_text")]
    pub path: PathBuf,
    /// The file system by Docker's name: `extfs`, `xfs`, `btrfs`, `tmpfs`, `overlayfs`, …, or `unknown`.
    pub backing_fs: Fact<String>,
    /// Whether the caller can create files here.
    pub writable: Fact<Answer>,
    /// Whether `FICLONE` shares extents.
    pub reflink: Fact<Answer>,
    /// Whether `O_TMPFILE` works.
    pub o_tmpfile: Fact<Answer>,
    /// Whether `user.*` attributes can be set.
    pub user_xattrs: Fact<Answer>,
    /// Whether `trusted.*` attributes can be set.
    pub trusted_xattrs: Fact<Answer>,
    /// Whether directory entries tell their type.
    pub d_type: Fact<Answer>,
    /// Bytes that the caller may still use.
    pub free_bytes: Fact<u64>,
    /// Inodes that the caller may still use; `None` where they are made on demand.
    pub free_inodes: Fact<Option<u64>>,
}

/// JSON is UTF-8, and a path need not be.
fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Finds out what the file system of the directory `path` can do.
///
/// Trials use files without a name, so that nothing is left even when the process is killed.
///
/// # Errors
///
/// `path` is missing, is not a directory, may not be entered, or is a mount whose server died.
pub fn detect_directory(path: &Path) -> Result<DirectoryFacts, DetectError> {
    let during = |op| move |errno: Errno| DetectErrorKind::from(errno).during(op, path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(during("open"))?;
    let statfs = rustix::fs::fstatfs(&directory).map_err(during("statfs"))?;
    let statvfs = rustix::fs::fstatvfs(&directory).map_err(during("statfs"))?;

    // f_type is signed on some architectures and 32 bits wide in meaning.
    let magic = statfs.f_type as u32;
    let is_read_only = statvfs.f_flag.contains(StatVfsMountFlags::RDONLY);
    let files = [trial_file(&directory, path), trial_file(&directory, path)];
    let [first, second] = &files;
    Ok(DirectoryFacts {
        path: path.to_owned(),
        backing_fs: Fact::new(
            docker_name(magic).unwrap_or("unknown").to_owned(),
            format!("statfs type {magic:#x}"),
        ),
        writable: match first {
            Ok(_) => Fact::new(Answer::Yes, "created a file without a name"),
            Err(errno) if is_read_only => Fact::new(Answer::No, format!("mounted read-only: {errno}")),
            Err(errno) => Fact::new(Answer::No, format!("create a file: {errno}")),
        },
        reflink: with(first, |from| with(second, |to| reflink(from, to))),
        o_tmpfile: o_tmpfile(&directory),
        user_xattrs: with(first, |file| xattr(file, "user.aufs-detect")),
        trusted_xattrs: with(first, |file| xattr(file, "trusted.aufs-detect")),
        d_type: d_type(&directory),
        free_bytes: Fact::new(statvfs.f_bavail.saturating_mul(statvfs.f_frsize), "statvfs"),
        free_inodes: match statvfs.f_files {
            0 => Fact::new(None, "statvfs counts no inodes: they are made on demand"),
            _ => Fact::new(Some(statvfs.f_favail), "statvfs"),
        },
    })
}

/// Creates a file that has no name, or loses it at once where `O_TMPFILE` is missing.
fn trial_file(directory: &OwnedFd, path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        Err(errno) if is_missing(errno) => tempfile::tempfile_in(path).map_err(aufs_host::errno_of),
        Err(errno) => Err(errno),
    }
}

/// Whether an errno says that the file system lacks the call, rather than that the caller may not.
fn is_missing(errno: Errno) -> bool {
    // Kernels before 3.11 and some file systems take O_TMPFILE for the open of a directory.
    matches!(
        errno,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY | Errno::INVAL | Errno::ISDIR | Errno::XDEV
    )
}

/// Runs a trial on a file, if there is one.
fn with(file: &Result<File, Errno>, trial: impl FnOnce(&File) -> Fact<Answer>) -> Fact<Answer> {
    match file {
        Ok(file) => trial(file),
        Err(errno) => Fact::new(Answer::Unknown, format!("no file to try it on: {errno}")),
    }
}

fn reflink(from: &File, to: &File) -> Fact<Answer> {
    // Extents are shared by whole blocks; a page is a multiple of every block size in use.
    let mut writer = from;
    if let Err(error) = writer.write_all(&[1; 65536]) {
        return Fact::new(Answer::Unknown, format!("no data to try it on: {error}"));
    }
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Fact::new(Answer::Yes, "FICLONE worked"),
        Err(errno) if is_missing(errno) => Fact::new(Answer::No, format!("FICLONE: {errno}")),
        Err(errno) => Fact::new(Answer::Unknown, format!("FICLONE: {errno}")),
    }
}

fn o_tmpfile(directory: &OwnedFd) -> Fact<Answer> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) => Fact::new(Answer::Yes, "open with O_TMPFILE worked"),
        Err(errno) if is_missing(errno) => Fact::new(Answer::No, format!("open with O_TMPFILE: {errno}")),
        Err(errno) => Fact::new(Answer::Unknown, format!("open with O_TMPFILE: {errno}")),
    }
}

fn xattr(file: &File, name: &str) -> Fact<Answer> {
    match rustix::fs::fsetxattr(file, name, b"1", XattrFlags::empty()) {
        Ok(()) => Fact::new(Answer::Yes, format!("set {name}")),
        Err(Errno::PERM) => Fact::new(
            Answer::No,
            format!("set {name}: {}; it needs CAP_SYS_ADMIN in the initial user namespace", Errno::PERM),
        ),
        Err(errno) => Fact::new(Answer::No, format!("set {name}: {errno}")),
    }
}

/// Judges by an entry that is there; creating one would move the directory's mtime.
fn d_type(directory: &OwnedFd) -> Fact<Answer> {
    let entries = match Dir::read_from(directory.as_fd()) {
        Ok(entries) => entries,
        Err(errno) => return Fact::new(Answer::Unknown, format!("read the directory: {errno}")),
    };
    let mut own_type = None;
    for entry in entries.flatten() {
        let is_dot = matches!(entry.file_name().to_bytes(), b"." | b"..");
        match (is_dot, entry.file_type()) {
            (false, FileType::Unknown) => return Fact::new(Answer::No, "an entry has type DT_UNKNOWN"),
            (false, _) => return Fact::new(Answer::Yes, "entries tell their type"),
            (true, own) => own_type = Some(own),
        }
    }
    match own_type {
        None => Fact::new(Answer::Unknown, "the directory lists nothing, not even itself"),
        Some(FileType::Unknown) => Fact::new(Answer::No, "its own entry has type DT_UNKNOWN"),
        Some(_) => Fact::new(Answer::Yes, "its own entry tells its type (the directory is empty)"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_look_leaves_nothing_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let before = scratch.path().metadata().unwrap();
        let facts = detect_directory(scratch.path()).unwrap();
        let after = scratch.path().metadata().unwrap();
        assert_eq!(facts.writable.value, Answer::Yes);
        assert_eq!(facts.path, scratch.path());
        assert!(0 < facts.free_bytes.value);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        if facts.o_tmpfile.value.is_yes() {
            let times = |it: &std::fs::Metadata| (it.mtime(), it.mtime_nsec(), it.ctime_nsec());
            assert_eq!(times(&before), times(&after));
        }
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<DirectoryFacts>(&text).unwrap(), facts);
    }

    #[test]
    fn proc_is_no_place_for_files() {
        let facts = detect_directory(Path::new("/proc/self")).unwrap();
        assert_eq!(facts.backing_fs.value, "unknown");
        assert_eq!(facts.writable.value, Answer::No);
        assert_eq!(facts.reflink.value, Answer::Unknown);
        assert_eq!(facts.d_type.value, Answer::Yes);
    }

    #[test]
    fn what_is_no_directory_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let missing = file.path().join("missing");
        let absent = Path::new("/nonexistent");
        for (path, kind) in [
            (file.path(), DetectErrorKind::NotADirectory),
            (&missing, DetectErrorKind::NotADirectory),
            (absent, DetectErrorKind::Refused(Errno::NOENT)),
        ] {
            let error = detect_directory(path).unwrap_err();
            assert_eq!((error.kind, error.path.as_path()), (kind, path));
        }
    }
}
