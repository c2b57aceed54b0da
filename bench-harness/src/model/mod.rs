//! Models: what is done to a file, timed, and checked afterwards.
//!
//! A new one is one file and one line in [`ALL`].

mod append;
mod bare_copy;
mod bed;
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
use std::os::fd::IntoRawFd;

pub use bed::{Bed, Mounting};

use crate::driver::Driver;
use crate::error::Result;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::run::journal::Metric;
use crate::tree::Shape;

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

    /// Whether a sample leaves a copy of its file on the writable branch, under the same path.
    fn copies_up(&self) -> bool {
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
