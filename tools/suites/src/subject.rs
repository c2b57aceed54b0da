//! What is tested: a file system, and where it is mounted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Which file system, and with which rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// What is mounted.
    pub kind: Kind,
    /// Whether by root of a user namespace.
    pub in_user_namespace: bool,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory of the ext4 image.
    Ext4,
    /// Kernel overlayfs over two directories.
    Overlayfs,
    /// Our mount over two directories, with this data mode.
    Aufs(&'static str),
}

impl Subject {
    /// Returns every subject, those to compare with first.
    pub fn all() -> Vec<Self> {
        let kinds = [
            Kind::Ext4,
            Kind::Overlayfs,
            Kind::Aufs("passthrough"),
            Kind::Aufs("noopen"),
            Kind::Aufs("cached"),
        ];
        let as_root = kinds.map(|kind| Self { kind, in_user_namespace: false });
        // The kernel grants passthrough to nobody but the host's root.
        let granted = [Kind::Ext4, Kind::Overlayfs, Kind::Aufs("noopen"), Kind::Aufs("cached")];
        let in_namespace = granted.map(|kind| Self { kind, in_user_namespace: true });
        as_root.into_iter().chain(in_namespace).collect()
    }

    /// Finds a subject by its title.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|it| it.title() == name)
    }

    /// Returns the name for tables and directories.
    pub fn title(&self) -> String {
        let kind = match self.kind {
            Kind::Ext4 => "ext4".to_owned(),
            Kind::Overlayfs => "overlayfs".to_owned(),
            Kind::Aufs(mode) => format!("aufs-{mode}"),
        };
        if self.in_user_namespace { format!("{kind}-userns") } else { kind }
    }

    /// Whether it is ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Aufs(_))
    }
}

/// A mounted subject, unmounted when it ends.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    mountpoint: PathBuf,
    aufs: PathBuf,
    is_mounted: bool,
    /// The directory to test in, writable for everybody.
    pub directory: PathBuf,
}

impl Place {
    /// Mounts `subject` over directories below `base`.
    pub fn new(subject: &Subject, base: &Path, aufs: &Path) -> anyhow::Result<Self> {
        let [upper, lower, work, mountpoint] = ["upper", "lower", "work", "mnt"].map(|name| base.join(name));
        for directory in [&upper, &lower, &work, &mountpoint] {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        // What the tests work in lies below, so that its parent has to be copied up.
        let is_plain = subject.kind == Kind::Ext4;
        let begun = if is_plain { &mountpoint } else { &lower };
        fs::create_dir(begun.join("test"))?;
        fs::set_permissions(begun.join("test"), Permissions::from_mode(0o777))?;
        fs::write(begun.join("test/fsx"), vec![7; 70_000])?;
        let (upper, lower) = (upper.display(), lower.display());
        match subject.kind {
            Kind::Ext4 => {}
            Kind::Overlayfs => {
                let mut options = format!("lowerdir={lower},upperdir={upper},workdir={}", work.display());
                if subject.in_user_namespace {
                    options.push_str(",userxattr");
                }
                call(
                    Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(&mountpoint),
                )?;
            }
            Kind::Aufs(mode) => {
                let options = format!("br:{upper}=rw:{lower}=ro+wh,data={mode}");
                call(Command::new(aufs).args(["mount", "-o", &options]).arg(&mountpoint))?;
            }
        }
        let directory = mountpoint.join("test");
        Ok(Self { kind: subject.kind, mountpoint, aufs: aufs.to_owned(), is_mounted: true, directory })
    }

    /// Unmounts.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.unmount()
    }

    fn unmount(&mut self) -> anyhow::Result<()> {
        if !std::mem::take(&mut self.is_mounted) {
            return Ok(());
        }
        match self.kind {
            Kind::Ext4 => Ok(()),
            Kind::Overlayfs => call(Command::new("umount").arg(&self.mountpoint)),
            Kind::Aufs(_) => call(Command::new(&self.aufs).arg("umount").arg(&self.mountpoint)),
        }
    }
}

impl Drop for Place {
    /// Also after an error nothing is left mounted, as our server would outlive the namespace's other users.
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            crate::complain(&format!("suites: {error:#}"));
        }
    }
}

/// Runs a command that must succeed.
pub fn call(command: &mut Command) -> anyhow::Result<()> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
