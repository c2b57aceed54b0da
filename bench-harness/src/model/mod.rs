//! Models: what is done to a file, timed, and checked afterwards.
//!
//! A new one is one file and one line in [`ALL`].

mod append;
mod bare_copy;
mod chmod;
mod chown_tree;
mod copy_up;
mod create;
mod database;
mod density;
mod git_status;
mod listing;
mod lookup;
mod lookup_missing;
mod marker;
mod mount;
mod null;
mod opaque;
mod page_cache;
mod parallel;
mod read_files;
mod read_mapped;
mod read_random;
mod read_sequential;
mod readdir;
pub mod reference;
mod remove_tree;
mod rename;
mod rename_dir;
mod second_write;
mod server_memory;
mod start;
#[cfg(test)]
mod tests;
mod threads;
mod truncate;
mod unlink;
mod untar;
mod usage;
mod walk;
mod whiteout;
mod write_random;
mod write_sequential;
mod writers;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::cell::{Cache, Params, TreeContent};
use crate::driver::{Branch, Driver, Imported, View};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{FileSpec, LayerStack};
use crate::pattern::{Extent, Pattern};
use crate::program;
use crate::run::interrupt::Interrupt;
use crate::run::journal::Metric;
use crate::tree::{Shape, Tree};

/// One timed repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The whole, in ns.
    pub elapsed_ns: u64,
    /// The part until the file was open, or the stack mounted, in ns, for models that do so first.
    pub open_ns: Option<u64>,
    /// What was measured besides time.
    pub metrics: Vec<(Metric, u64)>,
}

impl From<u64> for Timing {
    /// A sample that took `elapsed_ns`, and nothing more to say.
    fn from(elapsed_ns: u64) -> Self {
        Self { elapsed_ns, open_ns: None, metrics: Vec::new() }
    }
}

/// What a model needs in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    /// Nothing: names that no layer has.
    Nothing,
    /// One file for each sample.
    File,
    /// A tree of files for each sample.
    Tree(Shape),
}

/// What must leave the caches so that a model starts cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chill {
    /// It has no cold form.
    Nothing,
    /// The data of the layer's files.
    Data,
    /// Names and attributes.
    Names,
}

/// Closes a file, and reports what a delayed write met, which dropping it would not.
fn close(open: impl IntoRawFd) -> std::io::Result<()> {
    nix::unistd::close(open.into_raw_fd()).map_err(std::io::Error::from)
}

/// What is done to a file.
pub trait Model: Send + Sync + fmt::Debug {
    /// Name in matrices and reports.
    fn name(&self) -> &'static str;

    /// What is timed, in a sentence, as reports and `list` say it.
    fn about(&self) -> &'static str;

    /// What lies in a layer for each sample.
    fn lower(&self) -> Lower {
        Lower::File
    }

    /// Whether file size is an axis of it.
    fn is_sized(&self) -> bool {
        self.lower() != Lower::Nothing
    }

    /// The longest file that it can take, in bytes; any without it.
    fn len_max_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether one sample takes many files, so that their number is an axis of it.
    fn takes_many(&self) -> bool {
        matches!(self.lower(), Lower::Tree(_))
    }

    /// Whether the number of threads is an axis of it.
    fn takes_threads(&self) -> bool {
        false
    }

    /// Whether a sample is one operation of a caller, which can be due at a time.
    fn is_single_operation(&self) -> bool {
        false
    }

    /// Whether its samples leave files on the writable branch that are as long as those of the layers.
    fn fills_branches(&self) -> bool {
        true
    }

    /// Whether each sample mounts the stack anew, for which some drivers copy the whole tree.
    fn mounts_anew(&self) -> bool {
        false
    }

    /// What it must not find in the caches with `cache = cold`.
    fn chills(&self) -> Chill {
        Chill::Nothing
    }

    /// Why the model says nothing about `driver`, if it does not.
    fn refuses(&self, _driver: &dyn Driver) -> Option<&'static str> {
        None
    }

    /// Brings `file` into the state that the sample starts from. Untimed.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    fn prepare(&self, _bed: &Bed<'_>, _file: &FileSpec) -> Result<()> {
        Ok(())
    }

    /// Does the thing once, and times it.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing>;

    /// Checks that what was done is so. Untimed.
    ///
    /// # Errors
    ///
    /// `Incorrect`, with what is wrong; else what reading reports.
    fn check(&self, bed: &Bed<'_>, file: &FileSpec, extent: Extent) -> Result<()>;

    /// Takes away what the sample made, for drivers whose next block would find it. Untimed.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    fn restore(&self, _bed: &Bed<'_>, _file: &FileSpec) -> Result<()> {
        Ok(())
    }

    /// Space that the sample has taken on the writable branch, in bytes, for models where that is of interest
    /// and drivers that have a branch.
    fn upper_bytes(&self, _bed: &Bed<'_>, _file: &FileSpec) -> Option<u64> {
        None
    }
}

