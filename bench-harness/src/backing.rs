//! Where layers and branches lie: a directory, a tmpfs, or a loop image of its own file system.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::MsFlags;

use crate::driver::Branch;
use crate::driver::View;
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host::{BackingFacts, filesystem_hash, filesystem_of};
use crate::run::cold;

/// The words a matrix may use.
pub const NAMES: &[&str] = &["dir", "tmpfs", "loop:ext4", "loop:xfs", "loop:btrfs"];

/// A place for layers and branches; given back when dropped.
#[derive(Debug)]
pub struct Backing {
    /// What is recorded of it.
    pub facts: BackingFacts,
    /// An empty directory on it.
    pub dir: PathBuf,
    /// Whether used branches are emptied but not removed before the run ends.
    ///
    /// Ext4 without a journal does not reuse an inode for minutes after its
    /// file was deleted, and searches past all such inodes, one by one, when a
    /// file is created. Removing the branches of each block would make every
    /// later copy-up pay for that: by 0.7 ms where 30 µs were true.
    pub keeps_inodes: bool,
    /// The image that it lies in, whose freed blocks the host gets back only when told so.
    image: Option<PathBuf>,
    /// The mount of a tmpfs or an image, if it is one.
    _view: Option<View>,
}

impl Backing {
    /// Prepares the backing `name` below the empty directory `home`, with room for `bytes`.
    ///
    /// # Errors
    ///
    /// - `Refused`: too little room, no privilege to mount, or no tool to make the file system.
    /// - else what the system reports.
    pub fn open(name: &str, home: &Path, bytes: u64) -> Result<Self> {
        let (dir, view) = match name.split_once(':') {
            None if name == "tmpfs" => mount_tmpfs(home, bytes)?,
            Some((_, fs_type)) => mount_image(fs_type, home, bytes)?,
            None => (home.to_owned(), None),
        };
        check_room(&dir, bytes)?;
        let (fs_type, mut options) = filesystem_of(&dir)?;
        let keeps_inodes = fs_type == "ext4" && has_no_journal(&dir) && INODES_MIN < free_inodes(&dir)?;
        if keeps_inodes {
            options.push_str(" (no journal)");
        }
        let image = name.split_once(':').map(|(_, fs_type)| image_of(&home.join(fs_type)));
        let fs_hash = view.is_none().then(|| filesystem_hash(&dir)).flatten();
        let facts = BackingFacts { name: name.to_owned(), fs_type, options, path: dir.clone(), fs_hash };
        Ok(Self { facts, dir, keeps_inodes, image, _view: view })
    }

    /// Makes ext4 put each directory created in `dir` somewhere else on the disk (`chattr +T`).
    ///
    /// Else branches lie close to those of the run before, whose deleted inodes
    /// are searched too; see [`Backing::keeps_inodes`].
    ///
    /// # Errors
    ///
    /// What the flags' ioctls report.
    pub fn spread(&self, dir: &Path) -> Result<()> {
        if !self.keeps_inodes {
            return Ok(());
        }
        let open = File::open(dir).at("open", dir)?;
        let flags = rustix::fs::ioctl_getflags(&open).at("read flags of", dir)?;
        rustix::fs::ioctl_setflags(&open, flags | rustix::fs::IFlags::TOPDIR).at("set flags of", dir)
    }

    /// Gives the blocks of removed files back to the host, so that an image takes what lies in it and no more.
    ///
    /// # Errors
    ///
    /// What `fstrim` reports, or that it is missing.
    pub fn trim(&self) -> Result<()> {
        if self.image.is_none() {
            return Ok(());
        }
        // Blocks of removed files are free to trim only once the removal is on disk.
        self.settle()?;
        run(Command::new("fstrim").arg(&self.dir), "util-linux").map(|_| ())
    }

    /// Writes what is dirty, and tells the host that the data of an image is not needed in its page cache.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn cool(&self) -> Result<()> {
        self.settle()?;
        let Some(image) = &self.image else { return Ok(()) };
        File::open(image).and_then(|it| it.sync_data()).at("sync", image)?;
        cold::forget(image)
    }

    /// Writes what is dirty, so that it does not weigh on the next sample.
    ///
    /// # Errors
    ///
    /// What `syncfs(2)` reports.
    pub fn settle(&self) -> Result<()> {
        let dir = File::open(&self.dir).at("open", &self.dir)?;
        rustix::fs::syncfs(&dir).at("sync", &self.dir)
    }
}

/// Whether the backing `name` is an image file on the host's file system.
pub fn is_image(name: &str) -> bool {
    name.starts_with("loop:")
}

/// Free inodes that a file system must have before a run leaves them in use till its end.
const INODES_MIN: u64 = 4_000_000;

fn free_inodes(dir: &Path) -> Result<u64> {
    Ok(rustix::fs::statvfs(dir).at("stat file system of", dir)?.f_favail)
}

