//! A mounted stack, and the writable branch under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::MntFlags;
use tracing::warn;

use super::{btrfs, marked, server};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use aufs_mount::unmount::SERVER_XATTR;

/// Empty directories for one mount: the writable branch, a work directory, the mount point.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The directory that holds them.
    pub home: PathBuf,
    /// Takes what is changed.
    pub upper: PathBuf,
    /// For drafts; on the same file system.
    pub work: PathBuf,
    /// Where the stack is shown.
    pub target: PathBuf,
}

impl Branch {
    /// Makes them below `home`, which must not exist.
    ///
    /// # Errors
    ///
    /// Any I/O error, an existing directory among them.
    pub fn create(home: &Path) -> Result<Self> {
        let branch = Self::below(home);
        fs::create_dir(home).at("create branch", home)?;
        for dir in [&branch.upper, &branch.work, &branch.target] {
            fs::create_dir(dir).at("create branch", dir)?;
        }
        Ok(branch)
    }

    /// Where they are below `home`, which need not exist.
    pub fn below(home: &Path) -> Self {
        let [upper, work, target] = ["u", "w", "m"].map(|name| home.join(name));
        Self { home: home.to_owned(), upper, work, target }
    }
}

/// A writable view of layers; unmounted when dropped.
#[derive(Debug)]
pub struct View {
    /// Where the tree is shown.
    pub root: PathBuf,
    /// Where changed files must appear, for drivers that copy up.
    pub upper: Option<PathBuf>,
    /// The directory of its branch; the root where it has none.
    home: PathBuf,
    holder: Holder,
}

/// What keeps a view alive.
#[derive(Debug)]
enum Holder {
    /// Plain files.
    Nothing,
    /// A mount served by the kernel.
    Kernel,
    /// A Btrfs snapshot.
    Snapshot,
    /// A mount served by our child.
    Server(Child),
    /// A mount of `aufs mount`, ended by this binary.
    Aufs(PathBuf),
    /// A mount made by a described command.
    Described(Box<Described>),
}

/// How a mount that a command has made is ended.
#[derive(Debug)]
pub struct Described {
    /// The server, where it stays in the foreground.
    pub child: Option<Child>,
    /// The command that unmounts; `umount2(2)` without it.
    pub unmount: Option<Command>,
}

impl View {
    /// A directory tree that is no mount.
    pub fn plain(root: PathBuf) -> Self {
        Self { home: root.clone(), root, upper: None, holder: Holder::Nothing }
    }

    /// A mount that the kernel serves.
    pub fn kernel(branch: Branch) -> Self {
        Self::of(branch, Holder::Kernel)
    }

    /// A mount of one directory, over which nothing is copied up.
    pub fn bound(branch: Branch) -> Self {
        Self { root: branch.target, upper: None, home: branch.home, holder: Holder::Kernel }
    }

    /// A Btrfs snapshot at the target.
    pub fn snapshot(branch: Branch) -> Self {
        Self { root: branch.target, upper: None, home: branch.home, holder: Holder::Snapshot }
    }

    /// A mount that `child` serves.
    pub fn server(branch: Branch, child: Child) -> Self {
        Self::of(branch, Holder::Server(child))
    }

    /// A mount that the binary `aufs` made and will end.
    pub fn aufs(branch: Branch, aufs: PathBuf) -> Self {
        Self::of(branch, Holder::Aufs(aufs))
    }

    /// A mount that a described command has made; `copies_up` says whether its copies appear on the branch.
    pub fn described(branch: Branch, copies_up: bool, how: Described) -> Self {
        let upper = copies_up.then_some(branch.upper);
        Self { root: branch.target, upper, home: branch.home, holder: Holder::Described(Box::new(how)) }
    }

    fn of(branch: Branch, holder: Holder) -> Self {
        Self { root: branch.target, upper: Some(branch.upper), home: branch.home, holder }
    }

    /// The process that serves the mount: our child, the one that the root of ours names, or one of its mark.
    fn serving(&self) -> Option<procfs::process::Process> {
        let pid = match &self.holder {
            Holder::Nothing | Holder::Kernel | Holder::Snapshot => return None,
            Holder::Server(child) => i32::try_from(child.id()).ok()?,
            Holder::Described(how) => match &how.child {
                Some(child) => i32::try_from(child.id()).ok()?,
                None => marked::below(&self.home).first()?.pid,
            },
            Holder::Aufs(_) => {
                let pid = aufs_mount::ask::ask(&self.root, SERVER_XATTR).ok()?;
                std::str::from_utf8(&pid).ok()?.parse().ok()?
            }
        };
        procfs::process::Process::new(pid).ok()
    }

