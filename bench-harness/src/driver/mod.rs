//! Drivers: the ways to show layers writable that are measured against each other.
//!
//! How a driver works is known here and nowhere else. A new one is one file and
//! one line in [`ALL`].

mod aufs_fuse;
mod aufs_kernel;
mod btrfs;
pub mod command;
mod flat;
mod fuse_overlayfs;
mod fuse_overlayfs_2;
mod limits;
mod marked;
mod overlayfs;
mod plain;
mod reflink;
mod server;
mod unionfs_fuse;
pub mod version;
mod vfs;
mod view;
mod volume;
mod watchdog;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use flat::{empty_trees, remove_trees};
pub use limits::Limits;
pub use view::{Branch, View};
pub use watchdog::{Guard, Watchdog};

use crate::cell::{TreeContent, TreeKey};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{LayerStack, WARM_FILE};
use crate::pattern::Pattern;

/// One way to give a container a writable view of stacked layers. Holds no state.
pub trait Driver: Send + Sync + fmt::Debug {
    /// Name in matrices and reports.
    fn name(&self) -> &'static str;

    /// Its option sets, the first being `default`.
    fn options(&self) -> &'static [&'static str] {
        &["default"]
    }

    /// What the driver needs before a trial is worth making; an error says what is missing.
    ///
    /// # Errors
    ///
    /// The reason that the report shows for the skipped driver.
    fn needs(&self, options: &str) -> Result<(), String>;

    /// Brings `layers` into the driver's own form below the empty directory `home`. Untimed.
    ///
    /// # Errors
    ///
    /// Any I/O error while copying.
    fn import(&self, layers: &LayerStack, home: &Path) -> Result<Imported>;

    /// Shows `imported` with the fresh `branch` on top. This is what the `mount` model times.
    ///
    /// # Errors
    ///
    /// The mount was refused, or the driver's process ended before it was up.
    fn mount(&self, options: &str, imported: &Imported, branch: Branch) -> Result<View>;

    /// Whether importing copies the layers.
    fn copies_layers(&self) -> bool {
        false
    }

    /// Whether each mount takes as much room as the layers; copies that share blocks do not.
    fn copies_on_mount(&self) -> bool {
        false
    }

    /// Whether a process of its own serves the mount.
    fn has_server(&self) -> bool {
        false
    }

    /// Whether each mount starts from the layers again; a plain directory keeps its changes.
    fn renews(&self) -> bool {
        true
    }

    /// The program that serves its mounts where [`Imported::program`] names none; `None` for drivers that take none.
    ///
    /// The error says that none was found, and how to get one.
    fn program(&self) -> Option<Result<PathBuf, String>> {
        None
    }

    /// Whether it mounts anything; a plain directory is shown as it lies.
    fn is_mounted(&self) -> bool {
        true
    }

    /// The version of its program, or of the kernel that it is part of; `None` where it is not installed.
    fn version(&self) -> Option<String> {
        version::of_kernel()
    }
}

/// Layers in a driver's own form.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// Layer directories, topmost first.
    pub layers: Vec<PathBuf>,
    /// All layers copied into one tree, for drivers that do not stack.
    pub flat: Option<PathBuf>,
    /// The program that serves the mount, instead of [`Driver::program`].
    pub program: Option<PathBuf>,
}

impl Imported {
    fn stacked(layers: &LayerStack) -> Self {
        Self { layers: layers.dirs.clone(), ..Self::default() }
    }

    /// The flat tree of a driver that has made one on import.
    fn flat(&self) -> Result<&Path> {
        let missing = || BenchErrorKind::Refused("the layers were not imported".to_owned());
        self.flat.as_deref().ok_or_else(|| BenchError::new("find", "flat tree", missing()))
    }
}

/// Every driver, in the order of tables and legends.
static ALL: &[&dyn Driver] = &[
    &plain::Plain,
    &volume::Volume,
    &vfs::Vfs,
    &reflink::Reflink,
    &btrfs::Btrfs,
    &overlayfs::Overlayfs,
    &aufs_fuse::AufsFuse,
    &aufs_kernel::AufsKernel,
    &fuse_overlayfs::FuseOverlayfs,
    &fuse_overlayfs_2::FuseOverlayfs2,
    &unionfs_fuse::UnionfsFuse,
];

/// The driver called `name`: one of [`ALL`], or one that a command describes.
pub fn by_name(name: &str) -> Option<&'static dyn Driver> {
    all().find(|it| it.name() == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    all().map(Driver::name).collect()
}

/// The option sets of the driver called `name`.
pub fn options_of(name: &str) -> Option<&'static [&'static str]> {
    by_name(name).map(Driver::options)
}

/// Versions of the drivers that are not part of the kernel, by their names.
pub fn versions() -> BTreeMap<String, String> {
    let kernel = version::of_kernel();
    let versions = all().filter_map(|it| Some((it.name().to_owned(), it.version()?)));
    versions.filter(|it| Some(&it.1) != kernel.as_ref()).collect()
}

fn all() -> impl Iterator<Item = &'static dyn Driver> {
    ALL.iter().copied().chain(command::registered())
}

/// Whether `driver` runs here, tried on a small stack in `dir`; an error is the reason.
///
/// # Errors
///
/// What the driver lacks, or what the trial mount reported.
pub fn probe(driver: &dyn Driver, options: &str, dir: &Path) -> Result<(), String> {
    driver.needs(options)?;
    trial(driver, options, None, dir).map_err(|error| match error.kind {
        // A plain refusal says all; the place of the trial would only confuse.
        BenchErrorKind::Refused(reason) => reason,
        _ => error.line(),
    })
}

/// Mounts two layers, reads from the lower one through the mount, writes to it, unmounts.
///
/// `program` serves it, instead of the driver's own.
///
/// # Errors
///
/// What the mount reported, or `TimedOut`.
pub fn trial(driver: &dyn Driver, options: &str, program: Option<&Path>, dir: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("t").tempdir_in(dir).at("create trial in", dir)?;
    let key = TreeKey { n_layers: 2, content: TreeContent::Files };
    let stack = LayerStack::build(&scratch.path().join("l"), key, Default::default(), &Pattern::default())?;
    let home = scratch.path().join("h");
    fs::create_dir(&home).at("create", &home)?;
    let imported = Imported { program: program.map(Path::to_owned), ..driver.import(&stack, &home)? };
    let branch = Branch::create(&scratch.path().join("b"))?;
    let (limits, home) = (Limits::chosen(), branch.home.clone());
    let watchdog = Watchdog::start(limits)?;
    let guard = watchdog.guard(&home, limits.mount);
    let tried = driver.mount(options, &imported, branch).and_then(|mut view| {
        let file = view.root.join(WARM_FILE);
        let tried = fs::OpenOptions::new().append(true).open(&file).at("open for write", &file).map(drop);
        let closed = view.close();
        tried.and(closed)
    });
    guard.end(tried)
}
