//! Processors: stolen time, load, clocks, quotas.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::environment::{Environment, meminfo_bytes, read_line};
use crate::size::human_bytes;

/// Counters that are compared over a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Ticks of all processors in all states.
    all: u64,
    /// Ticks that the hypervisor gave to others.
    stolen: u64,
    /// Periods in which a control group was held back.
    throttled: u64,
}

impl Times {
    /// Reads them now.
    pub fn read(root: &Path) -> Self {
        let stat = read_line(&root.join("proc/stat")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest times are in user and nice already.
        let ticks: Vec<u64> =
            stat.split_whitespace().skip(1).take(8).filter_map(|it| it.parse().ok()).collect();
        Self {
            all: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or(0),
            throttled: throttled(root).unwrap_or(0),
        }
    }
}

/// Throttled periods of this process's control group, of either version.
fn throttled(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let stats = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let wanted = controllers.is_empty() || controllers.split(',').any(|it| it == "cpu");
        let stat = root.join("sys/fs/cgroup").join(controllers).join(path).join("cpu.stat");
        let text = wanted.then(|| fs::read_to_string(stat).ok()).flatten()?;
        text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok())
    });
    stats.max()
}

/// All but the clock; `before` and `after` stand around some busy time.
pub fn findings(root: &Path, environment: &Environment, before: &Times, after: &Times) -> Vec<Finding> {
    let load = read_line(&root.join("proc/loadavg")).unwrap_or_default();
    let load = load.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let governor = read_line(&root.join("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    let free = meminfo_bytes(root, "SwapFree").unwrap_or(0);
    vec![
        machine(environment),
        steal(before, after),
        load_of(load, cpus),
        frequency(governor.as_deref(), environment.turbo),
        threads(environment.smt),
        huge_pages(environment.huge_pages.as_deref()),
        swap(environment.swap_bytes, free),
        quota(environment.cpu_quota_permille, after.throttled.saturating_sub(before.throttled)),
    ]
}

fn machine(environment: &Environment) -> Finding {
    match &environment.virtualisation {
        None => Finding::ok("machine", "no hypervisor or container shows"),
        Some(kind) => Finding::ok("machine", format!("{kind}; absolute times hold for this guest only")),
    }
}

fn steal(before: &Times, after: &Times) -> Finding {
    let all = after.all.saturating_sub(before.all).max(1);
    let share = after.stolen.saturating_sub(before.stolen) as f64 * 100.0 / all as f64;
    let found = format!("{share:.1} % of {all} ticks stolen by the hypervisor");
    let remedy =
        "use a quieter host or dedicated processors; ratios and the gate still hold, absolute times do not";
    match share {
        little if little <= 2.0 => Finding::ok("steal", found),
        some if some <= 10.0 => Finding::warn("steal", found, remedy),
        _ => Finding::red("steal", found, remedy),
    }
}

fn load_of(load: f64, cpus: usize) -> Finding {
    let each = load / cpus as f64;
    let found = format!("{load:.2} on {cpus} processors");
    match each {
        low if low <= 0.5 => Finding::ok("load", found),
        _ => {
            Finding::warn("load", found, "end other work, or wait; medians of copy-ups that sync grow first")
        }
    }
}

fn frequency(governor: Option<&str>, turbo: Option<bool>) -> Finding {
    let found = format!(
        "governor {}, turbo {}",
        governor.unwrap_or("not shown"),
        match turbo {
            None => "not shown",
            Some(true) => "on",
            Some(false) => "off",
        }
    );
    let remedy = match (governor, turbo) {
        (Some("powersave" | "ondemand" | "conservative" | "schedutil"), _) => {
            "cpupower frequency-set -g performance: clocks that follow the load make short samples slower"
        }
        (_, Some(true)) => {
            "echo 0 > /sys/devices/system/cpu/cpufreq/boost: turbo ends when the machine is warm"
        }
        _ => return Finding::ok("frequency", found),
    };
    Finding::warn("frequency", found, remedy)
}

fn threads(smt: Option<bool>) -> Finding {
    match smt {
        Some(true) => Finding::warn(
            "SMT",
            "processors share cores",
            "echo off > /sys/devices/system/cpu/smt/control, where other work runs beside the bench",
        ),
        Some(false) => Finding::ok("SMT", "off"),
        None => Finding::ok("SMT", "not shown"),
    }
}

fn huge_pages(mode: Option<&str>) -> Finding {
    match mode {
        Some("always") => Finding::warn(
            "huge pages",
            "always",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: compaction stalls at random",
        ),
        mode => Finding::ok("huge pages", mode.unwrap_or("not shown")),
    }
}

fn swap(total: u64, free: u64) -> Finding {
    let used = total.saturating_sub(free);
    let found = format!("{} of {} used", human_bytes(used as f64), human_bytes(total as f64));
    if used == 0 {
        return Finding::ok("swap", found);
    }
    Finding::warn(
        "swap",
        found,
        "swapoff -a, or free memory: a page that was swapped out makes one sample long",
    )
}

fn quota(permille: Option<u64>, throttled: u64) -> Finding {
    let found = match permille {
        None => "none".to_owned(),
        Some(permille) => {
            format!("{} processors, throttled {throttled} times just now", permille as f64 / 1e3)
        }
    };
    if permille.is_none() && throttled == 0 {
        return Finding::ok("CPU quota", found);
    }
    let remedy = "run without a CPU limit: a throttled thread waits for the rest of its period";
    if 0 < throttled {
        Finding::red("CPU quota", found, remedy)
    } else {
        Finding::warn("CPU quota", found, remedy)
    }
}

/// The clock source, and what two readings cost.
pub fn clock(environment: &Environment, null_ns: f64) -> Finding {
    let source = environment.clock_source.as_deref().unwrap_or("not shown");
    let found = format!("{source}, {null_ns:.0} ns between two readings");
    match environment.clock_warning() {
        Some(warning) => Finding::warn("clock", found, warning),
        None if 1000.0 < null_ns => {
            Finding::warn("clock", found, "readings this slow are system calls; look for a clock with a vDSO")
        }
        None => Finding::ok("clock", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Ok, Red, Warn};
    use super::*;

    #[test]
    fn levels_follow_what_is_found() {
        let times = |all, stolen| Times { all, stolen, throttled: 0 };
        let stolen = |part: u64| steal(&times(1000, 50), &times(2000, 50 + part));
        let cases: [(Finding, Level); 17] = [
            (stolen(0), Ok),
            (stolen(20), Ok),
            (stolen(21), Warn),
            (stolen(101), Red),
            (load_of(1.0, 2), Ok),
            (load_of(1.1, 2), Warn),
            (frequency(None, None), Ok),
            (frequency(Some("performance"), Some(false)), Ok),
            (frequency(Some("performance"), Some(true)), Warn),
            (frequency(Some("powersave"), None), Warn),
            (huge_pages(Some("always")), Warn),
            (huge_pages(Some("madvise")), Ok),
            (swap(100, 100), Ok),
            (swap(100, 99), Warn),
            (quota(None, 0), Ok),
            (quota(Some(1500), 0), Warn),
            (quota(Some(1500), 1), Red),
        ];
        for (finding, level) in cases {
            assert_eq!(finding.level, level, "{finding:?}");
            assert_eq!(
                finding.remedy.is_some(),
                level != Ok,
                "whoever is warned is told what to do: {finding:?}"
            );
        }
    }

    #[test]
    fn an_unsteady_clock_is_a_warning() {
        let with =
            |source: &str| Environment { clock_source: Some(source.to_owned()), ..Environment::default() };
        assert_eq!(clock(&with("tsc"), 30.0).level, Ok);
        assert_eq!(clock(&with("hpet"), 30.0).level, Warn);
        assert_eq!(clock(&with("tsc"), 1500.0).level, Warn);
    }

    #[test]
    fn counters_are_read() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 0\n");
        put("proc/self/cgroup", "0::/a\n");
        put("sys/fs/cgroup/a/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 4\n");
        assert_eq!(Times::read(root.path()), Times { all: 36, stolen: 8, throttled: 4 });
        assert_eq!(Times::read(Path::new("/nowhere")), Times::default());
    }
}