    /// The program that the mount's server runs; `None` where the kernel serves.
    pub fn server_program(&self) -> Option<PathBuf> {
        self.serving()?.exe().ok()
    }

    /// Memory that the mount's server holds resident, in bytes; `None` where the kernel serves.
    pub fn server_rss_bytes(&self) -> Option<u64> {
        self.serving()?.status().ok()?.vmrss.map(|kib| kib * 1024)
    }

    /// The server's proportional share of the memory it maps, in bytes; `None` where the kernel serves.
    pub fn server_pss_bytes(&self) -> Option<u64> {
        let rollup = self.serving()?.smaps_rollup().ok()?;
        rollup.memory_map_rollup.iter().find_map(|it| it.extension.map.get("Pss").copied())
    }

    /// Whether the mount's server has ended, so that every call into it fails.
    pub fn is_dead(&self) -> bool {
        use rustix::io::Errno;
        matches!(rustix::fs::statfs(&self.root), Err(Errno::NOTCONN | Errno::CONNABORTED))
    }

    /// Unmounts, and waits until the server has ended.
    ///
    /// # Errors
    ///
    /// The mount stays busy, or its server does not end; it is detached and killed then.
    pub fn close(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.holder, Holder::Nothing) {
            Holder::Nothing => Ok(()),
            Holder::Kernel => unmount(&self.root),
            Holder::Snapshot => btrfs::delete(&self.home, &self.root),
            Holder::Server(child) => {
                let unmounted = unmount(&self.root);
                server::end(child, &self.home)?;
                unmounted
            }
            Holder::Aufs(aufs) => {
                let mut command = Command::new(aufs);
                command.arg("umount").arg(&self.root);
                self.run_unmount(command)
            }
            Holder::Described(how) => {
                let Described { child, unmount: command } = *how;
                let unmounted = match command {
                    Some(command) => self.run_unmount(command),
                    None => unmount(&self.root),
                };
                let ended = child.map_or(Ok(()), |child| server::end(child, &self.home));
                ended.and(server::end_marked(&self.home)).and(unmounted)
            }
        }
    }

    /// Unmounts by `command`; when that fails, its server is killed and what it left is detached.
    fn run_unmount(&self, command: Command) -> Result<()> {
        let unmounted = server::run(command, &self.home);
        if unmounted.is_err() {
            // First the server: a command that failed after it had unmounted leaves nothing to detach.
            marked::kill_below(&self.home);
            match nix::mount::umount2(&self.root, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => warn!(root = %self.root.display(), %errno, "a mount was not detached"),
            }
        }
        unmounted
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            warn!(error = error.line(), "a mount was not closed");
        }
    }
}

/// Unmounts `target`, waiting a while for it to be idle; a busy mount is detached and reported.
pub fn unmount(target: &Path) -> Result<()> {
    for _ in 0..200 {
        match nix::mount::umount2(target, MntFlags::empty()) {
            Err(Errno::EBUSY) => sleep(Duration::from_millis(10)),
            result => return result.at("unmount", target),
        }
    }
    nix::mount::umount2(target, MntFlags::MNT_DETACH).at("detach", target)?;
    Err(BenchError::new("unmount", target, BenchErrorKind::Tool("stayed busy, detached".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_unmount_ends_the_server_though_nothing_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let branch = Branch::create(&dir.path().join("b")).unwrap();
        let mut server = Command::new("sleep").arg("1000").env(marked::MARK, &branch.home).spawn().unwrap();
        // `false umount TARGET` fails, as a command does that has unmounted and met an error then.
        let error = View::aufs(branch, PathBuf::from("false")).close().unwrap_err();
        let ended = server.try_wait().unwrap();
        let ended = ended.or_else(|| {
            sleep(Duration::from_millis(200));
            server.try_wait().unwrap()
        });
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(matches!(error.kind, BenchErrorKind::Refused(_)), "{}", error.line());
        assert!(ended.is_some(), "its server lives");
    }
}
