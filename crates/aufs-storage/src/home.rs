//! The directories of the driver, held open: `layers/`, `diff/` and `mnt/` of Docker's layout, and our own state beside them.
//!
//! | below the data root | holds                                                        |
//! |---------------------|--------------------------------------------------------------|
//! | `aufs/layers/ID`    | the ancestors of a layer; that this file exists makes a layer |
//! | `aufs/diff/ID/`     | its content, a branch                                        |
//! | `aufs/mnt/ID/`      | where it is mounted with its ancestors; empty otherwise      |
//! | `aufs-rs/counts/ID` | who uses it ([`crate::count`]), locked while it is worked on  |
//! | `aufs-rs/drafts/`   | files on their way into `layers/`                            |

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aufs_detect::docker_name;
use aufs_host::draft::{Draft, fresh_name, is_alive, owner_of, read_names};
use aufs_host::entry::{Entry, open_directory};
use aufs_host::errno::errno_of;
use aufs_host::remove::remove_tree;
use aufs_mount::mounter::Mounter;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use tracing::warn;

use crate::error::{StorageErrorKind, failed};
use crate::id::{LayerId, REMOVING};
use crate::layers_file;
use crate::record::Records;

/// Mode of Docker's directories.
///
/// Source: `daemon/graphdriver/aufs/aufs.go` of moby 20.10, `Init`.
const MODE: u32 = 0o710;

/// The open directories.
#[derive(Debug)]
pub(crate) struct Home {
    /// Of `aufs/`, absolute and free of symlinks.
    pub(crate) path: PathBuf,
    pub(crate) layers: OwnedFd,
    pub(crate) diff: OwnedFd,
    pub(crate) mnt: OwnedFd,
    pub(crate) counts: OwnedFd,
    pub(crate) drafts: OwnedFd,
    /// Of `aufs-rs/`, where our own objects lie.
    state: OwnedFd,
    state_path: PathBuf,
    /// Which mount `mnt/` itself lies on.
    mnt_mount_id: u64,
    /// What its file system is called.
    pub(crate) backing: &'static str,
}

