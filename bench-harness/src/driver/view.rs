//! A mounted stack, and the writable branch under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::MntFlags;
use tracing::warn;

use super::server;
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
        let [upper, work, target] = ["u", "w", "m"].map(|name| home.join(name));
        fs::create_dir(home).at("create branch", home)?;
        for dir in [&upper, &work, &target] {
            fs::create_dir(dir).at("create branch", dir)?;
        }
        Ok(Self { home: home.to_owned(), upper, work, target })
    }
}

/// A writable view of layers; unmounted when dropped.
#[derive(Debug)]
pub struct View {
    /// Where the tree is shown.
    pub root: PathBuf,
    /// Where changed files must appear, for drivers that copy up.
    pub upper: Option<PathBuf>,
    holder: Holder,
}

/// What keeps a view alive.
#[derive(Debug)]
enum Holder {
    /// Plain files.
    Nothing,
    /// A mount served by the kernel.
    Kernel,
    /// A mount served by our child.
    Server(Child),
    /// A mount of `aufs mount`, ended by this binary.
    Aufs(PathBuf),
}

impl View {
    /// A directory tree that is no mount.
    pub fn plain(root: PathBuf) -> Self {
        Self { root, upper: None, holder: Holder::Nothing }
    }

    /// A mount that the kernel serves.
    pub fn kernel(branch: Branch) -> Self {
        Self { root: branch.target, upper: Some(branch.upper), holder: Holder::Kernel }
    }

    /// A mount that `child` serves.
    pub fn server(branch: Branch, child: Child) -> Self {
        Self { root: branch.target, upper: Some(branch.upper), holder: Holder::Server(child) }
    }

    /// A mount that the binary `aufs` made and will end.
    pub fn aufs(branch: Branch, aufs: PathBuf) -> Self {
        Self { root: branch.target, upper: Some(branch.upper), holder: Holder::Aufs(aufs) }
    }

    /// The process that serves the mount: our child, or the one that the root of ours names.
    fn serving(&self) -> Option<procfs::process::Process> {
        let pid = match &self.holder {
            Holder::Nothing | Holder::Kernel => return None,
            Holder::Server(child) => i32::try_from(child.id()).ok()?,
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

    /// Unmounts, and waits until the server has ended.
    ///
    /// # Errors
    ///
    /// The mount stays busy, or its server does not end; it is detached and killed then.
    pub fn close(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.holder, Holder::Nothing) {
            Holder::Nothing => Ok(()),
            Holder::Kernel => unmount(&self.root),
            Holder::Server(child) => {
                let unmounted = unmount(&self.root);
                server::end(child, &self.root)?;
                unmounted
            }
            Holder::Aufs(aufs) => end_aufs(&aufs, &self.root),
        }
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

fn end_aufs(aufs: &Path, target: &Path) -> Result<()> {
    let output = Command::new(aufs)
        .arg("umount")
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .at("run aufs umount on", target)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    nix::mount::umount2(target, MntFlags::MNT_DETACH).at("detach", target)?;
    Err(BenchError::new("run aufs umount on", target, BenchErrorKind::Tool(said)))
}
