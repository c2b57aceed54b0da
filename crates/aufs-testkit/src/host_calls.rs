//! The calls of a scenario as system calls on host paths.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, Access, AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, Timespec,
    Timestamps, XattrFlags,
};
use rustix::io::{self as rio, Errno};

use crate::subject::{Final, Outcome, Position, Stat};

/// Resolves the paths of a scenario and makes the calls.
#[derive(Debug, Clone)]
pub struct HostCalls {
    /// The directory that holds the branches.
    pub branches: PathBuf,
    /// Where the union is mounted.
    pub mountpoint: PathBuf,
}

#[expect(missing_docs, reason = "as in the trait Subject, whose calls these are")]
#[expect(clippy::missing_errors_doc, reason = "each fails with the errno of the system call")]
impl HostCalls {
    /// The host path of a scenario's path.
    pub fn resolve(&self, path: &str) -> PathBuf {
        if let Some(below) = path.strip_prefix('@') {
            self.branches.join(below)
        } else if path == "." {
            self.mountpoint.clone()
        } else {
            self.mountpoint.join(path)
        }
    }

    /// Options whose branches, `@NAME`, are named by their full paths.
    pub fn with_full_paths(&self, options: &str) -> String {
        options.replace('@', &format!("{}/", self.branches.display()))
    }

    pub fn open(&self, path: &str, flags: OFlags, mode: Mode) -> Outcome<OwnedFd> {
        Ok(fs::openat(CWD, self.resolve(path), flags | OFlags::CLOEXEC, mode)?)
    }