impl Home {
    /// Opens the home below a data root, and makes what is missing of it.
    pub(crate) fn open(root: &Path, mounter: Option<Mounter>) -> Result<Self, StorageErrorKind> {
        fs::create_dir_all(root).map_err(|error| StorageErrorKind::Call {
            call: "mkdir",
            path: root.to_owned(),
            errno: errno_of(error),
        })?;
        let root = fs::canonicalize(root).map_err(|error| StorageErrorKind::Call {
            call: "realpath",
            path: root.to_owned(),
            errno: errno_of(error),
        })?;
        let root_dir = rustix::fs::open(&root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open", &root))?;
        let path = root.join("aufs");
        let home = directory(&root_dir, &root, "aufs")?;
        let backing = backing(&home, &path, mounter)?;
        let state_path = root.join("aufs-rs");
        let state = directory(&root_dir, &root, "aufs-rs")?;
        let mnt = directory(&home, &path, "mnt")?;
        let mnt_mount_id = mount_id(&mnt, OsStr::new("")).map_err(failed("statx", path.join("mnt")))?;
        Ok(Self {
            diff: directory(&home, &path, "diff")?,
            layers: directory(&home, &path, "layers")?,
            counts: directory(&state, &state_path, "counts")?,
            drafts: directory(&state, &state_path, "drafts")?,
            mnt,
            mnt_mount_id,
            state,
            state_path,
            path,
            backing,
        })
    }

    /// Where the content of a layer lies.
    pub(crate) fn diff_path(&self, id: &LayerId) -> PathBuf {
        self.path.join("diff").join(id)
    }

    /// Where a layer is mounted.
    pub(crate) fn mnt_path(&self, id: &LayerId) -> PathBuf {
        self.path.join("mnt").join(id)
    }

    /// Opens a directory of ours, which is made if missing; returns its path too.
    pub(crate) fn state_directory(&self, name: &'static str) -> Result<(OwnedFd, PathBuf), StorageErrorKind> {
        Ok((directory(&self.state, &self.state_path, name)?, self.state_path.join(name)))
    }

    /// Opens objects of ours.
    pub(crate) fn records(&self, name: &'static str) -> Result<Records, StorageErrorKind> {
        let (dir, path) = self.state_directory(name)?;
        let drafts = open_directory(&self.drafts, OsStr::new("."))
            .map_err(failed("open", self.state_path.join("drafts")))?;
        Ok(Records::new(dir, path, drafts))
    }

    /// Opens the content of a layer.
    pub(crate) fn open_diff(&self, id: &LayerId) -> Result<OwnedFd, StorageErrorKind> {
        open_directory(&self.diff, id.as_ref()).map_err(failed("open", self.diff_path(id)))
    }

    /// Where each layer has a directory.
    pub(crate) fn directories(&self) -> [(&OwnedFd, &'static str); 2] {
        [(&self.diff, "diff"), (&self.mnt, "mnt")]
    }

    /// Makes the directory of a layer in `diff/` or `mnt/`.
    pub(crate) fn make_directory(&self, dir: &OwnedFd, id: &LayerId) -> Result<(), Errno> {
        rustix::fs::mkdirat(dir, id.as_str(), Mode::from_raw_mode(0o755))?;
        Entry::At(dir.as_fd(), id.as_ref()).chmod(0o755)
    }

    /// Whether there is such a layer.
    pub(crate) fn has(&self, id: &LayerId) -> Result<bool, StorageErrorKind> {
        match rustix::fs::statat(&self.layers, id.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("stat", self.path.join("layers").join(id))(errno)),
        }
    }

    /// The ancestors of a layer, nearest first.
    pub(crate) fn ancestors(&self, id: &LayerId) -> Result<Vec<LayerId>, StorageErrorKind> {
        let path = || self.path.join("layers").join(id);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.layers, id.as_str(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(StorageErrorKind::Unknown),
            other => other.map_err(failed("open", path()))?,
        };
        let bytes = layers_file::read(file).map_err(failed("read", path()))?;
        Ok(layers_file::parse(id, &bytes)?)
    }

    /// Makes a layer exist, in one step that a crash leaves done or not begun.
    pub(crate) fn publish(&self, id: &LayerId, ancestors: &[LayerId]) -> Result<(), StorageErrorKind> {
        let path = || self.path.join("layers").join(id);
        let mut draft = self.layers_draft(id, ancestors)?;
        match draft.publish(&self.layers, id.as_ref()) {
            Err(Errno::EXIST) => return Err(StorageErrorKind::Exists),
            other => other.map_err(failed("link", path()))?,
        }
        rustix::fs::fsync(&self.layers).map_err(failed("fsync", self.path.join("layers")))
    }

    /// Writes the file of a layer anew, whatever stood there.
    pub(crate) fn rewrite(&self, id: &LayerId, ancestors: &[LayerId]) -> Result<(), StorageErrorKind> {
        let path = || self.path.join("layers").join(id);
        let mut draft = self.layers_draft(id, ancestors)?;
        // A link does not take the place of another; a name beside it does.
        let (dir, beside) = (self.drafts_of_layers(), fresh_name());
        draft.publish(dir, &beside).map_err(failed("link", path()))?;
        rustix::fs::renameat(dir, &beside, &self.layers, id.as_str())
            .or_else(|errno| rustix::fs::unlinkat(dir, &beside, AtFlags::empty()).and(Err(errno)))
            .map_err(failed("rename", path()))?;
        rustix::fs::fsync(&self.layers).map_err(failed("fsync", self.path.join("layers")))
    }

    /// Where files of `layers/` are written.
    fn drafts_of_layers(&self) -> BorrowedFd<'_> {
        // Docker's daemon may look at the files of `layers/`, so a draft lies elsewhere where it can.
        let is_near = device_of(&self.drafts) == device_of(&self.layers);
        if is_near { self.drafts.as_fd() } else { self.layers.as_fd() }
    }

