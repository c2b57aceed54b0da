//! What of a machine decides how fast and how steady it is; read only, from `/proc` and `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Clock sources that a program reads without a system call and that do not jump.
const STEADY_CLOCKS: &[&str] =
    &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "tod"];

/// Words of the kernel's command line that change timing; the rest may hold secrets and is not kept.
const TIMING_ARGUMENTS: &[&str] = &[
    "clocksource",
    "idle",
    "init_on_alloc",
    "init_on_free",
    "intel_idle.max_cstate",
    "intel_pstate",
    "isolcpus",
    "mitigations",
    "nohz",
    "nohz_full",
    "nosmt",
    "preempt",
    "processor.max_cstate",
    "rcu_nocbs",
    "threadirqs",
    "transparent_hugepage",
    "tsc",
];

/// What was true of the machine when the run started. Runs of version 1 knew none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Environment {
    /// Build of the kernel, as `uname -v` says it.
    pub kernel_version: String,
    /// Arguments of the kernel that change timing.
    pub kernel_arguments: Vec<String>,
    /// Parameters of the fuse module.
    pub fuse_parameters: BTreeMap<String, String>,
    /// Revision of the first processor's microcode.
    pub microcode: Option<String>,
    /// Whether processors share cores.
    pub smt: Option<bool>,
    /// Whether processors may run above their base clock.
    pub turbo: Option<bool>,
    /// The mode of transparent huge pages.
    pub huge_pages: Option<String>,
    /// Where the kernel's clock comes from.
    pub clock_source: Option<String>,
    /// The hypervisor or container that the bench ran in, if one shows.
    pub virtualisation: Option<String>,
    /// Swap, in bytes.
    pub swap_bytes: u64,
    /// Processor time that a control group allows, in thousandths of a processor.
    pub cpu_quota_permille: Option<u64>,
    /// The compiler that built the bench.
    pub rustc: String,
    /// Whether the bench was built for speed; else its own work is in every sample.
    pub optimised: bool,
}

impl Environment {
    /// Reads it from the `/proc` and `/sys` below `root`, which is `/` but in tests.
    pub fn read(root: &Path) -> Self {
        let line = |path: &str| read_line(&root.join(path));
        Self {
            kernel_version: line("proc/sys/kernel/version").unwrap_or_default(),
            kernel_arguments: timing_arguments(&line("proc/cmdline").unwrap_or_default()),
            fuse_parameters: module_parameters(root, "fuse"),
            microcode: cpuinfo(root, "microcode"),
            smt: line("sys/devices/system/cpu/smt/active").map(|it| it == "1"),
            turbo: turbo(root),
            huge_pages: line("sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen),
            clock_source: line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            virtualisation: virtualisation(root),
            swap_bytes: meminfo_bytes(root, "SwapTotal").unwrap_or(0),
            cpu_quota_permille: cpu_quota_permille(root),
            rustc: env!("BUILT_BY").to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// What is wrong with the clock, if anything is.
    pub fn clock_warning(&self) -> Option<String> {
        let source = self.clock_source.as_deref().filter(|it| !STEADY_CLOCKS.contains(it))?;
        Some(format!(
            "the clock source {source} is slow or unstable; short samples are too long and may jump; \
             see /sys/devices/system/clocksource and the kernel log for why it is not tsc or kvm-clock"
        ))
    }
}

/// The first line of a file.
pub fn read_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim_end().to_owned())
}

/// The value of `key` in the first processor's part of `/proc/cpuinfo`.
fn cpuinfo(root: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let pairs = text.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|it| it.0 == key).map(|it| it.1.to_owned())
}

/// An amount of `/proc/meminfo`, in bytes.
pub fn meminfo_bytes(root: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let value = text.lines().filter_map(|line| line.split_once(':')).find(|it| it.0 == key)?.1;
    value.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Parameters of a module that everybody may read.
pub fn module_parameters(root: &Path, module: &str) -> BTreeMap<String, String> {
    let dir = root.join("sys/module").join(module).join("parameters");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        Some((entry.file_name().to_string_lossy().into_owned(), read_line(&entry.path())?))
    });
    named.collect()
}

/// The words of a kernel command line that are in [`TIMING_ARGUMENTS`].
fn timing_arguments(cmdline: &str) -> Vec<String> {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let timing = |word: &&str| TIMING_ARGUMENTS.contains(&name(word).as_str());
    cmdline.split_whitespace().filter(timing).map(str::to_owned).collect()
}