/// Whether the ext4 that holds `dir` says that no thread writes its journal.
fn has_no_journal(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(dev) = fs::metadata(dir).map(|it| it.dev()) else { return false };
    let block = format!("/sys/dev/block/{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let Some(name) = fs::canonicalize(block).ok().and_then(|it| it.file_name().map(PathBuf::from)) else {
        return false;
    };
    let task = fs::read_to_string(Path::new("/sys/fs/ext4").join(name).join("journal_task"));
    task.is_ok_and(|it| it.trim().parse::<u32>().is_err())
}

/// Bytes that are free on the file system of `dir`.
///
/// # Errors
///
/// What `statvfs(3)` reports.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir).at("stat file system of", dir)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Refuses a file system that has not `bytes` free.
///
/// # Errors
///
/// `Refused`, with both numbers and what would help.
pub fn check_room(dir: &Path, bytes: u64) -> Result<()> {
    let free = free_bytes(dir)?;
    if free < bytes {
        let human = crate::size::human_bytes;
        let (wants, has) = (human(bytes as f64), human(free as f64));
        let reason =
            format!("the matrix may need {wants}, {has} are free; give another --backing or fewer sizes");
        return Err(BenchError::new("use backing", dir, BenchErrorKind::Refused(reason)));
    }
    Ok(())
}

fn mount_tmpfs(home: &Path, bytes: u64) -> Result<(PathBuf, Option<View>)> {
    let branch = Branch::create(&home.join("tmpfs"))?;
    let options = format!("size={bytes},mode=755");
    let (kind, dir) = (Some("tmpfs"), branch.target.clone());
    nix::mount::mount(kind, &dir, kind, MsFlags::empty(), Some(options.as_str()))
        .at("mount tmpfs on", &dir)?;
    Ok((dir, Some(View::kernel(branch))))
}

/// The image of a backing whose branch is `home`.
fn image_of(home: &Path) -> PathBuf {
    home.join("image")
}

/// Makes an image with `mkfs`, attaches and mounts it.
fn mount_image(fs_type: &str, home: &Path, bytes: u64) -> Result<(PathBuf, Option<View>)> {
    let branch = Branch::create(&home.join(fs_type))?;
    let image = image_of(&branch.home);
    // Btrfs keeps data and metadata apart and XFS wants 300 MiB, so give some more; the image is sparse.
    let image_bytes = bytes + bytes / 2 + (1 << 30);
    let file = File::create(&image).at("create image", &image)?;
    file.set_len(image_bytes).at("create image", &image)?;
    run(Command::new(format!("mkfs.{fs_type}")).arg("-q").arg(&image), &format!("{fs_type} tools"))?;
    let device = attach(&image)?;
    let mounted =
        nix::mount::mount(Some(&device.0), &branch.target, Some(fs_type), MsFlags::MS_NOATIME, None::<&str>);
    mounted.at("mount image on", &branch.target)?;
    // Dropping the device now detaches it as soon as its mount is gone, however this process ends.
    drop(device);
    Ok((branch.target.clone(), Some(View::kernel(branch))))
}

/// A loop device that is detached on drop; while mounted, the kernel waits for the unmount.
#[derive(Debug)]
struct LoopDevice(PathBuf);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("-d").arg(&self.0), "mount tools") {
            tracing::warn!(error = error.line(), "a loop device stays attached");
        }
    }
}

fn attach(image: &Path) -> Result<LoopDevice> {
    let name = run(Command::new("losetup").args(["--find", "--show"]).arg(image), "mount tools")?;
    Ok(LoopDevice(PathBuf::from(name.trim())))
}

/// Runs `command` and returns what it said; `package` names the remedy where it is missing.
fn run(command: &mut Command, package: &str) -> Result<String> {
    let program = PathBuf::from(command.get_program());
    // A group of its own: Ctrl-C must reach the bench alone, which ends the run in order.
    let output = command.process_group(0).output().map_err(|error| {
        let reason = format!("{error}; install {package}");
        BenchError::new("run", &program, BenchErrorKind::Refused(reason))
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BenchError::new("run", &program, BenchErrorKind::Tool(said)))
}

/// A scratch directory below `parent`, removed when dropped.
///
/// # Errors
///
/// It cannot be created, or its path has characters that option strings cannot carry.
pub fn scratch(parent: &Path) -> Result<tempfile::TempDir> {
    fs::create_dir_all(parent).at("create backing", parent)?;
    let parent = parent.canonicalize().at("resolve backing", parent)?;
    if let Some(bad) = parent.to_string_lossy().chars().find(|it| ":,=\\ ".contains(*it)) {
        let reason = format!("its path has {bad:?}, which mount options of some drivers cannot carry");
        return Err(BenchError::new("use backing", &parent, BenchErrorKind::Config(reason)));
    }
    tempfile::Builder::new().prefix("s").tempdir_in(&parent).at("create scratch in", &parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_in_groups_of_their_own() {
        // Field 5 of a stat line is the process group.
        let said = run(Command::new("cut").args(["-d ", "-f5", "/proc/self/stat"]), "coreutils").unwrap();
        let group: i32 = said.trim().parse().unwrap();
        assert_ne!(group, nix::unistd::getpgrp().as_raw(), "Ctrl-C would end it with the bench");
    }
}
