//! A data root of one test, whose mounts go with it.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "shared by test programs; a test that cannot prepare has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use aufs_storage::container::ContainerStore;
use aufs_storage::driver::{Driver, DriverOptions, Removal};
use aufs_storage::error::{StorageError, StorageErrorKind};
use aufs_storage::id::LayerId;
use aufs_testkit::needs::{Need, skips};

/// Whether the test cannot run here; says why.
pub fn skip() -> bool {
    skips(&[Need::Root, Need::Fuse])
}

pub fn id(text: impl AsRef<str>) -> LayerId {
    text.as_ref().parse().unwrap()
}

pub struct Store {
    base: tempfile::TempDir,
    pub driver: Driver,
}

impl Store {
    pub fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// A store whose data root is the directory `root` of `base`.
    pub fn of(base: tempfile::TempDir) -> Self {
        let driver = open(&base.path().join("root"));
        Self { base, driver }
    }

    /// The driver again, as another process has it.
    pub fn again(&self) -> Driver {
        open(&self.base.path().join("root"))
    }

    /// A path in the home.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.driver.home().join(path)
    }

    pub fn create(&self, name: impl AsRef<str>, parent: &str) -> LayerId {
        let own = id(name);
        let parent = (!parent.is_empty()).then(|| id(parent));
        self.driver.create(&own, parent.as_ref(), &[]).unwrap();
        own
    }

    /// Does something in a layer while it is mounted.
    pub fn within<T>(&self, layer: &LayerId, act: impl FnOnce(&Path) -> T) -> T {
        let done = act(&self.driver.get(layer, None).unwrap());
        self.driver.put(layer).unwrap();
        done
    }

    pub fn remove(&self, layer: &LayerId) {
        self.driver.remove(layer, Removal::IfUnused).unwrap();
    }

    /// The file of a layer in `layers/`.
    pub fn layers_file(&self, layer: &LayerId) -> String {
        fs::read_to_string(self.at("layers").join(layer)).unwrap()
    }

    /// Names in one of the driver's directories.
    pub fn names(&self, dir: &str) -> Vec<String> {
        names(&self.at(dir))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.driver.cleanup() {
            eprintln!("mounts stay: {error:?}");
        }
    }
}

fn open(root: &Path) -> Driver {
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_aufs")));
    Driver::open(root, DriverOptions { program, ..DriverOptions::default() }).unwrap()
}

pub fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Whether a file system is mounted exactly there.
pub fn is_mounted(path: &Path) -> bool {
    aufs_mount::table::mount_at(path).unwrap().is_some()
}

/// The process that serves a mount.
pub fn server_of(path: &Path) -> i32 {
    let told = aufs_mount::ask::ask(path, aufs_mount::unmount::SERVER_XATTR).unwrap();
    std::str::from_utf8(&told).unwrap().parse().unwrap()
}

/// What a container changed, a line each.
pub fn shown(containers: &ContainerStore<'_>, name: &str) -> Vec<String> {
    containers.diff(name).unwrap().iter().map(ToString::to_string).collect()
}

pub fn kind_of<T: std::fmt::Debug>(outcome: Result<T, StorageError>) -> StorageErrorKind {
    *outcome.unwrap_err().kind
}
