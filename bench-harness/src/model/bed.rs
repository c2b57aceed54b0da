//! Where a cell is measured: the mount, its branch and layers, and what all models do there.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use super::Lower;
use crate::cell::{Cache, Params, TreeContent};
use crate::driver::{Branch, Driver, Imported, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{FileSpec, LayerStack};
use crate::pattern::{Extent, Pattern};
use crate::program;
use crate::run::interrupt::Interrupt;
use crate::tree::Tree;

/// Where a cell is measured.
#[derive(Debug)]
pub struct Bed<'a> {
    /// The mounted stack.
    pub view: &'a View,
    /// Its root; every sample starts here, so that the host's path above it costs nothing.
    pub root: OwnedFd,
    /// The layers behind it.
    pub layers: &'a LayerStack,
    /// Contents of files.
    pub pattern: &'a Pattern,
    /// What is measured.
    pub params: &'a Params,
    /// Number of the block, which decides what is written.
    pub block: u32,
    /// For the model that mounts.
    pub mounting: Mounting<'a>,
    /// For models whose one sample takes long.
    pub interrupt: &'a Interrupt,
}

/// What it takes to mount the stack once more.
#[derive(Debug, Clone, Copy)]
pub struct Mounting<'a> {
    /// Who mounts.
    pub driver: &'static dyn Driver,
    /// With which option set.
    pub options: &'a str,
    /// Which layers.
    pub imported: &'a Imported,
    /// A directory for new branches.
    pub home: &'a Path,
}

impl Bed<'_> {
    /// The byte that this block writes; never 0, which the layers hold, nor that of the block before.
    pub fn stamp(&self) -> u8 {
        u8::try_from(1 + self.block % 255).unwrap_or(1)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `file` through the mount.
    ///
    /// # Errors
    ///
    /// That of `openat(2)`.
    pub fn open(&self, file: &FileSpec, flags: OFlags) -> Result<File> {
        let opened = openat(self.root(), &file.path, flags | OFlags::CLOEXEC, Mode::empty());
        // Called while a sample is timed: the whole path is made for an error only.
        opened
            .map(File::from)
            .map_err(|errno| BenchError::new("open", self.view.root.join(&file.path), errno))
    }

    /// Makes the caches what the cell wants: `hot` has looked the file up and read from it.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn warm(&self, file: &FileSpec) -> Result<()> {
        if self.params.cache == Cache::Hot {
            let open = self.open(file, OFlags::RDONLY)?;
            open.read_at(&mut [0; 4096], 0).at("read", &file.path)?;
        }
        Ok(())
    }

    /// Every file whose data a sample of `file` may read: in the layer, and in the copies of drivers that copy.
    pub fn read_by(&self, lower: Lower, file: &FileSpec) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut names = match lower {
            Lower::Nothing => Vec::new(),
            Lower::File => vec![file.path.clone()],
            Lower::Tree(shape) => {
                Tree::new(file, shape).files(&file.path).into_iter().map(|it| it.0).collect()
            }
        };
        found.extend(names.iter().map(|it| self.layers.dirs[file.found_at as usize - 1].join(it)));
        if self.params.tree().content == TreeContent::Program {
            let path = PathBuf::from(program::PATH);
            found.extend(self.layers.dirs.last().map(|lowest| lowest.join(&path)));
            names.push(path);
        }
        let copies = self.mounting.imported.flat.as_deref();
        let shown = self.view.upper.is_none().then_some(self.view.root.as_path());
        let roots = copies.into_iter().chain(shown.filter(|it| Some(*it) != copies));
        found.extend(roots.flat_map(|root| names.iter().map(|it| root.join(it))));
        found
    }

    /// The file of the writable branch, for drivers that copy up.
    pub fn upper_path(&self, file: &FileSpec) -> Option<PathBuf> {
        self.view.upper.as_ref().map(|upper| upper.join(&file.path))
    }

    /// Bytes that the copy on the writable branch takes, for drivers that copy up.
    pub fn upper_bytes(&self, file: &FileSpec) -> Option<u64> {
        let stat = std::fs::symlink_metadata(self.upper_path(file)?).ok()?;
        Some(stat.blocks() * 512)
    }

    /// Checks the content seen through the mount, and that a copy of that length lies above the layers.
    pub(super) fn check_written(&self, file: &FileSpec, stamp: &[u8], extent: Extent) -> Result<()> {
        let open = self.open(file, OFlags::RDONLY)?;
        let found = self.pattern.difference(&open, file.number, file.len_bytes, stamp, extent);
        if let Some(difference) = found.at("read", &file.path)? {
            return Err(self.incorrect(file, difference));
        }
        self.check_copied(file)
    }

    /// Checks that the writable branch has a copy with the file's length.
    pub(super) fn check_copied(&self, file: &FileSpec) -> Result<()> {
        self.check_copied_len(file, file.len_bytes)
    }

    /// Checks that the writable branch has a copy of `len_bytes`.
    pub(super) fn check_copied_len(&self, file: &FileSpec, len_bytes: u64) -> Result<()> {
        let Some(upper) = self.upper_path(file) else { return Ok(()) };
        match std::fs::symlink_metadata(&upper) {
            Ok(stat) if stat.is_file() && stat.len() == len_bytes => Ok(()),
            Ok(stat) => {
                let is = format!("the copy has {} bytes instead of {len_bytes}", stat.len());
                Err(self.incorrect(file, is))
            }
            Err(error) => Err(self.incorrect(file, format!("no copy on the writable branch: {error}"))),
        }
    }

    /// Checks that the writable branch has no copy.
    pub(super) fn check_not_copied(&self, file: &FileSpec) -> Result<()> {
        match self.upper_path(file) {
            Some(upper) if upper.symlink_metadata().is_ok() => {
                Err(self.incorrect(file, "was copied up though nothing was written".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that `path` below the root has the `len_bytes` of file `number`, at most 64 KiB.
    pub(super) fn check_small(&self, path: &Path, number: u64, len_bytes: u64) -> Result<()> {
        let opened = openat(self.root(), path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut found = Vec::new();
        opened.map(File::from).at("open", path)?.read_to_end(&mut found).at("read", path)?;
        if found == self.pattern.small(number, len_bytes) {
            return Ok(());
        }
        let what = format!("{} bytes that are not those of file {number}", found.len());
        Err(BenchError::new("check", self.view.root.join(path), BenchErrorKind::Incorrect(what)))
    }

    /// Shows the stack once more, on fresh branches.
    pub(super) fn mount_again(&self, name: &str) -> Result<View> {
        let Mounting { driver, options, imported, home } = self.mounting;
        driver.mount(options, imported, Branch::create(&home.join(name))?)
    }

    pub(super) fn incorrect(&self, file: &FileSpec, what: String) -> BenchError {
        BenchError::new("check", self.view.root.join(&file.path), BenchErrorKind::Incorrect(what))
    }
}