    pub fn reopen(&self, handle: &OwnedFd, flags: OFlags) -> Outcome<OwnedFd> {
        Ok(fs::openat(CWD, proc_path(handle), flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    pub fn read(&self, handle: &OwnedFd, len_bytes: usize, at: Position) -> Outcome<Vec<u8>> {
        let mut buffer = vec![0; len_bytes];
        let n = match at {
            Position::Current => rio::read(handle, &mut buffer)?,
            Position::At(offset) => rio::pread(handle, &mut buffer, offset)?,
        };
        buffer.truncate(n);
        Ok(buffer)
    }

    pub fn write(&self, handle: &OwnedFd, data: &[u8], at: Position) -> Outcome<usize> {
        Ok(match at {
            Position::Current => rio::write(handle, data)?,
            Position::At(offset) => rio::pwrite(handle, data, offset)?,
        })
    }

    pub fn seek(&self, handle: &OwnedFd, to: SeekFrom) -> Outcome<u64> {
        Ok(fs::seek(handle, to)?)
    }

    pub fn ftruncate(&self, handle: &OwnedFd, len_bytes: u64) -> Outcome<()> {
        Ok(fs::ftruncate(handle, len_bytes)?)
    }

    pub fn fstat(&self, handle: &OwnedFd) -> Outcome<Stat> {
        Ok(stat_from(&fs::fstat(handle)?))
    }

    pub fn fchmod(&self, handle: &OwnedFd, mode: Mode) -> Outcome<()> {
        Ok(fs::fchmod(handle, mode)?)
    }

    pub fn fchown(&self, handle: &OwnedFd, uid: u32, gid: u32) -> Outcome<()> {
        Ok(fs::fchown(handle, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)))?)
    }

    pub fn futimens(&self, handle: &OwnedFd, seconds: i64) -> Outcome<()> {
        Ok(fs::futimens(handle, &both_times(seconds))?)
    }

    pub fn fsync(&self, handle: &OwnedFd) -> Outcome<()> {
        Ok(fs::fsync(handle)?)
    }

    pub fn fdatasync(&self, handle: &OwnedFd) -> Outcome<()> {
        Ok(fs::fdatasync(handle)?)
    }

    pub fn fsetxattr(&self, handle: &OwnedFd, name: &str, value: &[u8]) -> Outcome<()> {
        Ok(fs::fsetxattr(handle, name, value, XattrFlags::empty())?)
    }

    pub fn fallocate(
        &self,
        handle: &OwnedFd,
        mode: FallocateFlags,
        offset: u64,
        len_bytes: u64,
    ) -> Outcome<()> {
        Ok(fs::fallocate(handle, mode, offset, len_bytes)?)
    }

    pub fn list_handle(&self, handle: &OwnedFd) -> Outcome<Vec<String>> {
        // As a listing of a duplicated descriptor: the offset is shared, so rewind first.
        fs::seek(handle, SeekFrom::Start(0))?;
        names_of(Dir::new(handle.try_clone()?)?)
    }

    pub fn getflags(&self, handle: &OwnedFd) -> Outcome<u32> {
        Ok(fs::ioctl_getflags(handle)?.bits())
    }

    pub fn setflags(&self, handle: &OwnedFd, flags: u32) -> Outcome<()> {
        Ok(fs::ioctl_setflags(handle, fs::IFlags::from_bits_retain(flags))?)
    }

    pub fn link_handle(&self, handle: &OwnedFd, path: &str) -> Outcome<()> {
        let target = self.resolve(path);
        Ok(fs::linkat(CWD, proc_path(handle), CWD, target, AtFlags::SYMLINK_FOLLOW)?)
    }

    pub fn stat(&self, path: &str, last: Final) -> Outcome<Stat> {
        Ok(stat_from(&fs::statat(CWD, self.resolve(path), at_flags(last))?))
    }

    pub fn access(&self, path: &str, access: Access) -> Outcome<()> {
        Ok(fs::accessat(CWD, self.resolve(path), access, AtFlags::EACCESS)?)
    }

    pub fn truncate(&self, path: &str, len_bytes: u64) -> Outcome<()> {
        let len_bytes = i64::try_from(len_bytes).map_err(|_| Errno::INVAL)?;
        Ok(nix::unistd::truncate(&self.resolve(path), len_bytes)?)
    }

    pub fn chmod(&self, path: &str, mode: Mode) -> Outcome<()> {
        Ok(fs::chmod(self.resolve(path), mode)?)
    }

    pub fn chown(&self, path: &str, uid: u32, gid: u32, last: Final) -> Outcome<()> {
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        Ok(fs::chownat(CWD, self.resolve(path), Some(uid), Some(gid), at_flags(last))?)
    }

    pub fn utimens(&self, path: &str, seconds: i64) -> Outcome<()> {
        Ok(fs::utimensat(CWD, self.resolve(path), &both_times(seconds), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub fn setxattr(&self, path: &str, name: &str, value: &[u8], flags: XattrFlags) -> Outcome<()> {
        Ok(fs::lsetxattr(self.resolve(path), name, value, flags)?)
    }

    pub fn getxattr(&self, path: &str, name: &str) -> Outcome<Vec<u8>> {
        let path = self.resolve(path);
        let mut value = vec![0; 64 << 10];
        let n = fs::lgetxattr(&path, name, &mut value)?;
        value.truncate(n);
        Ok(value)
    }

    pub fn listxattr(&self, path: &str) -> Outcome<Vec<String>> {
        let mut names = vec![0; 64 << 10];
        let n = fs::llistxattr(self.resolve(path), &mut names)?;
        names.truncate(n);
        let mut names: Vec<String> = names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    pub fn removexattr(&self, path: &str, name: &str) -> Outcome<()> {
        Ok(fs::lremovexattr(self.resolve(path), name)?)
    }

    pub fn link(&self, source: &str, target: &str) -> Outcome<()> {
        Ok(fs::linkat(CWD, self.resolve(source), CWD, self.resolve(target), AtFlags::empty())?)
    }

    pub fn symlink(&self, target: &str, path: &str) -> Outcome<()> {
        Ok(fs::symlinkat(target, CWD, self.resolve(path))?)
    }

    pub fn readlink(&self, path: &str) -> Outcome<String> {
        let target = fs::readlinkat(CWD, self.resolve(path), Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    pub fn mknod(&self, path: &str, mode: u32, rdev: u64) -> Outcome<()> {
        let path = self.resolve(path);
        if FileType::from_raw_mode(mode) == FileType::Socket {
            return bind_socket(&path);
        }
        Ok(fs::mknodat(CWD, path, FileType::from_raw_mode(mode), Mode::from_raw_mode(mode), rdev)?)
    }

    pub fn mkdir(&self, path: &str, mode: Mode) -> Outcome<()> {
        Ok(fs::mkdirat(CWD, self.resolve(path), mode)?)
    }

    pub fn rmdir(&self, path: &str) -> Outcome<()> {
        Ok(fs::unlinkat(CWD, self.resolve(path), AtFlags::REMOVEDIR)?)
    }

    pub fn unlink(&self, path: &str) -> Outcome<()> {
        Ok(fs::unlinkat(CWD, self.resolve(path), AtFlags::empty())?)
    }

    pub fn rename(&self, source: &str, target: &str, flags: RenameFlags) -> Outcome<()> {
        let (source, target) = (self.resolve(source), self.resolve(target));
        if flags.is_empty() {
            return Ok(fs::renameat(CWD, source, CWD, target)?);
        }
        Ok(fs::renameat_with(CWD, source, CWD, target, flags)?)
    }

    pub fn list(&self, path: &str) -> Outcome<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        names_of(Dir::new(fs::openat(CWD, self.resolve(path), flags, Mode::empty())?)?)
    }

    pub fn name_max(&self, path: &str) -> Outcome<i64> {
        let found = nix::unistd::pathconf(&self.resolve(path), nix::unistd::PathconfVar::NAME_MAX)?;
        Ok(found.unwrap_or(-1))
    }
}

fn proc_path(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn at_flags(last: Final) -> AtFlags {
    match last {
        Final::Follow => AtFlags::empty(),
        Final::Itself => AtFlags::SYMLINK_NOFOLLOW,
    }
}

/// Access and modification time at `seconds`.
pub fn both_times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn names_of(mut dir: Dir) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Binds a socket by a name relative to its directory, since an address holds only 107 bytes.
pub fn bind_socket(path: &Path) -> Outcome<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let before = std::env::current_dir()?;
    std::env::set_current_dir(parent)?;
    let bound: io::Result<UnixListener> = UnixListener::bind(name);
    std::env::set_current_dir(before)?;
    bound?;
    Ok(())
}

#[expect(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
fn stat_from(stat: &fs::Stat) -> Stat {
    Stat {
        mode: stat.st_mode as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        nlink: stat.st_nlink as u64,
        size: stat.st_size.cast_unsigned(),
        mtime_ns: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        ino: stat.st_ino as u64,
        dev: stat.st_dev as u64,
        rdev: stat.st_rdev as u64,
    }
}
