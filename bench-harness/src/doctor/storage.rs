//! The backing: room, file system, and when the kernel writes dirty pages.

use std::path::Path;

use super::Finding;
use crate::environment::{meminfo_bytes, read_line};
use crate::error::{At as _, Result};
use crate::host::filesystem_of;
use crate::size::human_bytes;

/// Room below which the default matrix does not fit.
const ROOM_MIN: u64 = 4 << 30;

/// Free inodes below which matrices of many files do not fit.
const INODES_MIN: u64 = 500_000;

/// Checks of the file system that holds `backing`.
///
/// # Errors
///
/// `backing` does not exist, or mountinfo cannot be read.
pub fn findings(root: &Path, backing: &Path) -> Result<Vec<Finding>> {
    let stat = rustix::fs::statvfs(backing).at("stat file system of", backing)?;
    let (fs_type, options) = filesystem_of(backing)?;
    // File systems that make inodes as they go report none.
    let inodes = (0 < stat.f_files).then_some(stat.f_favail);
    let vm = |name: &str| {
        read_line(&root.join("proc/sys/vm").join(name)).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0)
    };
    let memory = meminfo_bytes(root, "MemAvailable").unwrap_or(0);
    Ok(vec![
        room(stat.f_bavail * stat.f_frsize, inodes),
        file_system(&fs_type, &options),
        dirty(vm("dirty_bytes"), vm("dirty_ratio"), memory),
    ])
}

fn room(free_bytes: u64, inodes: Option<u64>) -> Finding {
    let shown = inodes.map_or_else(|| "made as needed".to_owned(), |it| it.to_string());
    let found = format!("{} free, inodes {shown}", human_bytes(free_bytes as f64));
    let remedy = "make room, or give another --backing";
    if free_bytes < ROOM_MIN / 16 || inodes.is_some_and(|it| it < INODES_MIN / 100) {
        return Finding::red("room", found, remedy);
    }
    if free_bytes < ROOM_MIN || inodes.is_some_and(|it| it < INODES_MIN) {
        return Finding::warn("room", found, remedy);
    }
    Finding::ok("room", found)
}

fn file_system(fs_type: &str, options: &str) -> Finding {
    let found = format!("{fs_type} ({options})");
    let has = |word: &str| options.split(',').any(|it| it == word);
    let remedy = match fs_type {
        "overlay" | "fuse" | "fuseblk" | "aufs" => {
            "layers would lie in another union; give a --backing on ext4, XFS, Btrfs or tmpfs"
        }
        "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs" => {
            "the network or the host would be measured; give a --backing on a local disk"
        }
        _ if has("sync") || has("dirsync") => "every write waits for the disk; mount without sync",
        _ if has("nobarrier") || has("barrier=0") => {
            "fsync is cheaper here than on machines that keep data; mount with barriers"
        }
        _ => return Finding::ok("backing", found),
    };
    Finding::warn("backing", found, remedy)
}

fn dirty(bytes: u64, ratio: u64, memory: u64) -> Finding {
    let limit = if bytes == 0 { memory / 100 * ratio } else { bytes };
    let found = format!("writers are held back above {} of dirty pages", human_bytes(limit as f64));
    if 256 << 20 <= limit {
        return Finding::ok("dirty pages", found);
    }
    Finding::warn(
        "dirty pages",
        found,
        "raise vm.dirty_ratio: large copies would wait for the disk in mid-sample",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level::{Ok, Red, Warn};
    use super::*;

    #[test]
    fn levels_follow_what_is_found() {
        let gib = 1_u64 << 30;
        for (finding, level) in [
            (room(10 * gib, None), Ok),
            (room(10 * gib, Some(1_000_000)), Ok),
            (room(gib, None), Warn),
            (room(10 * gib, Some(10_000)), Warn),
            (room(1 << 20, None), Red),
            (room(10 * gib, Some(100)), Red),
            (file_system("ext4", "relatime,rw"), Ok),
            (file_system("ext4", "nobarrier,rw"), Warn),
            (file_system("xfs", "rw,sync"), Warn),
            (file_system("overlay", "rw"), Warn),
            (file_system("nfs4", "rw"), Warn),
            (dirty(0, 20, 8 * gib), Ok),
            (dirty(1 << 20, 20, 8 * gib), Warn),
        ] {
            assert_eq!(finding.level, level, "{finding:?}");
            assert_eq!(finding.remedy.is_some(), level != Ok, "{finding:?}");
        }
    }
}
