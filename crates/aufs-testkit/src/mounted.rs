//! Subjects that the kernel sees: a union mounted by a command, and overlayfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags};
use nix::unistd::{Gid, Uid};
use rustix::fs::{Access, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::host_calls::HostCalls;
use crate::subject::{Fault, Final, Outcome, Position, Stat, Subject};

/// How a union comes to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mounter {
    /// `mount(2)` of kernel overlayfs.
    Overlay,
    /// Commands, as words; `{options}` and `{mountpoint}` are filled in.
    Command {
        /// Mounts.
        mount: Vec<String>,
        /// Changes the branches of a live mount.
        remount: Vec<String>,
        /// Unmounts.
        unmount: Vec<String>,
        /// Options added to those of the scenario.
        extra_options: String,
    },
}

impl Mounter {
    /// The `aufs` command at this path; the options are added to those of the scenario.
    pub fn aufs(program: &str, extra_options: &str) -> Self {
        let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        Self::Command {
            mount: words(&[program, "mount", "-o", "{options}", "{mountpoint}"]),
            remount: words(&[program, "mount", "-o", "remount,{options}", "{mountpoint}"]),
            unmount: words(&[program, "umount", "{mountpoint}"]),
            extra_options: extra_options.to_owned(),
        }
    }
}

/// A union at a mount point, worked on by system calls.
#[derive(Debug, Clone)]
pub struct Mounted {
    calls: HostCalls,
    mounter: Mounter,
    options: String,
    read_only: bool,
    caller: Option<(u32, u32)>,
}

impl Mounted {
    /// `options` name branches by their full paths.
    pub fn new(calls: HostCalls, mounter: Mounter, options: String, read_only: bool) -> Self {
        Self { calls, mounter, options, read_only, caller: None }
    }

    /// A plain directory in the place of the union; mounting it is refused.
    pub fn plain(directory: PathBuf) -> Self {
        let calls = HostCalls { branches: directory.clone(), mountpoint: directory };
        let nothing = Mounter::Command {
            mount: Vec::new(),
            remount: Vec::new(),
            unmount: Vec::new(),
            extra_options: String::new(),
        };
        Self::new(calls, nothing, String::new(), false)
    }

    fn mountpoint(&self) -> &PathBuf {
        &self.calls.mountpoint
    }

    /// Runs a command; an exit other than zero counts as `EINVAL`, and as `EPERM` for a caller who is not root.
    fn run(&self, words: &[String], options: &str) -> Outcome<()> {
        let mountpoint = self.mountpoint().to_string_lossy();
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("{options}", options).replace("{mountpoint}", &mountpoint))
            .collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err(Fault::Broken("an empty mount command".to_owned()));
        };
        let done = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Fault::Broken(format!("{program}: {error}")))?;
        if done.status.success() {
            return Ok(());
        }
        Err(if self.caller.is_some() { Errno::PERM } else { Errno::INVAL }.into())
    }
}

impl Subject for Mounted {
    type Handle = OwnedFd;

    fn mount(&mut self) -> Outcome<()> {
        match &self.mounter {
            Mounter::Overlay => {
                let flags = if self.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
                let options = Some(self.options.as_str());
                Ok(nix::mount::mount(Some("none"), self.mountpoint(), Some("overlay"), flags, options)?)
            }
            Mounter::Command { mount, extra_options, .. } => {
                let mut options = self.options.clone();
                if self.read_only {
                    options.push_str(",ro");
                }
                if !extra_options.is_empty() {
                    options.push(',');
                    options.push_str(extra_options);
                }
                self.run(mount, &options)
            }
        }
    }

    fn unmount(&mut self, open_handles: usize) -> Outcome<()> {
        match &self.mounter {
            Mounter::Overlay => Ok(nix::mount::umount2(self.mountpoint(), MntFlags::empty())?),
            Mounter::Command { .. } if open_handles > 0 => Err(Errno::BUSY.into()),
            Mounter::Command { unmount, .. } => self.run(unmount, ""),
        }
    }

    fn remount(&mut self, options: &str) -> Outcome<()> {
        match &self.mounter {
            Mounter::Overlay => Err(Fault::Unsupported("overlayfs has no branches that come and go")),
            Mounter::Command { remount, .. } => self.run(remount, &self.calls.with_full_paths(options)),
        }
    }

    fn set_caller(&mut self, caller: Option<(u32, u32)>) -> Outcome<()> {
        // The kit runs each scenario in a process of its own, so the whole process may change.
        if let Some((uid, gid)) = caller {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setegid(Gid::from_raw(gid))?;
            nix::unistd::seteuid(Uid::from_raw(uid))?;
        } else {
            nix::unistd::seteuid(Uid::from_raw(0))?;
            nix::unistd::setegid(Gid::from_raw(0))?;
        }
        self.caller = caller;
        Ok(())
    }

    fn umask(&mut self, mask: Mode) {
        rustix::process::umask(mask);
    }

    fn open(&mut self, path: &str, flags: OFlags, mode: Mode) -> Outcome<OwnedFd> {
        self.calls.open(path, flags, mode)
    }

    fn reopen(&mut self, handle: &OwnedFd, flags: OFlags) -> Outcome<OwnedFd> {
        self.calls.reopen(handle, flags)
    }

    fn read(&mut self, handle: &mut OwnedFd, len_bytes: usize, at: Position) -> Outcome<Vec<u8>> {
        self.calls.read(handle, len_bytes, at)
    }

