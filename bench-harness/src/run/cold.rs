//! Cold samples: what they need leaves the page cache first, and that it has left is verified.
//!
//! Data can be told to go file by file (`POSIX_FADV_DONTNEED`); names and attributes only go with all the
//! caches of the host, which is why that must be allowed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aufs_host::page_cache::resident_bytes;
use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::model::Chill;
use crate::pool::in_parallel;

/// How far the bench may go to make caches cold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cooling {
    /// The data of the sample's own files goes; names and attributes stay.
    #[default]
    #[serde(rename = "keep")]
    Files,
    /// The caches of the whole host go (`/proc/sys/vm/drop_caches`).
    #[serde(rename = "drop")]
    Host,
}

/// Where the kernel is told to drop its caches.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// The largest resident share of a file that still counts as cold, in thousandths.
const RESIDENT_MAX: u64 = 100;

impl Cooling {
    /// Why a model that needs `chill` cannot be measured cold on a file system of type `fs_type`, if so.
    pub fn refuses(self, chill: Chill, fs_type: &str) -> Option<&'static str> {
        match (chill, self) {
            (Chill::Nothing, _) => Some("the model has no cold form"),
            _ if matches!(fs_type, "tmpfs" | "ramfs") => {
                Some("all of it lies in memory, where nothing is cold")
            }
            (Chill::Names, Self::Files) => Some("names leave the caches only with --allow-drop-caches"),
            (Chill::Names, Self::Host) | (Chill::Data, _) => None,
        }
    }

    /// Makes `paths` cold, whose changes were written to disk before; with `Host` all else too.
    ///
    /// Returns the largest resident share of any of them, in thousandths, as it was then.
    ///
    /// # Errors
    ///
    /// - `NotCold`: a file stays resident.
    /// - `Refused`: the kernel does not say what is resident, or the caches of the host may not be dropped.
    pub fn chill(self, paths: &[PathBuf]) -> Result<u64> {
        paths.iter().try_for_each(|path| forget(path))?;
        if self == Self::Host {
            drop_host_caches()?;
        }
        let mut most = 0;
        for path in paths {
            let share = resident_permille(path)?;
            if RESIDENT_MAX < share {
                return Err(BenchError::new("make cold", path, BenchErrorKind::NotCold(share)));
            }
            most = share.max(most);
        }
        if self == Self::Host {
            // Opening the files to ask has brought their names back.
            drop_host_caches()?;
        }
        Ok(most)
    }
}

/// Why no cold cell can be verified here, if so.
pub fn cannot_verify() -> Option<&'static str> {
    let asked = File::open("/proc/self/exe").ok().map(resident_bytes);
    (asked == Some(Err(Errno::NOSYS)))
        .then_some("no cachestat(2), by which cold is verified; needs Linux 6.5")
}

/// Tells the kernel that the data of `path` is not needed.
///
/// # Errors
///
/// Any I/O error.
pub fn forget(path: &Path) -> Result<()> {
    let open = File::open(path).at("open", path)?;
    fadvise(&open, 0, None, Advice::DontNeed).at("advise on", path)
}

/// Share of `path` that the page cache holds, in thousandths; 0 of an empty file.
fn resident_permille(path: &Path) -> Result<u64> {
    let open = File::open(path).at("open", path)?;
    let resident = resident_bytes(&open).map_err(|errno| {
        let reason = BenchErrorKind::Refused(format!("cachestat: {errno}"));
        BenchError::new("verify that it is cold", path, reason)
    })?;
    let len_bytes = open.metadata().at("stat", path)?.len();
    let page_bytes = rustix::param::page_size() as u64;
    let whole = len_bytes.next_multiple_of(page_bytes).max(page_bytes);
    Ok((resident * 1000 / whole).min(1000))
}

/// Whether the caches of the host may be dropped by this process.
///
/// # Errors
///
/// `Refused`, with what is missing.
pub fn check_allowed() -> Result<()> {
    File::options().write(true).open(DROP_CACHES).map(drop).map_err(refused)
}

fn drop_host_caches() -> Result<()> {
    fs::write(DROP_CACHES, "3").map_err(refused)
}

fn refused(error: std::io::Error) -> BenchError {
    let reason = format!("{error}; only root of the host may drop its caches");
    BenchError::new("drop caches by", DROP_CACHES, BenchErrorKind::Refused(reason))
}

/// Reads all files below `dirs`, so that cells which expect them in the page cache find them there again.
///
/// # Errors
///
/// Any I/O error.
pub fn warm_again(dirs: &[PathBuf]) -> Result<()> {
    in_parallel(|| dirs.par_iter().try_for_each(|dir| warm_tree(dir)))?
}

fn warm_tree(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).at("read directory", dir)?;
    let entries = entries.collect::<std::io::Result<Vec<_>>>().at("read directory", dir)?;
    entries.par_iter().try_for_each(|entry| {
        let path = entry.path();
        let file_type = entry.file_type().at("stat", &path)?;
        if file_type.is_dir() {
            warm_tree(&path)
        } else if file_type.is_file() {
            let mut file = File::open(&path).at("open", &path)?;
            std::io::copy(&mut file, &mut std::io::sink()).map(drop).at("read", &path)
        } else {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_cannot_be_cold_says_why() {
        use Chill::{Data, Names, Nothing};
        use Cooling::{Files, Host};
        for (chill, cooling, fs_type, expected) in [
            (Data, Files, "ext4", None),
            (Data, Host, "xfs", None),
            (Names, Host, "ext4", None),
            (Names, Files, "ext4", Some("--allow-drop-caches")),
            (Data, Host, "tmpfs", Some("lies in memory")),
            (Nothing, Host, "ext4", Some("no cold form")),
        ] {
            let reason = cooling.refuses(chill, fs_type);
            let met = match (reason, expected) {
                (Some(reason), Some(part)) => reason.contains(part),
                (reason, expected) => reason.is_none() && expected.is_none(),
            };
            assert!(met, "{chill:?} {cooling:?} {fs_type}: {reason:?}");
        }
    }

    #[test]
    fn data_leaves_and_a_file_in_use_is_not_called_cold() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        if !matches!(crate::host::filesystem_of(dir.path()).unwrap().0.as_str(), "ext4" | "xfs" | "btrfs") {
            return println!("skipped: the file system may keep its pages");
        }
        // Dirty pages cannot leave: exactly what must not pass for cold.
        let error = Cooling::Files.chill(std::slice::from_ref(&path)).unwrap_err();
        assert!(matches!(error.kind, BenchErrorKind::NotCold(1000)), "{}", error.line());
        File::open(&path).unwrap().sync_all().unwrap();
        assert_eq!(Cooling::Files.chill(std::slice::from_ref(&path)).unwrap(), 0);
        warm_again(&[dir.path().to_owned()]).unwrap();
        assert_eq!(resident_permille(&path).unwrap(), 1000);
        File::open(&path).unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(Cooling::Files.chill(&[]).unwrap(), 0, "nothing to make cold");
    }
}
