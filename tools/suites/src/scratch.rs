//! A mount namespace of our own with an ext4 image in it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use tempfile::TempDir;

use crate::subject::call;

/// Length of the image in bytes; it is sparse.
const IMAGE_LEN_BYTES: u64 = 4 << 30;

/// See the module.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
}

impl Scratch {
    /// Enters a mount namespace and makes an ext4 file system there.
    ///
    /// The namespace has our mount helper where `just install` puts it, since
    /// pjdfstest remounts with mount(8).
    pub fn new(aufs: &Path) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace needs root")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let directory = tempfile::Builder::new().prefix("suites-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let (image, disk) = (directory.path().join("image"), directory.path().join("disk"));
        File::create(&image)?.set_len(IMAGE_LEN_BYTES)?;
        fs::create_dir(&disk)?;
        call(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        call(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk))?;
        show_helper(aufs, directory.path())?;
        open_fuse_to_all(&disk)?;
        Ok(Self { directory })
    }

    /// Makes a new directory on the image.
    pub fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join("disk").join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// Shows the mount helper where mount(8) looks for it.
fn show_helper(aufs: &Path, directory: &Path) -> anyhow::Result<()> {
    let helpers = directory.join("sbin");
    fs::create_dir(&helpers)?;
    symlink(aufs, helpers.join("mount.fuse.aufs"))?;
    let sbin = Path::new("/sbin").canonicalize()?;
    let options = format!("lowerdir={}:{}", helpers.display(), sbin.display());
    mount(Some("overlay"), &sbin, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
        .with_context(|| format!("show the mount helper in {}", sbin.display()))
}

/// Shows a `/dev/fuse` that everybody may open, as udev makes it.
fn open_fuse_to_all(disk: &Path) -> anyhow::Result<()> {
    let (fuse, node) = (Path::new("/dev/fuse"), disk.join("fuse"));
    let device = fs::metadata(fuse).context("/dev/fuse")?.rdev();
    mknod(&node, SFlag::S_IFCHR, Mode::empty(), device)?;
    fs::set_permissions(&node, Permissions::from_mode(0o666))?;
    mount(Some(&node), fuse, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("show /dev/fuse")
}

impl Drop for Scratch {
    /// The directory can go only once nothing is mounted in it.
    fn drop(&mut self) {
        let disk = self.directory.path().join("disk");
        if let Err(error) = umount2(&disk, MntFlags::MNT_DETACH) {
            crate::complain(&format!("suites: unmount {}: {error}", disk.display()));
        }
    }
}