/// The models that every block of every run has, on `plain` and whatever the matrix says: they measure no
/// driver but the harness and the machine.
pub static YARDSTICKS: [&str; 2] = ["null", "reference"];

/// Whether the model called `name` is one of [`YARDSTICKS`].
pub fn is_yardstick(name: &str) -> bool {
    YARDSTICKS.contains(&name)
}

/// What a yardstick says to `driver`.
fn only_plain(driver: &dyn Driver) -> Option<&'static str> {
    (driver.name() != PLAIN).then_some("a yardstick without any driver; plain stands for it")
}

/// The driver that yardsticks are written down under.
pub const PLAIN: &str = "plain";

/// All models, in the order of tables.
static ALL: &[&dyn Model] = &[
    &null::Null,
    &reference::Reference,
    &copy_up::CopyUp,
    &append::Append,
    &truncate::Truncate,
    &chmod::Chmod,
    &chown_tree::ChownTree,
    &rename::Rename,
    &rename_dir::RenameDir,
    &whiteout::Whiteout,
    &opaque::Opaque,
    &second_write::SecondWrite,
    &lookup::Lookup,
    &lookup_missing::LookupMissing,
    &mount::Mount,
    &readdir::Readdir,
    &walk::Walk,
    &read_files::ReadFiles,
    &read_sequential::ReadSequential,
    &write_sequential::WriteSequential,
    &read_random::ReadRandom,
    &write_random::WriteRandom,
    &read_mapped::ReadMapped,
    &bare_copy::BareCopy,
    &create::Create,
    &unlink::Unlink,
    &untar::Untar,
    &remove_tree::RemoveTree,
    &parallel::Parallel,
    &page_cache::PageCache,
    &server_memory::ServerMemory,
    &start::Start,
    &density::Density,
    &git_status::GitStatus,
    &writers::Writers,
    &database::Database,
];

/// The model called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Model> {
    ALL.iter().find(|it| it.name() == name).copied()
}

/// All names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|it| it.name()).collect()
}

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

    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `file` through the mount.
    fn open(&self, file: &FileSpec, flags: OFlags) -> Result<File> {
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
        use std::os::unix::fs::FileExt as _;
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
    fn upper_path(&self, file: &FileSpec) -> Option<PathBuf> {
        self.view.upper.as_ref().map(|upper| upper.join(&file.path))
    }

    /// Bytes that the copy on the writable branch takes, for drivers that copy up.
    pub fn upper_bytes(&self, file: &FileSpec) -> Option<u64> {
        let stat = std::fs::symlink_metadata(self.upper_path(file)?).ok()?;
        Some(stat.blocks() * 512)
    }

    /// Checks the content seen through the mount, and that a copy of that length lies above the layers.
    fn check_written(&self, file: &FileSpec, stamp: &[u8], extent: Extent) -> Result<()> {
        let open = self.open(file, OFlags::RDONLY)?;
        let found = self.pattern.difference(&open, file.number, file.len_bytes, stamp, extent);
        if let Some(difference) = found.at("read", &file.path)? {
            return Err(self.incorrect(file, difference));
        }
        self.check_copied(file)
    }

    /// Checks that the writable branch has a copy with the file's length.
    fn check_copied(&self, file: &FileSpec) -> Result<()> {
        self.check_copied_len(file, file.len_bytes)
    }

    /// Checks that the writable branch has a copy of `len_bytes`.
    fn check_copied_len(&self, file: &FileSpec, len_bytes: u64) -> Result<()> {
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
    fn check_not_copied(&self, file: &FileSpec) -> Result<()> {
        match self.upper_path(file) {
            Some(upper) if upper.symlink_metadata().is_ok() => {
                Err(self.incorrect(file, "was copied up though nothing was written".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that `path` below the root has the `len_bytes` of file `number`, at most 64 KiB.
    fn check_small(&self, path: &Path, number: u64, len_bytes: u64) -> Result<()> {
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
    fn mount_again(&self, name: &str) -> Result<View> {
        let Mounting { driver, options, imported, home } = self.mounting;
        driver.mount(options, imported, Branch::create(&home.join(name))?)
    }

    fn incorrect(&self, file: &FileSpec, what: String) -> BenchError {
        BenchError::new("check", self.view.root.join(&file.path), BenchErrorKind::Incorrect(what))
    }
}
