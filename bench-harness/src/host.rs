//! Facts about the machine and its kernel, as recorded with each run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use procfs::{Current as _, CurrentSI as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, module_parameters, read_line};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};

/// What was true of the host when the run started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Name shown in titles.
    pub label: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the first processor.
    pub cpu: String,
    /// Processors online.
    pub cpus: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Frequency governor of the first processor, where the kernel has one.
    pub governor: Option<String>,
    /// Where layers and branches lie.
    pub backings: Vec<BackingFacts>,
    /// Parameters of the overlay module; they are the defaults of the `default` option set.
    pub overlay_parameters: BTreeMap<String, String>,
    /// Versions of the installed drivers that are not part of the kernel, by their names.
    pub peers: BTreeMap<String, String>,
    /// Commit of the working directory, `-dirty` with changes.
    pub git_rev: Option<String>,
    /// When the run started, RFC 3339 in UTC.
    pub started_at: String,
    /// Median cost of reading the clock twice, in ns; part of each sample.
    pub clock_ns: u64,
    /// Time stolen by the hypervisor from boot to the start, in ms over all processors.
    pub steal_ms: u64,
    /// Whether the bench ran as root outside any user namespace of its own.
    pub root: bool,
    /// Seed of the order of the blocks.
    pub seed: u64,
    /// Name of the matrix.
    pub matrix: String,
    /// What else decides how fast and how steady the machine is.
    #[serde(default)]
    pub environment: Environment,
}

/// A file system that carries layers and branches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackingFacts {
    /// The name in the matrix: `dir`, `tmpfs`, `loop:xfs`.
    pub name: String,
    /// Type of the file system, as in mountinfo.
    pub fs_type: String,
    /// Its mount and superblock options.
    pub options: String,
    /// The directory that the bench writes to.
    pub path: PathBuf,
    /// Part of a hash of the file system's identity, for one that the run did not make itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_hash: Option<String>,
}

impl BackingFacts {
    /// `ext4`, or `loop:xfs` for an image: the word of tables and titles.
    pub fn label(&self) -> String {
        // `dir@2` is the directory on the second machine of a merged run.
        match self.name.split_once('@') {
            Some(("dir", host)) => format!("{}@{host}", self.fs_type),
            None if self.name == "dir" => self.fs_type.clone(),
            _ => self.name.clone(),
        }
    }
}

impl HostFacts {
    /// Reads the facts that do not depend on the run.
    ///
    /// # Errors
    ///
    /// `/proc` is not mounted, or cannot be read.
    pub fn read(seed: u64, matrix: &str) -> Result<Self> {
        let cpu = procfs::CpuInfo::current().map_err(proc_error)?;
        let memory = procfs::Meminfo::current().map_err(proc_error)?;
        let name = nix::sys::utsname::uname().at("read", "uname")?;
        let model = cpu.model_name(0).unwrap_or("unknown processor").to_owned();
        Ok(Self {
            label: name.nodename().to_string_lossy().into_owned(),
            kernel: name.release().to_string_lossy().into_owned(),
            cpu: model,
            cpus: cpu.num_cores(),
            memory_bytes: memory.mem_total,
            governor: read_line(Path::new("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            backings: Vec::new(),
            overlay_parameters: module_parameters(Path::new("/"), "overlay"),
            peers: crate::driver::versions(),
            git_rev: git_rev(),
            started_at: jiff::Timestamp::now().to_string(),
            clock_ns: clock_ns(),
            steal_ms: steal_ticks() * 1000 / ticks_per_second().max(1),
            root: nix::unistd::geteuid().is_root() && !crate::sandbox::in_user_namespace(),
            seed,
            matrix: matrix.to_owned(),
            environment: Environment::read(Path::new("/")),
        })
    }
}

fn proc_error(error: procfs::ProcError) -> BenchError {
    BenchError::new("read", "/proc", BenchErrorKind::Refused(error.to_string()))
}

/// Whether the running kernel offers the file system `name` now, or after loading its module.
///
/// # Errors
///
/// `/proc/filesystems` cannot be read.
pub fn kernel_offers(name: &str) -> Result<bool> {
    let path = "/proc/filesystems";
    if aufs_detect::lists_filesystem(&fs::read_to_string(path).at("read", path)?, name) {
        return Ok(true);
    }
    // Without root or without modprobe nothing is loaded, and the second look says so.
    if Command::new("modprobe").args(["-q", name]).output().is_err() {
        return Ok(false);
    }
    Ok(aufs_detect::lists_filesystem(&fs::read_to_string(path).at("read", path)?, name))
}

/// Type and options of the file system that holds `path`.
///
/// # Errors
///
/// `path` does not exist, or mountinfo cannot be read.
pub fn filesystem_of(path: &Path) -> Result<(String, String)> {
    let path = path.canonicalize().at("resolve", path)?;
    let own = procfs::process::Process::myself().map_err(proc_error)?;
    let mounts = own.mountinfo().map_err(proc_error)?;
    // The longest mount point wins; of equal ones the last, which covers the others.
    let best = mounts
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len());
    let best = best.ok_or_else(|| {
        BenchError::new("find mount of", &path, BenchErrorKind::Refused("no mount holds it".to_owned()))
    })?;
    let words = |options: std::collections::HashMap<String, Option<String>>| {
        let mut words: Vec<String> = options
            .into_iter()
            .map(|(key, value)| value.map_or(key.clone(), |value| format!("{key}={value}")))
            .collect();
        words.sort();
        words
    };
    let mut options = words(best.mount_options);
    options.extend(words(best.super_options).into_iter().filter(|it| it != "rw"));
    Ok((best.fs_type, options.join(",")))
}

/// Sixteen hex digits that tell file systems apart without telling their UUID; `None` where the kernel gives no identity.
pub fn filesystem_hash(dir: &Path) -> Option<String> {
    use sha2::{Digest as _, Sha256};
    let id = rustix::fs::statvfs(dir).ok()?.f_fsid;
    let digest = Sha256::digest(id.to_le_bytes());
    (id != 0).then(|| digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// The program `name` on PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The commit checked out in the working directory, with `-dirty` when files differ from it.
pub fn git_rev() -> Option<String> {
    let git = |args: &[&str]| Command::new("git").args(args).output().ok().filter(|it| it.status.success());
    let rev = git(&["rev-parse", "--short=10", "HEAD"])?;
    let rev = String::from_utf8_lossy(&rev.stdout).trim().to_owned();
    let dirty =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|it| !it.stdout.is_empty());
    Some(if dirty { format!("{rev}-dirty") } else { rev })
}

/// Median time between two readings of the clock, in ns.
fn clock_ns() -> u64 {
    let mut costs: Vec<u64> = (0..1001).map(|_| elapsed_ns(Instant::now())).collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// Time since `start`, in ns.
pub fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Time stolen by the hypervisor since boot over all processors, in clock ticks.
pub fn steal_ticks() -> u64 {
    procfs::KernelStats::current().ok().and_then(|stats| stats.total.steal).unwrap_or(0)
}

/// How often the kernel has taken the processor from this thread.
pub fn involuntary_switches() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |it| it.involuntary_context_switches().unsigned_abs())
}

/// What [`steal_ticks`] counts in, per second.
pub fn ticks_per_second() -> u64 {
    procfs::ticks_per_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_host_are_read() {
        let facts = HostFacts::read(1, "quick").unwrap();
        assert!(0 < facts.cpus && 0 < facts.memory_bytes && !facts.kernel.is_empty());
        assert_eq!(filesystem_of(Path::new("/proc")).unwrap().0, "proc");
    }
}