    fn write(&mut self, handle: &mut OwnedFd, data: &[u8], at: Position) -> Outcome<usize> {
        self.calls.write(handle, data, at)
    }

    fn seek(&mut self, handle: &mut OwnedFd, to: SeekFrom) -> Outcome<u64> {
        self.calls.seek(handle, to)
    }

    fn ftruncate(&mut self, handle: &OwnedFd, len_bytes: u64) -> Outcome<()> {
        self.calls.ftruncate(handle, len_bytes)
    }

    fn fstat(&mut self, handle: &OwnedFd) -> Outcome<Stat> {
        self.calls.fstat(handle)
    }

    fn fchmod(&mut self, handle: &OwnedFd, mode: Mode) -> Outcome<()> {
        self.calls.fchmod(handle, mode)
    }

    fn fchown(&mut self, handle: &OwnedFd, uid: u32, gid: u32) -> Outcome<()> {
        self.calls.fchown(handle, uid, gid)
    }

    fn futimens(&mut self, handle: &OwnedFd, seconds: i64) -> Outcome<()> {
        self.calls.futimens(handle, seconds)
    }

    fn fsync(&mut self, handle: &OwnedFd) -> Outcome<()> {
        self.calls.fsync(handle)
    }

    fn fdatasync(&mut self, handle: &OwnedFd) -> Outcome<()> {
        self.calls.fdatasync(handle)
    }

    fn fsetxattr(&mut self, handle: &OwnedFd, name: &str, value: &[u8]) -> Outcome<()> {
        self.calls.fsetxattr(handle, name, value)
    }

    fn fallocate(
        &mut self,
        handle: &OwnedFd,
        mode: FallocateFlags,
        offset: u64,
        len_bytes: u64,
    ) -> Outcome<()> {
        self.calls.fallocate(handle, mode, offset, len_bytes)
    }

    fn list_handle(&mut self, handle: &OwnedFd) -> Outcome<Vec<String>> {
        self.calls.list_handle(handle)
    }

    fn getflags(&mut self, handle: &OwnedFd) -> Outcome<u32> {
        self.calls.getflags(handle)
    }

    fn setflags(&mut self, handle: &OwnedFd, flags: u32) -> Outcome<()> {
        self.calls.setflags(handle, flags)
    }

    fn link_handle(&mut self, handle: &OwnedFd, path: &str) -> Outcome<()> {
        self.calls.link_handle(handle, path)
    }

    fn stat(&mut self, path: &str, last: Final) -> Outcome<Stat> {
        self.calls.stat(path, last)
    }

    fn access(&mut self, path: &str, access: Access) -> Outcome<()> {
        self.calls.access(path, access)
    }

    fn truncate(&mut self, path: &str, len_bytes: u64) -> Outcome<()> {
        self.calls.truncate(path, len_bytes)
    }

    fn chmod(&mut self, path: &str, mode: Mode) -> Outcome<()> {
        self.calls.chmod(path, mode)
    }

    fn chown(&mut self, path: &str, uid: u32, gid: u32, last: Final) -> Outcome<()> {
        self.calls.chown(path, uid, gid, last)
    }

    fn utimens(&mut self, path: &str, seconds: i64) -> Outcome<()> {
        self.calls.utimens(path, seconds)
    }

    fn setxattr(&mut self, path: &str, name: &str, value: &[u8], flags: XattrFlags) -> Outcome<()> {
        self.calls.setxattr(path, name, value, flags)
    }

    fn getxattr(&mut self, path: &str, name: &str) -> Outcome<Vec<u8>> {
        self.calls.getxattr(path, name)
    }

    fn listxattr(&mut self, path: &str) -> Outcome<Vec<String>> {
        self.calls.listxattr(path)
    }

    fn removexattr(&mut self, path: &str, name: &str) -> Outcome<()> {
        self.calls.removexattr(path, name)
    }

    fn link(&mut self, source: &str, target: &str) -> Outcome<()> {
        self.calls.link(source, target)
    }

    fn symlink(&mut self, target: &str, path: &str) -> Outcome<()> {
        self.calls.symlink(target, path)
    }

    fn readlink(&mut self, path: &str) -> Outcome<String> {
        self.calls.readlink(path)
    }

    fn mknod(&mut self, path: &str, mode: u32, rdev: u64) -> Outcome<()> {
        self.calls.mknod(path, mode, rdev)
    }

    fn mkdir(&mut self, path: &str, mode: Mode) -> Outcome<()> {
        self.calls.mkdir(path, mode)
    }

    fn rmdir(&mut self, path: &str) -> Outcome<()> {
        self.calls.rmdir(path)
    }

    fn unlink(&mut self, path: &str) -> Outcome<()> {
        self.calls.unlink(path)
    }

    fn rename(&mut self, source: &str, target: &str, flags: RenameFlags) -> Outcome<()> {
        self.calls.rename(source, target, flags)
    }

    fn list(&mut self, path: &str) -> Outcome<Vec<String>> {
        self.calls.list(path)
    }

    fn name_max(&mut self, path: &str) -> Outcome<i64> {
        self.calls.name_max(path)
    }

    fn host_path(&self, path: &str) -> Outcome<PathBuf> {
        Ok(self.calls.resolve(path))
    }

    fn host_fd<'h>(&self, handle: &'h OwnedFd) -> Outcome<BorrowedFd<'h>> {
        Ok(handle.as_fd())
    }
}
