//! A scratch directory to mount in; whatever a test mounts there goes with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "shared by test programs; failing is their job"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aufs_testkit::needs::{Need, skips};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// Directories `u`, `l1`, `l2`, `m`, and files in them that tell them apart.
#[derive(Debug)]
pub struct Host {
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// One test of a program at a time: a process that another test forks holds our open files
/// until it executes, and a mount with open files is busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Host {
    pub fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = TempDir::new().unwrap();
        for (name, content) in [("u", "upper"), ("l1", "first"), ("l2", "second")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("both"), content).unwrap();
            fs::write(dir.path().join(name).join(format!("only-{name}")), content).unwrap();
        }
        fs::create_dir(dir.path().join("m")).unwrap();
        // Other users must be able to come in, as some tests drop their rights.
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            dir.path(),
            nix::sys::stat::Mode::from_bits_truncate(0o755),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .unwrap();
        Self { dir, _turn: turn }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces `@` by the scratch directory.
    pub fn text(&self, text: &str) -> String {
        text.replace('@', self.dir.path().to_str().unwrap())
    }

    /// The `aufs` command with arguments in which `@` stands for the scratch directory.
    pub fn aufs(&self, args: &[&str]) -> Command {
        self.program("aufs", args)
    }

    /// The same program by another name.
    pub fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aufs"));
        command.arg0(name).args(args.iter().map(|it| self.text(it))).stdin(Stdio::null());
        command.env_remove("AUFS_LOG").env_remove("AUFS_BIN");
        command
    }

    /// Runs `aufs`, which must succeed; returns its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(&mut self.aufs(args))
    }

    /// Everything below `name` but the mount point: paths with size, mode, mtime and content.
    pub fn snapshot(&self, name: &str) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.path(name)];
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            let mut content = Vec::new();
            if stat.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            } else if stat.is_file() {
                content = fs::read(&path).unwrap();
            }
            found.insert(path, (stat.mode(), stat.mtime(), stat.mtime_nsec(), content));
        }
        found
    }

    /// The lines of mountinfo below the scratch directory, topmost last.
    pub fn mounts(&self) -> Vec<aufs_mount::table::MountEntry> {
        let base = fs::canonicalize(self.dir.path()).unwrap();
        let table = fs::read("/proc/self/mountinfo").unwrap();
        aufs_mount::table::parse(&table).filter(|it| it.mountpoint.starts_with(&base)).collect()
    }

    /// The process that serves the mount at `name`.
    pub fn server_of(&self, name: &str) -> i32 {
        let mut value = [0_u8; 16];
        let len = rustix::fs::getxattr(self.path(name), "user.aufs.server", &mut value[..]).unwrap();
        std::str::from_utf8(&value[..len]).unwrap().parse().unwrap()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in self.mounts().iter().rev() {
            if let Err(errno) = umount2(&entry.mountpoint, MntFlags::MNT_DETACH) {
                eprintln!("{}: {errno}", entry.mountpoint.display());
            }
        }
    }
}

/// Whether to go on; prints the reason when not, and fails where `REQUIRE` demands it.
pub fn has(needs: &[Need]) -> bool {
    !skips(needs)
}

/// Runs a command that must succeed; returns its stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and the one line on stderr of a command that must fail.
pub fn refused(output: &Output) -> (i32, String) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "succeeded: {output:?}");
    assert!(output.stdout.is_empty(), "an error belongs on stderr: {output:?}");
    assert_eq!(stderr.lines().count(), 1, "not one line: {stderr:?}");
    (output.status.code().unwrap_or(-1), stderr.trim_end().to_owned())
}

/// Waits until `is_so`, or fails after ten seconds.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process exists and is no zombie.
pub fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|it| it.rsplit(')').next().is_some_and(|it| !it.trim_start().starts_with('Z')))
}

/// An option text from bytes.
pub fn bytes(parts: &[&[u8]]) -> OsString {
    OsStr::from_bytes(&parts.concat()).to_owned()
}