    /// Writes a file of `layers/`, which does not show yet.
    fn layers_draft(&self, id: &LayerId, ancestors: &[LayerId]) -> Result<Draft<'_>, StorageErrorKind> {
        let path = || self.path.join("layers").join(id);
        let draft = Draft::file(self.drafts_of_layers(), 0o644).map_err(failed("create", path()))?;
        let Some(file) = draft.as_file() else { return Err(failed("create", path())(Errno::IO)) };
        std::io::Write::write_all(&mut &*file, layers_file::print(ancestors).as_bytes())
            .map_err(|error| failed("write", path())(errno_of(error)))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(0o644)).map_err(failed("chmod", path()))?;
        rustix::fs::fsync(file).map_err(failed("fsync", path()))?;
        for (dir, name) in self.directories() {
            rustix::fs::fsync(dir).map_err(failed("fsync", self.path.join(name)))?;
        }
        Ok(draft)
    }

    /// Ends the existence of a layer; one that does not exist is fine.
    pub(crate) fn withdraw(&self, id: &LayerId) -> Result<(), StorageErrorKind> {
        match rustix::fs::unlinkat(&self.layers, id.as_str(), AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed("unlink", self.path.join("layers").join(id)))?,
        }
        rustix::fs::fsync(&self.layers).map_err(failed("fsync", self.path.join("layers")))
    }

    /// Names in `layers/`, as `Dirs` of the status counts them: all that is no directory.
    pub(crate) fn layer_names(&self) -> Result<Vec<OsString>, StorageErrorKind> {
        let mut names = read_names(&self.layers).map_err(failed("list", self.path.join("layers")))?;
        names.retain(|name| {
            let stat = rustix::fs::statat(&self.layers, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) != FileType::Directory)
        });
        names.sort();
        Ok(names)
    }

    /// The mount that lies on `mnt/ID`; none where there is none, or no such directory.
    pub(crate) fn mount_on(&self, id: &LayerId) -> Result<Option<u64>, Errno> {
        match mount_id(&self.mnt, id.as_ref()) {
            Ok(found) => Ok((found != self.mnt_mount_id).then_some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes what earlier deletions left behind; what cannot be removed is left for the next time.
    pub(crate) fn sweep(&self) {
        for (dir, shown) in self.directories() {
            let names = read_names(dir).unwrap_or_default();
            for name in names.iter().filter(|it| it.to_string_lossy().ends_with(REMOVING)) {
                match remove_tree(dir, name) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => warn!(?name, %errno, "{shown}/ keeps what is left of a deleted layer"),
                }
            }
        }
        for name in read_names(&self.drafts).unwrap_or_default() {
            // A draft of a process that lives has no name, but where the file system knows only named ones.
            if !owner_of(&name).is_some_and(is_alive)
                && let Err(errno) = remove_tree(&self.drafts, &name)
            {
                warn!(?name, %errno, "an unfinished layers file stays behind");
            }
        }
    }
}

/// Opens a directory below `parent`, which is made if missing.
fn directory(parent: &OwnedFd, parent_path: &Path, name: &'static str) -> Result<OwnedFd, StorageErrorKind> {
    let path = parent_path.join(name);
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(MODE)) {
        Err(Errno::EXIST) => {}
        other => {
            other.map_err(failed("mkdir", &path))?;
            let entry = Entry::At(parent.as_fd(), OsStr::new(name));
            entry.chmod(MODE).map_err(failed("chmod", &path))?;
        }
    }
    open_directory(parent, OsStr::new(name)).map_err(failed("open", &path))
}

/// Names the file system, unless no branch can lie on it.
fn backing(home: &OwnedFd, path: &Path, mounter: Option<Mounter>) -> Result<&'static str, StorageErrorKind> {
    let stat = rustix::fs::fstatfs(home).map_err(failed("statfs", path))?;
    let magic = u32::try_from(stat.f_type & 0xffff_ffff).unwrap_or_default();
    let fs = docker_name(magic).unwrap_or("<unknown>");
    let is_refused = match fs {
        "aufs" | "ecryptfs" => true,
        // Kernel aufs cannot lie on subvolumes; for our server they are directories like others.
        "btrfs" => mounter == Some(Mounter::Kernel),
        _ => false,
    };
    if is_refused { Err(StorageErrorKind::Backing { fs }) } else { Ok(fs) }
}

/// The mount that an entry of a directory shows, or with an empty name the directory itself.
pub(crate) fn mount_id(dir: &OwnedFd, name: &OsStr) -> Result<u64, Errno> {
    // Not asking the server keeps a stuck one from holding everybody up.
    let flags =
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(dir, name, flags, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

fn device_of(dir: &OwnedFd) -> Option<u64> {
    rustix::fs::fstat(dir).ok().map(|it| it.st_dev)
}
