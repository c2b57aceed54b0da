//! Who else measures on this machine.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::environment::read_line;
use crate::error::Result;
use crate::run::lock::Lock;

/// The lock of `backing`, and other benches anywhere.
///
/// # Errors
///
/// `backing` cannot be made.
pub fn findings(root: &Path, backing: &Path) -> Result<Vec<Finding>> {
    let lock = match Lock::take(backing) {
        Ok(_) => Finding::ok("lock", format!("{} is free", backing.display())),
        Err(error) if matches!(error.kind, crate::error::BenchErrorKind::Refused(_)) => Finding::red(
            "lock",
            format!("another bench measures in {}", backing.display()),
            "wait for it to end",
        ),
        Err(error) => return Err(error),
    };
    Ok(vec![lock, other_benches(&pids_of(root, "aufs-bench"))])
}

fn other_benches(pids: &[u32]) -> Finding {
    if pids.is_empty() {
        return Finding::ok("other benches", "none");
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let found = format!("aufs-bench runs as process {}", pids.join(", "));
    Finding::warn("other benches", found, "wait for it: both would measure each other")
}

/// Processes called `name`, this one left out.
fn pids_of(root: &Path, name: &str) -> Vec<u32> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let named = |pid: &u32| read_line(&root.join(format!("proc/{pid}/comm"))).is_some_and(|it| it == name);
    pids.filter(|it| *it != std::process::id()).filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_held_lock_is_red_and_a_bench_elsewhere_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/17")).unwrap();
        fs::write(dir.path().join("proc/17/comm"), "aufs-bench\n").unwrap();
        let backing = dir.path().join("scratch");
        let levels = |found: Vec<Finding>| found.iter().map(|it| it.level).collect::<Vec<_>>();
        assert_eq!(levels(findings(dir.path(), &backing).unwrap()), [Level::Ok, Level::Warn]);
        let lock = Lock::take(&backing).unwrap();
        assert_eq!(levels(findings(Path::new("/nowhere"), &backing).unwrap()), [Level::Red, Level::Ok]);
        drop(lock);
    }
}