/// The word in brackets: `madvise` of `always [madvise] never`.
fn chosen(choices: &str) -> Option<String> {
    Some(choices.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn turbo(root: &Path) -> Option<bool> {
    let cpu = root.join("sys/devices/system/cpu");
    let off = read_line(&cpu.join("intel_pstate/no_turbo")).map(|it| it == "0");
    off.or_else(|| read_line(&cpu.join("cpufreq/boost")).map(|it| it == "1"))
}

/// `virtual machine (KVM)`, `container (docker)`, or both.
fn virtualisation(root: &Path) -> Option<String> {
    let flagged = cpuinfo(root, "flags").is_some_and(|it| it.split(' ').any(|flag| flag == "hypervisor"));
    let xen = read_line(&root.join("sys/hypervisor/type"));
    let dmi = |name: &str| read_line(&root.join("sys/class/dmi/id").join(name)).filter(|it| !it.is_empty());
    let product: Vec<String> = ["sys_vendor", "product_name"].into_iter().filter_map(dmi).collect();
    let machine = (flagged || xen.is_some()).then(|| {
        let name = xen.unwrap_or_else(|| product.join(" "));
        if name.is_empty() { "virtual machine".to_owned() } else { format!("virtual machine ({name})") }
    });
    let marks = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
    let named = read_line(&root.join("run/systemd/container"));
    let marked = marks.iter().find(|it| root.join(it.0).exists()).map(|it| it.1.to_owned());
    let container = named.or(marked).map(|it| format!("container ({it})"));
    let both: Vec<String> = [machine, container].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

/// The smallest quota of this process's control groups, of either version.
fn cpu_quota_permille(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let quotas = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let of_cpu = controllers.split(',').any(|it| it == "cpu");
        let base = root.join("sys/fs/cgroup").join(if of_cpu { controllers } else { "" });
        let wanted = of_cpu || controllers.is_empty();
        let path = Path::new(path.trim_start_matches('/'));
        let quotas = path.ancestors().filter_map(|it| quota_of(&base.join(it))).collect::<Vec<_>>();
        if wanted { quotas } else { Vec::new() }
    });
    quotas.min()
}

fn quota_of(group: &Path) -> Option<u64> {
    let new = read_line(&group.join("cpu.max"));
    let (quota, period) = match &new {
        Some(line) => line.split_once(' ').map(|it| (it.0.to_owned(), it.1.to_owned()))?,
        None => (read_line(&group.join("cpu.cfs_quota_us"))?, read_line(&group.join("cpu.cfs_period_us"))?),
    };
    // `max` and -1 are no quota.
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.saturating_mul(1000).checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with `files`.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn everything_is_read_where_it_is() {
        let root = root(&[
            ("proc/sys/kernel/version", "#1 SMP\n"),
            ("proc/cmdline", "root=/dev/vda password=x mitigations=off nosmt quiet\n"),
            ("sys/module/fuse/parameters/max_user_bgreq", "100\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmicrocode\t: 0x1f\nflags\t\t: fpu hypervisor\n\nmicrocode\t: 0x2\n",
            ),
            ("proc/meminfo", "MemTotal: 100 kB\nSwapTotal:       8 kB\n"),
            ("sys/devices/system/cpu/smt/active", "1\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("run/systemd/container", "lxc\n"),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ]);
        let read = Environment::read(root.path());
        assert_eq!(read.kernel_version, "#1 SMP");
        assert_eq!(read.kernel_arguments, ["mitigations=off", "nosmt"], "no secrets");
        assert_eq!(read.fuse_parameters["max_user_bgreq"], "100");
        assert_eq!((read.microcode.as_deref(), read.swap_bytes), (Some("0x1f"), 8192));
        assert_eq!(
            (read.smt, read.turbo, read.huge_pages.as_deref()),
            (Some(true), Some(false), Some("madvise"))
        );
        assert_eq!(read.virtualisation.as_deref(), Some("virtual machine (QEMU), container (lxc)"));
        assert_eq!(read.cpu_quota_permille, Some(1500));
        assert!(read.clock_warning().unwrap().contains("clock source hpet"), "{read:?}");
        assert!(read.rustc.starts_with("rustc 1."), "{}", read.rustc);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_error() {
        let read = Environment::read(root(&[]).path());
        let Environment { rustc, optimised, .. } = read.clone();
        assert_eq!(read, Environment { rustc, optimised, ..Environment::default() });
        assert_eq!(read.clock_warning(), None);
    }

    #[test]
    fn quotas_of_the_first_version_and_steady_clocks() {
        let root = root(&[
            ("proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/y\n0::/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
            ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
        ]);
        let read = Environment::read(root.path());
        assert_eq!((read.cpu_quota_permille, read.turbo), (Some(500), Some(true)));
        assert_eq!(read.clock_warning(), None);
    }
}
