//! Makes a process see a container's tree and nothing else: in namespaces of its own, which end with it.
//!
//! The tree is hostile: what is mounted into it goes to handles that were found
//! beneath its root, never to paths that its symbolic links could bend.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aufs_host::entry::proc_path;
use aufs_host::errno::errno_of;
use nix::mount::{MsFlags, mount};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::ContainerErrorKind;
use super::store::Volume;
use crate::error::failed;

/// Devices that every program may expect; all are the host's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links below `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const NONE: Option<&str> = None;

/// Mounts what a container needs into its tree, and makes that the root of this process, which has to have a mount and a
/// process namespace of its own.
///
/// # Errors
///
/// What the host refuses, with the path.
pub fn enter(root: &Path, volumes: &[Volume]) -> Result<(), ContainerErrorKind> {
    leave_to_ourselves()?;
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty()).map_err(failed("open", root))?;
    fill_dev(dir.as_fd())?;
    let proc = directory_in(dir.as_fd(), Path::new("proc"))?;
    let no = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    called("mount", "/proc", mount(Some("proc"), &*proc_path(&proc), Some("proc"), no, NONE))?;
    for volume in volumes {
        add_volume(dir.as_fd(), volume)?;
    }
    rustix::process::fchdir(&dir).map_err(failed("chdir", root))?;
    rustix::process::chroot(".").map_err(failed("chroot", root))?;
    Ok(rustix::process::chdir("/").map_err(failed("chdir", "/"))?)
}

/// Makes what is mounted from here on be seen by nobody outside of this mount namespace.
pub(super) fn leave_to_ourselves() -> Result<(), ContainerErrorKind> {
    called("mount", "/", mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE))
}

fn fill_dev(root: BorrowedFd<'_>) -> Result<(), ContainerErrorKind> {
    let target = directory_in(root, Path::new("dev"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let size = Some("mode=755,size=64k");
    called("mount", "/dev", mount(Some("tmpfs"), &*proc_path(&target), Some("tmpfs"), flags, size))?;
    // Opened again, to be in the file system that lies there now.
    let dev = directory_in(root, Path::new("dev"))?;
    for name in DEVICES {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dev, name, flags, Mode::from_raw_mode(0o666))
            .map_err(failed("create", name))?;
        let host = Path::new("/dev").join(name);
        called("mount", name, mount(Some(&host), &*proc_path(&file), NONE, MsFlags::MS_BIND, NONE))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(failed("symlink", name))?;
    }
    let shm = directory_in(root, Path::new("dev/shm"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    called("mount", "/dev/shm", mount(Some("tmpfs"), &*proc_path(&shm), Some("tmpfs"), flags, NONE))
}

/// Mounts a volume into a tree, in which its mount point is made if missing.
pub(super) fn add_volume(root: BorrowedFd<'_>, volume: &Volume) -> Result<(), ContainerErrorKind> {
    let Volume { host, path, read_only } = volume;
    let is_dir = fs::metadata(host).map_err(errno_of).map_err(failed("stat", host))?.is_dir();
    let target = if is_dir { directory_in(root, path)? } else { file_in(root, path)? };
    let target = proc_path(&target);
    called("mount", host, mount(Some(host), &*target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE))?;
    if *read_only {
        // Found anew, as the handle leads below what was just mounted.
        let over = open_in(root, path).map_err(failed("open", path))?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        called("mount", path, mount(NONE, &*proc_path(&over), NONE, flags, NONE))?;
    }
    Ok(())
}

/// Opens a directory of the tree, which is made if missing.
fn directory_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, ContainerErrorKind> {
    let mut dir = open_in(root, Path::new(".")).map_err(failed("open", "."))?;
    let mut way = std::path::PathBuf::new();
    for component in path.components() {
        let std::path::Component::Normal(name) = component else { continue };
        way.push(name);
        // Links lead where they would lead a process in there.
        dir = match open_in(root, &way) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed("mkdir", way)(errno).into()),
                }
                open_in(root, &way).map_err(failed("open", &way))?
            }
            other => other.map_err(failed("open", &way))?,
        };
    }
    Ok(dir)
}

/// Opens a file of the tree, which is made if missing.
fn file_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, ContainerErrorKind> {
    match open_in(root, path) {
        Err(Errno::NOENT) => {}
        other => return Ok(other.map_err(failed("open", path))?),
    }
    let parent = directory_in(root, path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o644));
    Ok(made.map_err(failed("create", path))?)
}

fn open_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

pub(super) fn called(
    call: &'static str,
    path: impl Into<std::path::PathBuf>,
    done: nix::Result<()>,
) -> Result<(), ContainerErrorKind> {
    let done = done.map_err(|errno| Errno::from_raw_os_error(errno as i32));
    Ok(done.map_err(failed(call, path))?)
}
